"""Ingest: from a corpus to items.jsonl and, where the corpus knows more than a student may see, annotations.jsonl."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipelines.sources import Request, load_source
from pipelines.sources.mapping import Entry
from pipelines.sources.seen import Seen
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import whole_file
from pride_mm.records import Annotation, Item, read_lines, to_json
from pride_mm.schema import Media

ITEMS, ANNOTATIONS = "items.jsonl", "annotations.jsonl"


@dataclass
class Ingested:
    """What came of it: how many, by split; of ``fields``, how many items have which input and target."""

    items: int = 0
    annotations: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)
    out: Path = Path()


def ingest(request: Request, bad: BadSamples) -> Ingested:
    """Read a corpus into ``request.out``; both files appear whole, or neither, and replace an earlier reading of it.

    Nothing is held in memory but the item at hand.

    Raises:
        UserError: nothing usable was found, what was asked for doesn't exist, or the folder is another corpus's.
        TooManyBadSamples: more bad rows than ``bad`` allows.
    """
    _refuse_another_corpus(request.out / ITEMS, request.corpus.corpus)
    entries = load_source(request.corpus.source)(request, bad)
    done, seen = Ingested(out=request.out), Seen()
    with whole_file(request.out / ITEMS) as items, whole_file(request.out / ANNOTATIONS) as notes:
        for entry in entries:
            before = seen.add(entry.item.id, entry.place)
            if before is not None:
                reason = f"id '{entry.item.id}' was already given at {before}"
                bad.add(SampleError(entry.place, None, reason))
                continue
            _write(entry, done, items, notes)
        if not done.items:
            named = "".join(f"\n  {error}" for error in list(bad)[:10])
            raise UserError(f"No item of '{request.corpus.corpus}' found at {request.path}.{named}")
    if not done.annotations:
        (request.out / ANNOTATIONS).unlink()
    return done


def _write(entry: Entry, done: Ingested, items: IO[bytes], notes: IO[bytes]) -> None:
    items.write(_line(_portable(entry.item, done.out)))
    notes.writelines(_line(annotation) for annotation in entry.annotations)
    done.items += 1
    done.annotations += len(entry.annotations)
    done.splits[entry.item.split or "none given"] += 1
    done.fields.update([*entry.item.inputs, *entry.item.targets])


def _refuse_another_corpus(items: Path, corpus: str) -> None:
    if not items.is_file():
        return
    for _, record in read_lines(items, BadSamples(0)):
        if record.get("corpus") != corpus:
            raise UserError(
                f"{items} holds items of '{record.get('corpus')}', which '{corpus}' would replace: "
                "give each corpus its own --out. `pride pack` takes many files of items."
            )
        return


def _portable(item: Item, out: Path) -> Item:
    """Media inside ``out`` are named from there, so that the folder can move; others by their full path."""
    root = Path(os.path.abspath(out))
    inputs = {
        name: value.model_copy(update={"path": str(Path(value.path).relative_to(root))})
        if isinstance(value, Media) and Path(value.path).is_relative_to(root)
        else value
        for name, value in item.inputs.items()
    }
    return item.model_copy(update={"inputs": inputs})


def _line(record: Item | Annotation) -> bytes:
    return json.dumps(to_json(record), ensure_ascii=False).encode() + b"\n"
