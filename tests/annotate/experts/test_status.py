import uuid
from collections import Counter
from pathlib import Path

import pytest

from annotate.exchange.project import Project
from annotate.experts.accounts import Expert, add_experts
from annotate.experts.assignment import share, share_blind
from annotate.experts.status import ExpertStatus, FieldStatus, Status, status
from annotate.experts.status_page import table, write_status
from annotate.studio import Studio
from pride_mm.errors import UserError
from pride_mm.records import Annotation, Item
from pride_mm.schema import Schema, Turn

KEY = b"k" * 32
SAID = "confidential <b>words</b>"


def test_speed_is_the_median_and_quartiles_of_the_time_on_the_page() -> None:
    expert = ExpertStatus("expert-1", assigned={"a", "b", "c", "d"}, done={"a", "x"}, skipped={"b"})
    assert (expert.open, expert.quartiles, expert.an_hour) == (2, None, None)
    expert.leads = [60.0, 120.0, 180.0, 240.0, 3000.0]
    assert expert.quartiles == (120.0, 180.0, 240.0)
    assert expert.an_hour == pytest.approx(4 / (600 / 3600)), "a page left open for 50 minutes is no work"
    assert ExpertStatus("e").open is None


def made_up(schema: Schema) -> Status:
    """A status as a running project has it: long names, many experts, an expert whose page was left open."""
    fields = [FieldStatus(f, 40, Counter({1: 12, 2: 9 + n}), Counter(accepted=4, edited=9 + n, written=3))
              for n, f in enumerate((*schema.privileged, *schema.targets))]  # fmt: skip
    experts = [
        ExpertStatus(f"expert-{n}a2b3c4", name, {f"i-{k}" for k in range(20)},
                     {f"i-{k}" for k in range(3 * n, 15)}, {"i-19"},
                     [150.0 + 40 * n + 17 * k for k in range(14)] + [36_000.0],
                     Counter({f"2026-11-{day:02}": (day * (n + 3)) % 7 for day in range(9, 23)}))
        for n, name in enumerate(("ana", "ben", "maria-magdalena"))
    ]  # fmt: skip
    return Status("PRIDE pride v1", 40, Counter({0: 10, 1: 18, 2: 12}), fields, experts, Counter(corpus=40, model=80))


def test_the_table_fits_a_terminal(pride: Schema) -> None:
    lines = table(made_up(pride))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "PRIDE pride v1: 40 items, 30 annotated by experts, 12 by two or more"
    assert lines[1] == "besides: 40 by corpora, 80 by models"
    assert "ana expert-0a2b3c4" in "\n".join(lines)
    empty = table(Status("T", 0, Counter(), [FieldStatus(f) for f in pride.privileged], [], Counter()))
    assert empty[-1] == "no expert has annotated yet"


def test_the_page_is_the_same_for_the_same_status_and_names_no_account(pride: Schema, tmp_path: Path) -> None:
    write_status(tmp_path / "a.html", made_up(pride))
    write_status(tmp_path / "b.html", made_up(pride))
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert page.count("<svg") == 4
    assert "expert-0a2b3c4" in page
    assert "maria-magdalena" not in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    write_status(tmp_path / "empty.html", Status("T", 0, Counter(), [], [], Counter()))
    assert "No expert has annotated yet" in (tmp_path / "empty.html").read_text()


@pytest.mark.browser
def test_the_page_fits_wide_and_narrow_windows(pride: Schema, tmp_path: Path, browser: object) -> None:
    write_status(tmp_path / "status.html", made_up(pride))
    for width in (1000, 480):
        page = browser.new_page(viewport={"width": width, "height": 900})  # type: ignore[attr-defined]
        page.goto((tmp_path / "status.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("Math.min(...[...document.querySelectorAll('svg')].map(s => s.clientWidth))") > 0.7 * (
            min(width, 560) - 40
        )
        page.close()


@pytest.fixture
def words() -> list[Item]:
    talk = (Turn(speaker="a", text="b"),)
    return [
        Item(id=f"i-{n}", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"talk": talk}})
        for n in range(4)
    ]


@pytest.mark.label_studio
def test_the_status_of_a_real_project(studio: Studio, every_kind: Schema, words: list[Item], tmp_path: Path) -> None:
    tag = uuid.uuid4().hex[:6]
    (ana, ben), _ = add_experts(studio, [f"a{tag}", f"b{tag}"], tmp_path)
    title = f"T {tag}"
    loaded = Annotation.model_validate({"item": "i-0", "annotator": "c", "origin": "corpus", "values": {}})
    project = Project(studio, every_kind, title)
    with pytest.raises(UserError, match=f"No project '{title}'"):
        status(project, KEY)
    project.push(words, annotations=[loaded.model_copy(update={"values": {"warmth": 1}})])
    dealt = {"i-0": (ana.name, ben.name), "i-1": (ana.name,), "i-2": (ana.name,)}
    share(project, dealt, [ana, ben])
    share_blind(studio, every_kind, title, {"i-3": (ben.name,)}, words)
    tasks = {task.item: task for task in project.tasks()}
    text = {"id": "x", "from_name": "note", "to_name": "talk", "type": "textarea", "value": {"text": [SAID]}}

    def submit(item: str, by: Expert, lead: float, **more: object) -> None:
        studio.client.annotations.create(
            id=tasks[item].number, result=[text], completed_by=by.number, lead_time=lead, **more
        )

    submit("i-0", ana, 60.0)
    submit("i-0", ben, 120.0)
    submit("i-1", ana, 180.0)
    submit("i-2", ana, 5.0, was_cancelled=True)
    seen = status(project, KEY)
    assert (seen.items, seen.by_count, seen.loaded) == (4, Counter({0: 2, 1: 1, 2: 1}), Counter(corpus=1))
    rows = {row.control.name: row for row in seen.fields}
    assert (rows["note"].items, rows["note"].one, rows["note"].two) == (4, 2, 1)
    assert (rows["moment"].items, rows["warmth"].one) == (0, 0), "text only: nothing to mark on; a corpus is no expert"
    work = {expert.name: expert for expert in seen.experts}
    assert (work[ana.name].open, work[ben.name].open) == (0, 1)
    assert (len(work[ana.name].done), len(work[ana.name].skipped), work[ana.name].an_hour) == (2, 1, 30.0)
    write_status(tmp_path / "status.html", seen)
    page = (tmp_path / "status.html").read_text()
    for secret in ("confidential", ana.name, ben.email):
        assert secret not in page
    assert "confidential" not in "\n".join(table(seen))
