"""Items and annotations as ELAN files, one an item, and annotations back from them.

A tier is one field of one annotator, called ``FIELD@ANNOTATOR`` (``FIELD+2@ANNOTATOR`` holds what would overlap in
the first). A field of the whole item lies over its whole length, a span where it is, an option of a turn
hangs on the turn. Choices and short scales have a controlled vocabulary. What the records know beyond that
(who is an expert, a corpus or a model, and what became of drafts) is in the document's properties.

ELAN counts whole milliseconds, so times come back rounded to one. The files hold notes: only their owner may
read them. A file with a document type, the way to XML's entity bombs, is refused unread.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from annotate.page.hotkeys import options_of
from annotate.people import Person
from annotate.server.credentials import write_secret
from pride_mm.errors import BadSamples, SampleError
from pride_mm.progress import Progress, silent
from pride_mm.records import Annotation, Item
from pride_mm.schema import Field, Kind, Media, OptionsField, Role, Schema, Span, Turn, Value, jsonable

SUFFIX = ".eaf"
TIER = re.compile(r"^([a-z][a-z0-9_]*)(?:\+\d+)?@(.+)$", re.DOTALL)
ITEM, PEOPLE, DRAFTS = "pride.item", "pride.people", "pride.drafts"
_CHILD = "Symbolic_Association"
_MANY_LEVELS = 11
_TURN = 1000  # milliseconds of a turn without times
_LANGUAGE = ("und", "http://cdb.iso.org/lg/CDB-00130975-001", "undetermined (und)")
_MIMES = {".mp4": "video/mp4", ".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".mov": "video/quicktime"}
# What XML has no way to write, not even as a number.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Piece:
    """A value, or a part of one, on a tier; times in milliseconds."""

    start: int
    end: int
    text: str


def write_elan(
    folder: Path,
    schema: Schema,
    items: Iterable[Item],
    annotations: Iterable[Annotation],
    bad: BadSamples,
    progress: Progress = silent,
) -> int:
    """Write one file an item, readable by its owner only; returns how many.

    Args:
        folder: where they go, each as the item's id with ``.eaf``; files there before are replaced.
        schema: what the items and annotations are.
        items: every item gets a file, annotated or not.
        annotations: those of other items are counted in ``bad``.
        bad: counts each value that has no form in ELAN by annotation and field; the rest is written.
        progress: called with the files written.
    """
    given: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        given.setdefault(annotation.item, []).append(annotation)
    written = 0
    for written, item in enumerate(items, 1):
        document = _Document(schema, item, bad)
        for annotation in given.pop(item.id, []):
            document.add(annotation)
        write_secret(folder / f"{item.id}{SUFFIX}", document.text(folder))
        progress(written, None, "files")
    for lost in (one for rest in given.values() for one in rest):
        bad.add(SampleError(_place(lost), None, "no such item"))
    return written


class _Document:
    """One item's file as it grows."""

    def __init__(self, schema: Schema, item: Item, bad: BadSamples) -> None:
        from pympi.Elan import Eaf

        self.schema, self.item, self.bad = schema, item, bad
        self.eaf: Any = Eaf(author="PRIDE-MM")
        self.eaf.remove_tier("default")
        self.eaf.remove_linguistic_type("default-lt")
        self.eaf.add_language(*_LANGUAGE)
        self.people: dict[str, Person] = {}
        self.drafts: dict[str, dict[str, Any]] = {}
        self.turns = turn_pieces(item.inputs[schema.dialogue.name])
        self.length = max([_media_length(item), *(piece.end for piece in self.turns)])
        self.turn_tier = schema.dialogue.name
        self._type(schema.dialogue)
        self.eaf.add_tier(self.turn_tier, ling=self.turn_tier)
        self.turn_ids = [self._put(self.turn_tier, piece) for piece in self.turns]

    def add(self, annotation: Annotation) -> None:
        """Add the tiers of an annotation; a value that has no form here is counted and left out."""
        name = self._name(Person(annotation.annotator, annotation.origin))
        for field in self.schema.privileged + self.schema.targets:
            if field.name not in annotation.values:
                continue
            with self.bad.counting():
                value = annotation.values[field.name]
                self._field(field, value, name, SampleError(_place(annotation), field.name, _NO_FORM))
                draft = annotation.drafts.get(field.name)
                if draft is not None:
                    kept = {**draft.model_dump(), "value": digest(rounded(value))}
                    self.drafts.setdefault(name, {})[field.name] = kept

    def text(self, folder: Path) -> str:
        """The whole document as XML, all of it ASCII."""
        from pympi.Elan import to_adocument

        self._link_media(folder)
        self._order_times()
        people = {name: {"annotator": p.annotator, "origin": p.origin} for name, p in self.people.items()}
        self.eaf.properties = [
            ("lastUsedAnnotationId", len(self.eaf.annotations)),
            (ITEM, self.item.id),
            (PEOPLE, json.dumps(people)),
            (DRAFTS, json.dumps(self.drafts)),
        ]
        xml = ElementTree.tostring(to_adocument(self.eaf), encoding="us-ascii").decode()
        xml = xml.partition("?>")[2] if xml.startswith("<?") else xml
        # a carriage return that is not written as a number is a line feed to whoever reads it
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.replace("\r", "&#13;")

    def _name(self, person: Person) -> str:
        """The part of the tiers' names that stands for a person; no two people have the same."""
        plain = _NOT_XML.sub("?", person.annotator)
        wanted = plain if person.origin == "expert" else f"{plain} [{person.origin}]"
        names = (wanted if number == 1 else f"{wanted} #{number}" for number in count(1))
        name = next(name for name in names if name not in self.people)
        self.people[name] = person
        return name

    def _field(self, field: Field, value: Value, name: str, unfit: SampleError) -> None:
        if field.kind is Kind.TURN_CHOICE:
            assert isinstance(value, tuple)
            if len(value) != len(self.turns):
                raise SampleError(unfit.place, field.name, f"{len(value)} entries for {len(self.turns)} turns")
            self._hang(field, value, name)
            return
        pieces = self._pieces(field, value)
        if any(_NOT_XML.search(piece.text) for piece in pieces):
            raise unfit
        for number, lane in enumerate(lanes(pieces), 1):
            tier = f"{field.name}@{name}" if number == 1 else f"{field.name}+{number}@{name}"
            self._tier(field, tier, name)
            for piece in lane:
                self._put(tier, piece)

    def _pieces(self, field: Field, value: Value) -> list[Piece]:
        if field.kind is Kind.SPANS:
            assert isinstance(value, tuple)
            return [_span_piece(span) for span in value if isinstance(span, Span)]
        texts = [str(option) for option in value] if isinstance(value, tuple) else [str(value)]
        return [Piece(0, self.length, text) for text in texts]

    def _hang(self, field: Field, value: tuple[Any, ...], name: str) -> None:
        tier = f"{field.name}@{name}"
        self._tier(field, tier, name, parent=self.turn_tier)
        for turn, option in zip(self.turn_ids, value, strict=True):
            if option is not None:
                number = self.eaf.generate_annotation_id()
                self.eaf.annotations[number] = tier
                self.eaf.tiers[tier][1][number] = (turn, option, None, None)

    def _tier(self, field: Field, tier: str, name: str, parent: str | None = None) -> None:
        self._type(field)
        person = self.people[name]
        who = _NOT_XML.sub("?", person.annotator)
        self.eaf.add_tier(tier, ling=field.name, parent=parent, part=person.origin, ann=who)

    def _type(self, field: Field) -> None:
        if field.name in self.eaf.linguistic_types:
            return
        hangs = field.kind is Kind.TURN_CHOICE
        self.eaf.add_linguistic_type(field.name, constraints=_CHILD if hangs else None, timealignable=not hangs)
        options = field.options if isinstance(field, OptionsField) else options_of(field)
        if not options or (len(options) > _MANY_LEVELS and not isinstance(field, OptionsField)):
            return
        self.eaf.add_controlled_vocabulary(field.name)
        for number, option in enumerate(options):
            self.eaf.add_cv_entry(field.name, f"{field.name}-{number}", [(option, _LANGUAGE[0], None)])
        self.eaf.linguistic_types[field.name]["CONTROLLED_VOCABULARY_REF"] = field.name

    def _put(self, tier: str, piece: Piece) -> str:
        self.eaf.add_annotation(tier, piece.start, piece.end, piece.text)
        return list(self.eaf.tiers[tier][0])[-1]

    def _link_media(self, folder: Path) -> None:
        seen = set()
        for field in self.schema.of(Role.INPUT, Kind.VIDEO, Kind.AUDIO):
            media = self.item.inputs.get(field.name)
            if not isinstance(media, Media) or (media.path, media.start) in seen:
                continue
            seen.add((media.path, media.start))
            path = Path(media.path).absolute()
            mime = _MIMES.get(path.suffix.lower(), "video/*" if field.kind is Kind.VIDEO else "audio/*")
            origin = round(media.start * 1000) if media.start else None
            self.eaf.add_linked_file(path.as_uri(), _relative(path, folder.absolute()), mime, origin)

    def _order_times(self) -> None:
        """Number the time slots in the order of time, as the format asks for."""
        slots = sorted(self.eaf.timeslots, key=lambda slot: self.eaf.timeslots[slot])
        names = {old: f"ts{number}" for number, old in enumerate(slots, 1)}
        self.eaf.timeslots = {names[old]: self.eaf.timeslots[old] for old in slots}
        for aligned, *_ in self.eaf.tiers.values():
            for number, (start, end, *rest) in aligned.items():
                aligned[number] = (names[start], names[end], *rest)


def _place(annotation: Annotation) -> str:
    return f"item {annotation.item}, annotator {annotation.annotator}"


_NO_FORM = "holds a character that XML cannot write (a control character)"


def lanes(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Share pieces out to as few lanes as it takes for none to overlap, in the order of time."""
    found: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: (p.start, p.end)):
        lane = next((lane for lane in found if lane[-1].end <= piece.start), None)
        if lane is None:
            found.append([piece])
        else:
            lane.append(piece)
    return found


def turn_pieces(turns: Any) -> list[Piece]:
    """The turns one after the other; one without times lies between its neighbours."""
    pieces: list[Piece] = []
    for number, turn in enumerate(turns):
        assert isinstance(turn, Turn)
        before = pieces[-1].end if pieces else 0
        start = before if turn.start is None else max(before, round(turn.start * 1000))
        later = [round(t.start * 1000) for t in turns[number + 1 :] if t.start is not None]
        end = round(turn.end * 1000) if turn.end is not None else (later[0] if later else start + _TURN)
        text = _NOT_XML.sub("\ufffd", f"{turn.speaker}: {turn.text}")
        pieces.append(Piece(start, max(end, start + 1), text))
    return pieces


def rounded(value: Value) -> Value:
    """A value as ELAN gives it back: times in whole milliseconds, no span shorter than one, in the order of time."""
    if isinstance(value, tuple) and any(isinstance(part, Span) for part in value):
        pieces = sorted((_span_piece(s) for s in value if isinstance(s, Span)), key=lambda p: (p.start, p.end, p.text))
        return tuple(Span(start=p.start / 1000, end=p.end / 1000, label=p.text) for p in pieces)
    return value


def digest(value: Value) -> str:
    """Tells whether a drafted value was changed; order does not count where it means nothing."""
    plain = jsonable(value)
    if isinstance(plain, list) and all(isinstance(part, str) for part in plain):
        plain = sorted(plain)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _span_piece(span: Span) -> Piece:
    start = round(span.start * 1000)
    return Piece(start, max(round(span.end * 1000), start + 1), span.label)


def _media_length(item: Item) -> int:
    """The length of an item's media in milliseconds, 0 where there are none that can be read."""
    from pride_mm.media.container import MediaError, probe

    length = 0.0
    for media in item.inputs.values():
        if not isinstance(media, Media):
            continue
        end = media.end
        if end is None:
            try:
                info = probe(Path(media.path))
            except MediaError:  # ELAN asks for a file that is not there; the notes are no worse for it
                continue
            end = max(part.duration for part in (info.video, info.audio) if part is not None)
        length = max(length, end - (media.start or 0.0))
    return round(length * 1000)


def _relative(path: Path, folder: Path) -> str | None:
    try:
        return f"./{path.relative_to(folder).as_posix()}"
    except ValueError:
        return None


def known_people(properties: Mapping[str, str]) -> dict[str, Person]:
    """Who the tiers' names stand for, from a document's properties; what is no such list is nobody."""
    found = {}
    try:
        for name, given in json.loads(properties.get(PEOPLE) or "{}").items():
            found[name] = Person(str(given["annotator"]), given["origin"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found
