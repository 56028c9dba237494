"""A study on a real Label Studio, from the shards to the report."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from annotate.exchange.listing import read_tasks
from annotate.experts.accounts import Expert, add_experts
from annotate.server.local import LocalServer
from annotate.studio import Studio
from annotate.study.page import DIALOGUE, PAIR
from annotate.study.plan import Plan, Shown, make_plan, read_plan
from annotate.study.project import Study
from annotate.study.results import findings, table
from pipelines.cli import run
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.preference import ASPECTS
from pride_mm.files import write_json, write_jsonl
from pride_mm.schema import load_schema
from tests.annotate.study.test_plan import NAMES, pairs

pytestmark = pytest.mark.label_studio
KEY = b"k" * 32
NOTE = "an expert noted the tribunal"
COUNT, ALIKE = 12, 2


@pytest.fixture(scope="module")
def experts(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> list[Expert]:
    tag = uuid.uuid4().hex[:6]
    made, _ = add_experts(studio, [f"r{tag}", f"s{tag}"], tmp_path_factory.mktemp("experts"))
    return made


def tasks(studio: Studio, title: str) -> list[dict[str, Any]]:
    (number,) = [one.id for one in studio.client.projects.list(page_size=100) if one.title == title]
    return list(read_tasks(studio, number, ("id", "data", "annotations")))


def judge(studio: Studio, task: int, by: Expert, sides: dict[str, str], **more: Any) -> None:
    result = [
        {"id": name, "from_name": name, "to_name": DIALOGUE, "type": "choices", "value": {"choices": [side]}}
        for name, side in sides.items()
    ]
    studio.client.annotations.create(id=task, result=result, completed_by=by.number, **more)


def entered(number: int, aspect: str, rater: int) -> int:
    """What raters say of the pair of this number: the first wins 6 of 10 in empathy, the raters differ in fluency."""
    if aspect == "empathy":
        return 1 if number < 6 else -1 if number < 8 else 0
    return (1, -1)[rater] if aspect == "fluency" else -1


def side(shown: Shown, verdict: int) -> str:
    return "tie" if verdict == 0 else shown.first if verdict == 1 else "AB".replace(shown.first, "")


def packed(work: Path) -> tuple[Path, Path]:
    """Shards and scores of ``pairs``, with notes in the shards."""
    from pipelines.pack import pack

    given = pairs(COUNT, ALIKE)
    items = [
        {
            "id": pair.key, "corpus": "made", "group": pair.group, "split": "test", "targets": {"response": "Oh."},
            "inputs": {"dialogue": [turn.model_dump(exclude_none=True) for turn in pair.turns]},
        }
        for pair in given
    ]  # fmt: skip
    write_jsonl(work / "items.jsonl", items)
    write_jsonl(work / "notes.jsonl", [{"item": pair.key, "privileged": {"situation": NOTE}} for pair in given])
    pack([work / "items.jsonl"], load_schema("pride"), work / "shards", [work / "notes.jsonl"], workers=1)
    runs = [{"name": name, "answers": {p.key: p.answers[n] for p in given}} for n, name in enumerate(NAMES)]
    write_json(work / "scores.json", {"format": 1, "split": "test", "runs": runs})
    return work / "shards", work / "scores.json"


def test_what_raters_enter_is_what_is_found(
    studio: Studio, server: LocalServer, experts: list[Expert], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shards, scores = packed(tmp_path)
    title, key, out = f"Study {uuid.uuid4().hex[:6]}", tmp_path / "study.key", tmp_path / "study"
    push = ["eval", "study", "push", str(scores), *NAMES, "--shards", str(shards), "--key", str(key)]
    push += ["--project", title, "--data-dir", str(server.data_dir)]
    assert run(push) == 0
    assert "10 pairs added, 0 were there; 2 are alike" in capfd.readouterr().out
    there = tasks(studio, title)
    text = json.dumps([task["data"] for task in there])
    assert len(there) == COUNT - ALIKE
    assert not [word for word in (*NAMES, "human", NOTE, "tribunal") if word in text]
    assert run(push) == 0
    assert "0 pairs added, 10 were there" in capfd.readouterr().out
    assert len(tasks(studio, title)) == len(there), "nothing is there twice"

    plan = read_plan(key)
    numbers = {shown.name: n for n, shown in enumerate(plan.shown)}
    for task in there:
        shown = plan.shown[numbers[task["data"][PAIR]]]
        assert task["data"][shown.first].startswith("Yes"), "what zebra says"
        for rater, expert in enumerate(experts):
            said = {name: side(shown, entered(numbers[shown.name], name, rater)) for name in ASPECTS}
            judge(studio, task["id"], expert, said, lead_time=30.0)
    assert run(["eval", "study", "pull", "--key", str(key), "--out", str(out), "--data-dir", str(server.data_dir)]) == 0
    shown_, complained = capfd.readouterr()
    assert not complained
    assert max(map(len, shown_.replace(str(tmp_path), "").splitlines())) <= 80
    found = json.loads((out / "study.json").read_text())
    empathy, fluency, overall = (found["aspects"][name] for name in ("empathy", "fluency", "overall"))
    shares = {part: empathy["preference"][part]["value"] for part in ("win", "tie", "loss")}
    assert shares == {part: pytest.approx(n / 12, abs=1e-5) for part, n in (("win", 6), ("tie", 4), ("loss", 2))}
    around = empathy["preference"]["win"]["interval"]
    assert around["low"] <= 0.5 <= around["high"]
    assert around["groups"] == 6, "dialogues are drawn, not pairs"
    assert empathy["agreement"][0]["value"] == 1
    assert fluency["preference"]["rate"]["value"] == 0.5
    assert fluency["agreement"][0]["value"] == pytest.approx(-0.9), "they never agree"
    assert overall["preference"]["loss"]["value"] == pytest.approx(10 / 12, abs=1e-5)
    assert overall["side_a"] == 10, "sides are balanced: each rater named side A five times"
    assert (found["judged"], found["judged_twice"], found["median_seconds"]) == (10, 10, 30)
    assert {one["overall"] for one in found["judgements"]} == {"quagga"}
    page = (out / "study.html").read_text()
    for secret in (experts[0].email, experts[0].name, NOTE, "I lost my"):
        assert secret not in page + json.dumps(found)


def test_an_interrupted_push_is_completed_and_strange_words_are_named(studio: Studio, experts: list[Expert]) -> None:
    plan = make_plan(pairs(6), f"Study {uuid.uuid4().hex[:6]}", NAMES, 6, 0, 2)
    Study(studio, Plan.model_validate({**plan.model_dump(), "shown": plan.shown[:2]})).push(pairs(6))
    study = Study(studio, plan)
    assert study.push(pairs(6))[:2] == (4, 2)
    there = {task["data"][PAIR]: task["id"] for task in tasks(studio, plan.title)}
    first, second, third, fourth = (there[one.name] for one in plan.shown[:4])
    judge(studio, first, experts[0], {"empathy": "A", "overall": "A"})
    judge(studio, first, experts[0], {"empathy": "A", "overall": "B"})
    judge(studio, second, experts[0], {"empathy": "C", "overall": "tie"})
    judge(studio, third, experts[0], {}, was_cancelled=True)
    judge(studio, fourth, experts[0], {})
    bad = BadSamples()
    pulled = study.pull(KEY, bad)
    assert (len(pulled.judgements), pulled.skipped) == (2, 1)
    said = {one.shown.name: dict(one.said) for one in pulled.judgements}
    assert said[plan.shown[0].name] == {"empathy": "A", "overall": "B"}, "the later word counts"
    assert said[plan.shown[1].name] == {"overall": "tie"}
    (error,) = bad
    assert str(error).startswith(f"task {second}, rater expert-")
    assert str(error).endswith("empathy: not one of A, B, tie, once; was the page edited?")
    found = findings(plan, pulled)
    assert (found.judged, found.twice, found.skipped) == (2, 0, 1)
    assert any("not known: nobody else annotated" in line for line in table(found))
    other = make_plan(pairs(6), plan.title, NAMES, 6, 0, 2)
    with pytest.raises(UserError, match="holds 6 tasks of another study"):
        Study(studio, other).push(pairs(6))
    with pytest.raises(UserError, match="'pride eval study push' makes it"):
        Study(studio, make_plan(pairs(6), "Nowhere", NAMES, 6, 0, 2)).pull(KEY, BadSamples())
