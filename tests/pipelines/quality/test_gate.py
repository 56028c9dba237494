"""The gate on real clips: the good ones pass, every planted defect is found, and a stopped run goes on."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.quality.gate import Gated, gate
from pipelines.quality.measured import JOURNAL
from pipelines.quality.settings import QualitySettings
from pipelines.workers import processes
from pride_mm.errors import UserError
from pride_mm.schema import load_schema

SCHEMA = load_schema("pride")
Write = Callable[[Path, list[dict[str, Any]]], Path]
Judge = Callable[..., Gated]


class Nobody:
    """Workers that must not be asked."""

    def run(self, function: Any, tasks: Any) -> Iterator[Any]:
        for task in tasks:
            raise AssertionError(f"'{task.item.id}' is measured anew")
        return iter(())


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """The gate with one process for all tests; it starts once."""

    def judged(items: Path, out: Path, pool: Any = None, notes: tuple[Path, ...] = (), **changes: Any) -> Gated:
        settings = QualitySettings(**changes)
        return gate([items], SCHEMA, settings, out, out.with_suffix(".findings"), pool or ours, notes)

    with processes(1) as ours:
        yield judged


def findings(gated: Gated) -> list[dict[str, Any]]:
    return [json.loads(found) for found in gated.listed.read_text().splitlines()]


def ids(path: Path) -> list[str]:
    return [json.loads(kept)["id"] for kept in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def gated(
    tmp_path_factory: pytest.TempPathFactory,
    good: list[dict[str, Any]],
    defects: list[dict[str, Any]],
    write_items: Write,
) -> Path:
    """A folder in which the command was run on the good and the bad items; not to be changed."""
    folder = tmp_path_factory.mktemp("gated")
    items = write_items(folder / "items.jsonl", [*good, *defects])
    out, report = folder / "kept.jsonl", folder / "quality.html"
    assert run(["gate", str(items), "--out", str(out), "--report", str(report)]) == 0
    return folder


def test_good_clips_are_kept_and_every_planted_defect_is_found(
    gated: Path, good: list[dict[str, Any]], defects: list[dict[str, Any]]
) -> None:
    assert ids(gated / "kept.jsonl") == [item["id"] for item in good]
    found = [json.loads(line) for line in (gated / "quality.jsonl").read_text().splitlines()]
    assert {(one["item"], one["measure"]) for one in found if one["action"] == "drop"} >= {
        (item["id"], item["id"]) for item in defects
    }
    assert {one["item"] for one in found if one["action"] == "drop"} == {item["id"] for item in defects}
    copy = next(one for one in found if one["measure"] == "copies")
    assert copy["like"] == good[0]["id"]
    assert {one["field"] for one in found if one["item"] == "unreadable"} == {"video", "audio"}


def test_the_page_opens_offline_and_shows_what_was_dropped(gated: Path, defects: list[dict[str, Any]]) -> None:
    page = (gated / "quality.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert page.count("data:image/jpeg;base64,") >= 5
    assert page.count("<svg") >= 5
    for item in defects:
        assert f"<b>{item['id']}</b>" in page


def test_kept_items_are_packed_from_where_they_lie(gated: Path, tmp_path: Path) -> None:
    assert run(["pack", str(gated / "kept.jsonl"), "--out", str(tmp_path / "shards"), "--max-bad", "0"]) == 0


def test_other_thresholds_decode_nothing_anew(judge: Judge, gated: Path, tmp_path: Path) -> None:
    for name in ("items.jsonl", f"kept.jsonl{JOURNAL}"):
        shutil.copy(gated / name, tmp_path / name)
    again = judge(tmp_path / "items.jsonl", tmp_path / "kept.jsonl", Nobody())
    assert ids(tmp_path / "kept.jsonl") == ids(gated / "kept.jsonl")
    lax = judge(tmp_path / "items.jsonl", tmp_path / "kept.jsonl", Nobody(), silence={"decibels": -119})
    assert lax.findings["silence", "drop"] == 0
    assert lax.kept == again.kept + 1


def test_what_was_stopped_goes_on(judge: Judge, gated: Path, tmp_path: Path, good: list[dict[str, Any]]) -> None:
    shutil.copy(gated / "items.jsonl", tmp_path / "items.jsonl")
    journal = (gated / f"kept.jsonl{JOURNAL}").read_bytes().splitlines(keepends=True)
    left_over = b"".join([*journal[:5], *journal[6:-1], b"not of this journal\n", journal[-1][:40]])
    (tmp_path / f"kept.jsonl{JOURNAL}").write_bytes(left_over)
    measured = []
    judge(tmp_path / "items.jsonl", tmp_path / "kept.jsonl", _Noting(measured))
    assert measured == [good[5]["id"], "overlap"]
    assert ids(tmp_path / "kept.jsonl") == ids(gated / "kept.jsonl")


class _Noting:
    """Workers that note whose turn it was."""

    def __init__(self, measured: list[str]) -> None:
        self.measured = measured

    def run(self, function: Any, tasks: Any) -> Iterator[Any]:
        for task in tasks:
            self.measured.append(task.item.id)
            yield function(task)


def test_an_item_that_changed_is_measured_anew(
    judge: Judge, tmp_path: Path, good: list[dict[str, Any]], write_items: Write
) -> None:
    clip = shutil.copy(good[0]["inputs"]["video"]["path"], tmp_path / "clip.mp4")
    item = {**good[0], "inputs": {**good[0]["inputs"], "video": {"path": "clip.mp4"}, "audio": {"path": "clip.mp4"}}}
    items = write_items(tmp_path / "items.jsonl", [item])
    assert judge(items, tmp_path / "kept.jsonl").kept == 1
    Path(clip).write_bytes(b"broken")
    assert judge(items, tmp_path / "kept.jsonl").kept == 0


def test_relative_paths_still_lead_to_the_clips(
    judge: Judge, tmp_path: Path, good: list[dict[str, Any]], write_items: Write
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(good[0]["inputs"]["video"]["path"], tmp_path / "in" / "clip.mp4")
    item = {**good[0], "inputs": {**good[0]["inputs"], "video": {"path": "clip.mp4"}, "audio": {"path": "clip.mp4"}}}
    items = write_items(tmp_path / "in" / "items.jsonl", [item, good[1]])
    for out, path in (("kept.jsonl", "in/clip.mp4"), ("out/kept.jsonl", str(tmp_path / "in" / "clip.mp4"))):
        judge(items, tmp_path / out)
        kept = [json.loads(line)["inputs"]["video"]["path"] for line in (tmp_path / out).open()]
        assert kept == [path, good[1]["inputs"]["video"]["path"]]


def text_item(key: str, text: str, response: str = "", **more: Any) -> dict[str, Any]:
    targets = {"response": response} if response else {}
    inputs = {"dialogue": [{"speaker": "a", "text": text}]}
    return {"id": key, "corpus": "words", "group": key, "inputs": inputs, "targets": targets, **more}


TOLD = "My sister called this morning and told me that she will move to another country next year, for good."


def test_a_copy_in_another_split_is_said_and_the_one_in_test_is_kept(
    judge: Judge, tmp_path: Path, write_items: Write
) -> None:
    given = [
        text_item("a", TOLD, split="train"),
        text_item("b", TOLD, split="test"),
        text_item("c", TOLD, split="train"),
    ]
    gated = judge(write_items(tmp_path / "items.jsonl", given), tmp_path / "kept.jsonl")
    assert ids(tmp_path / "kept.jsonl") == ["b"]
    assert gated.across["copies"] == 2
    assert [one["reason"] for one in findings(gated)] == ["is the same as 'b', which is in split test"] * 2


def test_a_rule_that_only_reports_drops_nothing_and_one_that_is_off_says_nothing(
    judge: Judge, tmp_path: Path, write_items: Write
) -> None:
    items = write_items(tmp_path / "items.jsonl", [text_item("a", TOLD), text_item("b", TOLD)])
    gated = judge(items, tmp_path / "kept.jsonl", copies={"action": "report"})
    assert (gated.kept, gated.findings) == (2, {("copies", "report"): 1})
    gated = judge(items, tmp_path / "kept.jsonl", copies={"action": "off"}, shared={"action": "off"})
    assert (gated.kept, findings(gated)) == (2, [])


def test_a_response_that_stands_in_a_note_is_found_and_the_note_is_shown_nowhere(
    tmp_path: Path, write_items: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = "That must be hard for you, and I wonder who is still there to talk to."
    items = write_items(
        tmp_path / "items.jsonl", [text_item("a", TOLD, answer), text_item("b", "Nothing new.", answer)]
    )
    notes = tmp_path / "notes.jsonl"
    secret = f"Her secret is that she told the counsellor. {answer}"
    notes.write_text(json.dumps({"item": "a", "privileged": {"situation": secret}, "targets": {}}) + "\n")
    command = ["gate", str(items), "--notes", str(notes), "--out", str(tmp_path / "kept.jsonl")]
    assert run([*command, "--report", str(tmp_path / "quality.html")]) == 0
    assert ids(tmp_path / "kept.jsonl") == ["b"]
    written = [path.read_text() for path in tmp_path.iterdir() if path not in (items, notes)]
    said = capsys.readouterr()
    assert "situation" in (tmp_path / "quality.jsonl").read_text()
    assert not any("secret" in text or "counsellor" in text for text in [*written, said.out, said.err])


def test_a_clip_beyond_the_limits_is_named_and_not_decoded(
    judge: Judge, tmp_path: Path, good: list[dict[str, Any]], write_items: Write
) -> None:
    items = write_items(tmp_path / "items.jsonl", good[:1])
    gated = judge(items, tmp_path / "kept.jsonl", limits={"max_seconds": 1.5, "max_pixels": 100})
    reasons = [one["reason"] for one in findings(gated)]
    assert gated.kept == 0
    assert sum("allowed" in reason for reason in reasons) == 2


def test_a_worker_that_takes_too_long_costs_its_item_only(
    judge: Judge, tmp_path: Path, good: list[dict[str, Any]], write_items: Write
) -> None:
    from pipelines.workers import Bounds

    items = write_items(tmp_path / "items.jsonl", good[:2])
    with processes(1, Bounds(seconds=0.01)) as pool:
        gated = gate([items], SCHEMA, QualitySettings(), tmp_path / "kept.jsonl", tmp_path / "findings", pool)
    assert [(one["measure"], one["field"]) for one in findings(gated)] == [("unreadable", None)] * 2
    assert judge(items, tmp_path / "kept.jsonl").kept == 2  # it isn't held against them


def test_items_are_not_written_over(judge: Judge, tmp_path: Path, write_items: Write) -> None:
    items = write_items(tmp_path / "items.jsonl", [text_item("a", TOLD)])
    with pytest.raises(UserError, match="give the kept items another name"):
        judge(items, items)


def test_nothing_to_judge_is_said(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("")
    with pytest.raises(UserError, match="No item in"):
        judge(tmp_path / "items.jsonl", tmp_path / "kept.jsonl")


@pytest.mark.slow
def test_hardly_a_real_clip_is_dropped(judge: Judge, data_dir: Path, tmp_path: Path) -> None:
    """Of every sixth clip of MOSI and RAVDESS none; of all 648 items one, and that clip shows a bent back."""
    for name, folder in (("mosi", "mosi_mini"), ("ravdess", "ravdess")):
        assert run(["ingest", name, str(data_dir / folder / "manifest.csv"), "--out", str(tmp_path / name)]) == 0
    every = [line for name in ("mosi", "ravdess") for line in (tmp_path / name / "items.jsonl").open()]
    some = tmp_path / "some.jsonl"
    some.write_text("".join(every[::6]))
    gated = judge(some, tmp_path / "kept.jsonl")
    assert len(every[::6]) > 100
    assert [one for one in findings(gated) if one["action"] == "drop"] == []
