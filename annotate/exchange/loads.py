"""Annotations on their way into Label Studio, kept on disk until their item comes by.

Items and annotations come in any order and in any number, so annotations wait in a file without a name, which is gone
with the process; only where each one lies is held in memory.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from annotate.people import Person, nameable
from pride_mm.errors import BadSamples, SampleError
from pride_mm.records import Annotation, Draft, to_json
from pride_mm.schema import Schema, parse_values

_IN_MEMORY = 4 << 20  # bytes
KEPT = ("lead_time", "was_cancelled", "ground_truth")


def person_in(annotation: Annotation) -> Person:
    """Who made an annotation."""
    return Person(annotation.annotator, annotation.origin)


def place_of(annotation: Annotation) -> str:
    """Where a person finds an annotation."""
    return f"item {annotation.item}, annotator {annotation.annotator}"


@dataclass(frozen=True)
class Load:
    """An annotation to load. ``extra`` is what else the server is told of it, out of ``KEPT``."""

    annotation: Annotation
    extra: Mapping[str, Any]

    @property
    def person(self) -> Person:
        return person_in(self.annotation)

    @property
    def skipped(self) -> bool:
        return bool(self.extra.get("was_cancelled"))

    @property
    def place(self) -> str:
        return place_of(self.annotation)


class Loads:
    """Annotations by the id of their item; a second one by the same annotator is counted in ``bad``."""

    def __init__(self, given: Iterable[Annotation | Load], schema: Schema, bad: BadSamples) -> None:
        self._fields, self._bad = schema.privileged + schema.targets, bad
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._places: dict[str, list[tuple[Person, int]]] = {}
        self._taken: dict[str, list[tuple[Person, int]]] = {}
        self._count = 0
        known: dict[Person, Person] = {}
        for one in given:
            load = one if isinstance(one, Load) else Load(one, {})
            if not nameable(load.annotation.annotator):
                strange = "the annotator's name has white space around it or control characters, or is not Unicode text"
                bad.add(SampleError(f"item {load.annotation.item}", None, strange))
                continue
            person = known.setdefault(load.person, load.person)
            places = self._places.setdefault(load.annotation.item, [])
            if any(person == other for other, _ in places):
                bad.add(SampleError(load.place, None, "a second annotation of the same item by the same annotator"))
                continue
            places.append((person, self._file.tell()))
            line = {"annotation": to_json(load.annotation), "extra": dict(load.extra)}
            self._file.write(json.dumps(line).encode() + b"\n")
            self._count += 1
        self.people = tuple(known)

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return bool(self._places)

    def items(self) -> list[str]:
        """The items whose annotations haven't been taken yet."""
        return list(self._places)

    def take(self, item: str) -> list[Load]:
        """The annotations of an item, once."""
        places = self._taken[item] = self._places.pop(item, [])
        return [load for _, at in places for load in self._read(at)]

    def put_back(self, item: str) -> None:
        """Let the annotations of an item be taken once more."""
        if places := self._taken.pop(item, []):
            self._places[item] = places

    def _read(self, at: int) -> Iterator[Load]:
        self._file.seek(at)
        raw = json.loads(self._file.readline())
        given = raw["annotation"]
        values, refused = parse_values(self._fields, given["values"])
        drafts = {name: Draft.model_validate(draft) for name, draft in given["drafts"].items()}
        annotation = Annotation.model_validate({**given, "values": {}, "drafts": {}})
        load = Load(annotation.model_copy(update={"values": values, "drafts": drafts}), raw["extra"])
        for name, reason in refused:
            self._bad.add(SampleError(load.place, name, reason))
        if not refused:
            yield load
