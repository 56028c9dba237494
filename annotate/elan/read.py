"""Annotations out of ELAN files: ours, or ours after somebody worked on them in ELAN.

A tier of a name that the document does not know is a new annotator's, an expert. A tier that is no field's is
named and left alone. What cannot be read is named by file, annotator and field, never shown.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args
from xml.parsers import expat

from pydantic import ValidationError

from annotate.elan.write import DRAFTS, ITEM, TIER, Piece, digest, known_people
from annotate.people import Person
from pride_mm.errors import BadSamples, SampleError
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation, Draft, Origin
from pride_mm.schema import Field, Kind, Schema, Value, parse_value

_LARGEST = 64 * 1024 * 1024  # bytes; notes on one item are thousands of times smaller
Pieces = list[Piece]


def read_elan(
    paths: Iterable[Path], schema: Schema, bad: BadSamples, progress: Progress = silent
) -> Iterator[Annotation]:
    """Yield the annotations of some files, one an annotator and file.

    Args:
        paths: the ``.eaf`` files.
        schema: what the tiers may be; each value is checked by it.
        bad: counts files that are none, unknown tiers, and values that the schema refuses.
        progress: called with the files read.
    """
    for done, path in enumerate(paths, 1):
        with bad.counting():
            yield from _Reader(path, schema, bad).annotations()
        progress(done, None, "files")


class _Reader:
    """One file."""

    def __init__(self, path: Path, schema: Schema, bad: BadSamples) -> None:
        self.path, self.schema, self.bad = path, schema, bad
        self.eaf = parse_elan(path)
        self.properties = {str(name): str(text or "") for name, text in self.eaf.properties}
        self.turns = [number for number, _ in self._aligned(schema.dialogue.name)]

    def annotations(self) -> Iterator[Annotation]:
        """The annotations in the file; raises SampleError where its name is no item's."""
        people = known_people(self.properties)
        tiers: dict[tuple[str, str], list[str]] = {}
        for tier in self.eaf.tiers:
            match = TIER.match(tier)
            if match and self._field(match[1]) is not None:
                tiers.setdefault((match[2], match[1]), []).append(tier)
            elif tier != self.schema.dialogue.name:
                self.bad.add(SampleError(f"{self.path.name}: tier '{tier[:60]}'", None, _NO_FIELD))
        for name in dict.fromkeys(name for name, _ in tiers):
            person = people.get(name, Person(name, "expert"))
            values = {}
            for field in self.schema.privileged + self.schema.targets:
                if (name, field.name) not in tiers:
                    continue
                with self.bad.counting():
                    value = self._value(field, tiers[name, field.name], f"{self.path.name}: {name}")
                    if value is not None:
                        values[field.name] = value
            if values:
                yield self._annotation(person, name, values)

    def _annotation(self, person: Person, name: str, values: dict[str, Value]) -> Annotation:
        item = self.properties.get(ITEM) or self.path.stem
        origin = person.origin if person.origin in get_args(Origin) else "expert"
        try:
            record = Annotation(item=item, annotator=person.annotator, origin=origin, values={})
        except ValidationError:
            raise SampleError(self.path.name, None, "neither its name nor its properties name an item") from None
        return record.model_copy(update={"values": values, "drafts": self._drafts(name, values)})

    def _drafts(self, name: str, values: dict[str, Value]) -> dict[str, Draft]:
        """The provenance that was written with the values; a value that was changed since is an edited draft."""
        found = {}
        try:
            known = json.loads(self.properties.get(DRAFTS) or "{}").get(name, {})
            for field, kept in known.items():
                if field not in values:
                    continue
                same = kept.pop("value", None) == digest(values[field])
                draft = Draft.model_validate(kept)
                found[field] = draft if same or draft.how == "written" else Draft(model=draft.model, how="edited")
        except (ValueError, TypeError, AttributeError):
            self.bad.add(SampleError(self.path.name, None, f"the property {DRAFTS} was edited: no origin of drafts"))
        return found

    def _field(self, name: str) -> Field | None:
        field = self.schema.by_name.get(name)
        return field if field is not None and field not in self.schema.inputs else None

    def _aligned(self, tier: str) -> list[tuple[str, Piece]]:
        """The annotations of a tier with their numbers, in the order of time."""
        found = []
        for number, (start, end, text, _) in self.eaf.tiers.get(tier, ({},))[0].items():
            times = (self.eaf.timeslots.get(start), self.eaf.timeslots.get(end))
            if times[0] is None or times[1] is None:
                raise SampleError(self.path.name, None, f"tier '{tier[:60]}' has an annotation without a time")
            found.append((number, Piece(times[0], times[1], text)))
        return sorted(found, key=lambda pair: (pair[1].start, pair[1].end))

    def _value(self, field: Field, tiers: list[str], place: str) -> Value | None:
        raw: Any
        if field.kind is Kind.TURN_CHOICE:
            raw = self._options(field, tiers, place)
        else:
            pieces = [piece for tier in tiers for _, piece in self._aligned(tier) if piece.text.strip()]
            if not pieces:
                return None
            pieces.sort(key=lambda piece: (piece.start, piece.end))
            raw = self._raw(field, pieces, place)
        if raw is None:
            return None
        try:
            return parse_value(field, raw, len(self.turns))
        except ValueError as error:
            raise SampleError(place, field.name, str(error)) from None

    def _raw(self, field: Field, pieces: Pieces, place: str) -> Any:
        if field.kind is Kind.SPANS:
            spans = sorted(pieces, key=lambda piece: (piece.start, piece.end, piece.text))
            return [{"start": p.start / 1000, "end": p.end / 1000, "label": p.text} for p in spans]
        texts = [piece.text for piece in pieces]
        if field.kind is Kind.CHOICES:
            options = getattr(field, "options", ())
            return sorted(dict.fromkeys(texts), key=lambda o: options.index(o) if o in options else len(options))
        if field.kind is Kind.TEXT:
            return "\n".join(texts)
        if len(set(texts)) > 1:
            raise SampleError(place, field.name, f"{len(texts)} different values where one is allowed")
        if field.kind is not Kind.SCALE:
            return texts[0]
        try:
            return int(texts[0].strip())
        except ValueError:
            raise SampleError(place, field.name, f"not {field.allowed}") from None

    def _options(self, field: Field, tiers: list[str], place: str) -> list[str | None] | None:
        """One option a turn, from annotations that hang on the turns."""
        found: list[str | None] = [None] * len(self.turns)
        for tier in tiers:
            aligned, hanging = self.eaf.tiers[tier][:2]
            if aligned:
                raise SampleError(place, field.name, f"its tier must depend on '{self.schema.dialogue.name}'")
            for turn, text, *_ in hanging.values():
                if turn not in self.turns:
                    raise SampleError(place, field.name, "hangs on no turn of the dialogue")
                if text.strip():
                    found[self.turns.index(turn)] = text
        return found if any(option is not None for option in found) else None


_NO_FIELD = "is no FIELD@ANNOTATOR of the schema; left alone"


def parse_elan(path: Path) -> Any:
    """A file as pympi reads it, once it is sure to be XML without a document type; raises SampleError."""
    from pympi.Elan import Eaf

    try:
        if path.stat().st_size > _LARGEST:
            raise SampleError(path.name, None, f"larger than {_LARGEST // 1024**2} MiB: no ELAN file of one item")
        data = path.read_bytes()
    except OSError as error:
        raise SampleError(path.name, None, f"cannot be read ({error.strerror})") from None
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> NoReturn:
        raise SampleError(path.name, None, "has a document type (DOCTYPE), which no ELAN file has; refused")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise SampleError(path.name, None, "is not XML") from None
    try:
        return Eaf(str(path), suppress_version_warning=True)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, LookupError):
        raise SampleError(path.name, None, "is XML, but no ELAN file") from None
