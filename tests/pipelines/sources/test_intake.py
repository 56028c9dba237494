"""What ingest leaves in a folder, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from pipelines.sources.intake import ITEMS
from pride_mm.errors import UserError


def manifest(path: Path, *ids: str) -> Path:
    rows = [json.dumps({"id": name, "group": name, "dialogue": f"a: {name}", "emotion": "happy"}) for name in ids]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_second_ingest_of_a_corpus_replaces_the_first(take_in, tmp_path) -> None:
    take_in("clips", manifest(tmp_path / "manifest.jsonl", "one", "two"))
    items, _, _ = take_in("clips", manifest(tmp_path / "manifest.jsonl", "three"))
    assert [item.id for item in items] == ["three"]


def test_another_corpus_in_the_folder_is_left_alone(take_in, tmp_path) -> None:
    take_in("clips", manifest(tmp_path / "manifest.jsonl", "one"))
    before = (tmp_path / "out" / ITEMS).read_bytes()
    with pytest.raises(UserError, match=r"'clips'.*its own --out"):
        take_in("demo", None)
    assert (tmp_path / "out" / ITEMS).read_bytes() == before
