"""Votes: what is kept of one, and how they come out."""

import json
from pathlib import Path

import pytest

from pride_mm.errors import UserError
from pride_mm.serving.page.service import names
from pride_mm.serving.page.votes import Contender, Votes

PLAIN = Contender(name="plain", weights={"model.safetensors": "ab"})
OTHER = Contender(name="other", weights={"model.safetensors": "cd"})


def test_votes_are_appended_and_counted_by_student(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    Votes(path).add(PLAIN, OTHER, "left", 1)
    votes = Votes(path)
    votes.add(PLAIN, OTHER, "right", 2)
    votes.add(OTHER, PLAIN, "left", 3)
    votes.add(OTHER, PLAIN, "both bad", 1)
    assert votes.tally(["plain", "other"]) == {"plain": 0, "other": 2, "tie": 0, "both bad": 1}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["turns"] for line in lines] == [1, 2, 3, 1]
    assert set(lines[0]) == {"time", "left", "right", "vote", "turns"}
    assert lines[1]["right"] == {"name": "other", "weights": {"model.safetensors": "cd"}}
    assert path.stat().st_mode & 0o077 == 0


def test_where_nothing_can_be_written_is_said_before_anybody_votes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Votes cannot be written to .*: give another --votes"):
        Votes(tmp_path / "no" / "votes.jsonl")


def test_artifacts_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "plain" / "artifact", tmp_path / "privileged" / "artifact"
    assert names([one]) == ["artifact"]
    assert names([one, two]) == ["plain/artifact", "privileged/artifact"]
    assert names([one, tmp_path / "small"]) == ["artifact", "small"]
    assert names([one, one]) == ["artifact", "artifact"]
