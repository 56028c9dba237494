"""Taking a corpus in, as the command does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sources import Request
from pipelines.sources.corpus import load_corpus
from pipelines.sources.intake import ITEMS, ingest
from pride_mm.errors import BadSamples
from pride_mm.records import Annotation, Item, read_annotations, read_items
from pride_mm.schema import load_schema

TakeIn = Callable[..., tuple[list[Item], list[Annotation], BadSamples]]


@pytest.fixture
def take_in(tmp_path: Path) -> TakeIn:
    """Ingest into a fresh folder and read back what was written: items, annotations, and the bad rows."""

    def run(
        corpus: str, path: Path | str | None, schema: str | None = None, limit: int | None = None, max_bad: int = 0
    ):
        described, bad = load_corpus(corpus, schema), BadSamples(max_bad)
        contract = load_schema(schema or described.schema_name)
        out = tmp_path / "out"
        ingest(Request(described, contract, None if path is None else str(path), out, limit), bad)
        nothing = BadSamples(0)
        items = list(read_items(out / ITEMS, contract, nothing))
        notes = out / "annotations.jsonl"
        return items, list(read_annotations(notes, contract, nothing)) if notes.exists() else [], bad

    return run
