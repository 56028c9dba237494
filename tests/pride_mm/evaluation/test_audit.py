"""The audit of real students and real shards: clean where nothing leaks, and each planted leak by its key."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run as pride
from pipelines.pack import PackSettings, pack
from pride_mm.data.batch import Batch
from pride_mm.data.collate import Collator
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.audit import check_notes, check_run
from pride_mm.schema import load_schema

SECRET = "my neighbour's parrot swallowed the wedding ring of the mayor on sunday"


def test_a_real_run_is_clean(runs: list[Path], opened: ShardSet) -> None:
    check = check_run(runs[0], opened, "test", 10, BadSamples(0))
    assert check.clean
    assert check.looked == "10 samples of the split 'test'"
    assert all(
        name in check.said for name in ("answer", "head 'emotion'", "present", "altered", "NaN", "empty", "gone")
    )


def test_a_collator_that_whispers_is_found(runs: list[Path], opened: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    collate = Collator.__call__

    def whispering(self: Collator, samples: Sequence[Sample]) -> Batch:
        """The note, put where the student reads."""
        told = []
        for sample in samples:
            *before, last = sample.inputs["dialogue"]  # type: ignore[misc]
            note = (sample.privileged or {}).get("situation", "")
            turns = (*before, last.model_copy(update={"text": f"{last.text} {note}".strip()}))  # type: ignore[union-attr]
            told.append(replace(sample, inputs={**sample.inputs, "dialogue": turns}))
        return collate(self, told)

    monkeypatch.setattr(Collator, "__call__", whispering)
    check = check_run(runs[0], opened, "test", 14, BadSamples(0))
    noted = {sample.key for sample in opened.samples("test", ("input", "privileged")) if sample.privileged}
    found = {key: variants.rstrip(")").split(", ") for key, _, variants in (one.partition(" (") for one in check.found)}
    # altered notes are there where there were none, too
    assert noted <= set(found)
    assert all({"altered", "empty", "gone"} <= set(found[key]) for key in noted)
    assert "quokkas" not in " ".join((*check.found, check.said, check.title))


def test_it_needs_a_split_and_a_run(runs: list[Path], opened: ShardSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No split 'nope'"):
        check_run(runs[0], opened, "nope", 4, BadSamples(0))
    with pytest.raises(UserError, match="is not a run"):
        check_run(tmp_path, opened, "test", 4, BadSamples(0))


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """Real dialogues in three splits: a note in what is said, a response in a note, a dialogue in two splits."""
    work = tmp_path_factory.mktemp("leaky")
    with (data_dir / "empathetic_dialogues" / "train.jsonl").open() as file:
        said = [json.loads(line)["turns"] for line, _ in zip(file, range(8), strict=False)]
    items, notes = [], []
    for number, turns in enumerate([*said, said[0]]):
        text, answer = turns[0]["text"], turns[1]["text"]
        note = "what nobody else says, written down by an expert for this sample alone"
        if number == 1:
            text = f"You know, {SECRET}. What now?"
        if number == 2:
            answer = note = "oh dear, that must have been such a shock for all of you there"
        if number == 1:
            note = SECRET
        split = ["train", "train", "train", "train", "train", "valid", "valid", "test", "test"][number]
        inputs = {"dialogue": [{"speaker": "a", "text": text}]}
        targets = {"response": answer, "emotion": "sad"}
        items.append(
            {"id": f"k{number}", "corpus": "c", "group": f"g{number}", "split": split, "inputs": inputs}
            | {"targets": targets}
        )
        notes.append({"item": f"k{number}", "privileged": {"situation": note}})
    _pack(work, items, notes)
    return work / "shards"


def _pack(work: Path, items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    for name, lines in (("items", items), ("privileged", notes)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pack([work / "items.jsonl"], load_schema("pride"), work / "shards", [work / "privileged.jsonl"], PackSettings())


def test_a_note_in_the_inputs_and_a_response_in_a_note_are_found(leaky: Path) -> None:
    seen, echoed = check_notes(ShardSet.open(leaky))
    assert seen.found == ("k1",)
    assert echoed.found == ("k2",)
    assert seen.looked == "9 notes"


def test_the_command_names_the_keys_exits_1_and_says_no_word_of_a_note(
    leaky: Path, runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "leakage.html"
    assert pride(["eval", "leakage", str(runs[0]), "--shards", str(leaky), "--report", str(page)]) == 1
    shown = capfd.readouterr()
    assert "FOUND 1: 'situation' in what the student sees; 9 notes: k1." in shown.err
    assert "FOUND 1: the response in 'situation'; 9 notes: k2." in shown.err
    assert "k0 (train) and k8 (test)" in shown.err
    assert "Clean: the notes and the predictions of 'one'; 2 samples of the split 'test'." in shown.out
    written = page.read_text()
    assert all(key in written for key in ("k1", "k2", "k8 (test)"))
    for word in ("parrot", "expert", "shock"):
        assert word not in shown.out + shown.err + written


def test_clean_shards_exit_0_without_a_run_and_without_their_notes(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert pride(["eval", "leakage", "--shards", str(shards)]) == 0
    shown = capfd.readouterr()
    assert (shown.err, shown.out.count("Clean: ")) == ("", 5)
    shutil.copytree(shards, tmp_path / "bare")
    for tar in (tmp_path / "bare").glob("*.privileged.tar"):
        tar.unlink()
    assert pride(["eval", "leakage", "--shards", str(tmp_path / "bare")]) == 0
    assert "no note of text is in these shards" in capfd.readouterr().out
