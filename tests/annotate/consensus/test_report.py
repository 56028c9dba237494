import json
import re
from pathlib import Path

import pytest

from annotate.agreement import agreement
from annotate.consensus.report import links_to, write_agreement
from annotate.consensus.rules import consensus
from pipelines.cli import run
from pride_mm.records import Annotation, Draft, write_records
from pride_mm.schema import Schema, Value

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def said(item: str, annotator: str, origin: str = "expert", **values: Value) -> Annotation:
    bare = Annotation.model_validate({"item": item, "annotator": annotator, "origin": origin, "values": {}})
    return bare.model_copy(update={"values": values})


@pytest.fixture(scope="module")
def given() -> list[Annotation]:
    """Eight items by two, who disagree most on x3; markup wherever a person may write."""
    draft = Draft(model="m", how="accepted", change=0.0)
    rows = []
    for n in range(8):
        rows.append(said(f"x{n}", SCRIPT, cause="é", note=f"{SCRIPT} first {n}", warmth=n % 3 - 1, mood=("up", "down")))
        other = (
            {"cause": "$loss", "warmth": 2, "mood": ("down", "up")} if n == 3 else {"cause": "é", "warmth": n % 3 - 1}
        )
        rows.append(said(f"x{n}", "b", note=f"second {n}", **other))
    rows.append(said("x3", "c", note="as drafted").model_copy(update={"drafts": {"note": draft}}))
    return rows


def page_of(schema: Schema, given: list[Annotation], path: Path) -> str:
    links = links_to("http://127.0.0.1:8080/", [("x3", 4, 17), ("x3", 9, 2)])
    write_agreement(path, schema, agreement(schema, given), consensus(schema, given), given, links)
    return path.read_text()


def test_the_report_is_for_experts_and_shows_text_as_text(
    every_kind: Schema, given: list[Annotation], tmp_path: Path
) -> None:
    page = page_of(every_kind, given, tmp_path / "agreement.html")
    assert "<b>For the experts.</b>" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    before, *folded = page.split("<details>")
    assert "second 3" not in before, "privileged text is folded away"
    (worst,) = folded
    assert "second 3" in worst
    assert "first 3" in worst
    assert "c (a model's draft, as it was)" in worst
    assert "left open: " in worst
    assert "second 0" not in page, "where all agree nobody's words are shown"
    assert 'href="http://127.0.0.1:8080/projects/4/data?task=17"' in page
    assert 'href="http://127.0.0.1:8080/projects/9/data?task=2"' in page
    assert page_of(every_kind, given[::-1], tmp_path / "again.html") == page


def test_the_report_is_whole_and_never_says_nan(every_kind: Schema, given: list[Annotation], tmp_path: Path) -> None:
    page = page_of(every_kind, given, tmp_path / "agreement.html")
    assert "<svg" in page
    assert not re.search(r">\s*(nan|None)\b", page)
    assert not re.findall(r"(?:src|href)=[\"']https?://(?!127\.0\.0\.1)", page), "it opens offline"
    alone = page_of(every_kind, given[:1], tmp_path / "alone.html")
    assert "nobody else annotated the same items" in alone
    assert "<svg" not in alone


def test_the_command_prints_eighty_columns(
    pride: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    given = [
        said(f"i{n}", who, emotion=("sad", "calm")[(n + (n == k)) % 2], expression=n % 3, turn_emotion=("sad",),
             situation=f"told {n} by {who}", cognitive_reaction=1)
        for n in range(9) for k, who in enumerate(("ana", "ben"))
    ]  # fmt: skip
    write_records(tmp_path / "annotations.jsonl", [*given, said("i0", "m", "model", emotion="sad")])
    cursor = {"tasks": {"7": {"70": ["i0", "state"], "71": ["i1", "state"]}}}
    Path("annotations.jsonl.cursor").write_text(json.dumps(cursor))
    assert run(["label", "agree", "annotations.jsonl", "--url", "http://here:1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert printed[0] == "1 annotations by models are left out: only people agree"
    assert "Expression of experience    1.000  1.00 to 1.00  alpha, ordinal           9 of 9" in printed
    assert "  everybody said the same everywhere, so chance agreement is undefined" in printed
    assert printed[-2:] == [
        "9 items -> privileged.jsonl; 2 fields of 2 items are left open",
        "the report is agreement.html",
    ]
    page = Path("agreement.html").read_text()
    assert 'href="http://here:1/projects/7/data?task=70"' in page
    write_records(
        tmp_path / "adjudicated.jsonl", [said("i0", "judge", emotion="sad"), said("i1", "judge", emotion="sad")]
    )
    again = ["label", "agree", "annotations.jsonl", "adjudicated.jsonl", "--adjudicator", "judge"]
    assert run(again) == 0
    assert "9 items -> privileged.jsonl\n" in capsys.readouterr().out
    notes = [json.loads(line) for line in Path("privileged.jsonl").read_text().splitlines()]
    assert [note["how"]["emotion"] for note in notes[:3]] == ["adjudicated: judge"] * 2 + ["majority 2/2"]
    assert run(["label", "agree", "annotations.jsonl", "--by", "luck"]) == 2
    assert "take one of: majority, reliability" in capsys.readouterr().err


def test_a_later_file_goes_first_where_one_annotator_speaks_in_both(
    pride: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(Path("one.jsonl"), [said("i", "a", emotion="sad", expression=1)])
    write_records(Path("two.jsonl"), [said("i", "a", emotion="calm")])
    assert run(["label", "agree", "one.jsonl", "two.jsonl"]) == 0
    (line,) = Path("privileged.jsonl").read_text().splitlines()
    assert json.loads(line)["targets"]["emotion"] == "calm"
    assert json.loads(line)["privileged"]["expression"] == 1
