"""An examination that was killed goes on, and nothing shows that it was."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from pride_mm.data.shards import ShardSet
from pride_mm.evaluation.examined import Predictions, examine_run


def _killed(run: Path, shards: ShardSet, path: Path) -> None:
    """Examine, and die of a SIGKILL between the first batch of answers and the second."""

    def tick(done: int, total: int | None = None, note: str = "") -> None:
        if note == "answering":
            os.kill(os.getpid(), signal.SIGKILL)

    examine_run(run, shards, "test", 12, path, progress=tick)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "one.jsonl"


@pytest.fixture(scope="module")
def whole(runs: list[Path], opened: ShardSet, kept: Path) -> Predictions:
    return examine_run(runs[0], opened, "test", 12, kept)


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_kept_is_what_was_said(whole: Predictions, kept: Path, runs: list[Path], opened: ShardSet) -> None:
    first, *lines = _lines(kept)
    assert (first["split"], first["decoding"], first["max_response"]) == ("test", "greedy", 12)
    assert [line["key"] for line in lines if "nats" in line] == list(opened.samples("test").keys)
    assert {line["key"]: line["answer"] for line in lines if "answer" in line} == whole.answers
    assert len(whole.answers) == 12
    assert all(sum(each) == pytest.approx(1, abs=1e-4) for each in whole.probabilities["emotion"].values())
    assert examine_run(runs[0], opened, "test", 12) == whole


@pytest.mark.parametrize("part", [0.001, 0.3, 0.7, 0.95, 0.9999])
def test_cut_anywhere_it_goes_on_to_the_same_end(
    part: float, whole: Predictions, kept: Path, runs: list[Path], opened: ShardSet, tmp_path: Path
) -> None:
    data = kept.read_bytes()
    cut = tmp_path / "one.jsonl"
    cut.write_bytes(data[: int(part * len(data))])
    assert examine_run(runs[0], opened, "test", 12, cut) == whole
    found = {(line["key"], "answer" in line): line for line in _lines(cut)[1:]}
    assert found == {(line["key"], "answer" in line): line for line in _lines(kept)[1:]}


def test_a_process_killed_between_two_batches_goes_on(
    whole: Predictions, kept: Path, runs: list[Path], shards: Path, tmp_path: Path
) -> None:
    path = tmp_path / "one.jsonl"
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(runs[0], ShardSet.open(shards), path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    half = _lines(path)
    assert sum("answer" in line for line in half) == 8
    assert examine_run(runs[0], ShardSet.open(shards), "test", 12, path) == whole
    assert _lines(path)[: len(half)] == half


def test_what_is_there_is_not_asked_again(
    whole: Predictions, kept: Path, runs: list[Path], opened: ShardSet, tmp_path: Path
) -> None:
    lines = _lines(kept)
    for line in lines[1:]:
        line |= {"answer": "kept"} if "answer" in line else {"nats": 1.0}
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = examine_run(runs[0], opened, "test", 12, path)
    assert set(found.answers.values()) == {"kept"}
    assert set(found.likelihood.nats) == {1.0}
    fewer = examine_run(runs[0], opened, "test", 3, path)
    assert list(fewer.answers) == [list(whole.answers)[place] for place in (0, 4, 8)]
    assert set(fewer.answers.values()) == {"kept"}


def test_what_another_student_said_counts_for_nothing(
    whole: Predictions, kept: Path, runs: list[Path], opened: ShardSet, tmp_path: Path
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(kept.read_bytes())
    other = examine_run(runs[1], opened, "test", 2, path)
    assert other == examine_run(runs[1], opened, "test", 2)
    assert other.likelihood != whole.likelihood
    assert _lines(path)[0]["student"] != _lines(kept)[0]["student"]
    drawn = examine_run(runs[1], opened, "test", 2, path, decoding="nucleus")
    assert _lines(path)[0]["decoding"] == "nucleus"
    assert drawn.answers == examine_run(runs[1], opened, "test", 2, decoding="nucleus").answers != other.answers
    assert drawn.likelihood == other.likelihood
