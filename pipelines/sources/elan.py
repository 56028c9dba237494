"""ELAN: a file an item, its turns and its media; notes come from the tiers called ``FIELD@ANNOTATOR``.

Files that ``pride label elan write`` made come back whole, but for what ELAN does not hold: corpus, group, split.
In a file of one's own the tiers with times are the speakers (their participant, or the tier's name). Recordings of
which many items are cut have ELAN as a transcript: see ``recordings``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from annotate.elan.read import parse_elan, read_elan
from annotate.elan.write import ITEM, SUFFIX
from pipelines.sources import Request
from pipelines.sources.mapping import MEDIA, Entry, Mapper
from pipelines.sources.rows import Row
from pipelines.sources.transcripts import Cue, read_transcript
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.schema import Kind, Schema


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry a file; a file that cannot be read is bad."""
    for done, path in enumerate(_files(request.path, request.limit), 1):
        request.progress(done, request.limit)
        try:
            entry = _entry(path, request, bad)
        except SampleError as error:
            bad.add(error)
            continue
        if entry is not None:
            yield entry


def _files(given: str | None, limit: int | None) -> list[Path]:
    path = Path(given or "")
    found = sorted(path.glob(f"*{SUFFIX}")) if given and path.is_dir() else [path]
    if given is None or not found or not found[0].is_file():
        raise UserError(f"No {SUFFIX} file at {given or 'no path'}: give one, or the folder that holds them.")
    return found[:limit]


def _entry(path: Path, request: Request, bad: BadSamples) -> Entry | None:
    schema, document = request.schema, parse_elan(path)
    known = {str(name): str(text or "") for name, text in document.properties}
    turns, own = _turns(path, document, schema, bad)
    columns: dict[str, Any] = {"id": known.get(ITEM) or path.stem, schema.dialogue.name: turns}
    columns |= _media(path, document, schema)
    entry = Mapper(request, bad, path.parent).entry(Row(path.name, 1, columns))
    if entry is None:
        return None
    tiers = BadSamples(10**9)
    notes = [note.model_copy(update={"item": entry.item.id}) for note in read_elan([path], schema, tiers)]
    for error in tiers:
        if not (own and error.field is None and "tier '" in error.place and "@" not in error.place):
            bad.add(error)  # a tier that is a speaker's is no unknown note
    return entry._replace(annotations=tuple(notes))


def _turns(path: Path, document: Any, schema: Schema, bad: BadSamples) -> tuple[list[dict[str, Any]], bool]:
    """The turns, and whether they come from speakers' tiers rather than from the one that we write."""
    name = schema.dialogue.name
    if name not in document.tiers:
        return [cue._asdict() for cue in read_transcript(path, name, bad)], True
    cues = []
    for begin, until, text, *_ in document.tiers[name][0].values():
        speaker, _, words = str(text or "").partition(": ")
        cues.append(Cue(speaker, words, document.timeslots[begin] / 1000, document.timeslots[until] / 1000))
    ordered = sorted(cues, key=lambda cue: (cue.start, cue.end))
    untimed = {} if document.media_descriptors else {"start": None, "end": None}  # made up, to lie one after the other
    return [cue._asdict() | untimed for cue in ordered], False


def _media(path: Path, document: Any, schema: Schema) -> dict[str, Any]:
    """The linked files, each for the fields whose kind it has; a part of one lasts as long as the tiers do."""
    from pride_mm.media import MediaError, probe

    found: dict[str, Any] = {}
    for link in document.media_descriptors:
        file = _linked(path, link)
        if file is None:
            continue
        media: dict[str, Any] = {"path": str(file)}
        if link.get("TIME_ORIGIN"):
            start = int(link["TIME_ORIGIN"]) / 1000
            media |= {"start": start, "end": start + max(document.timeslots.values(), default=0) / 1000}
        try:
            info = probe(file)
        except MediaError:
            info = None  # named by whoever packs it
        for field in schema.of(None, *MEDIA):
            held = info is None or (info.video if field.kind is Kind.VIDEO else info.audio) is not None
            alone = info is not None and info.video is None and field.kind is Kind.AUDIO
            if held and (field.name not in found or alone):
                found[field.name] = media
    return found


def _linked(path: Path, link: dict[str, str]) -> Path | None:
    """A linked file: where the document says it lies from itself, else where it lay, else beside it."""
    absolute = Path(unquote(urlparse(link.get("MEDIA_URL", "")).path))
    relative = link.get("RELATIVE_MEDIA_URL")
    places = [path.parent / unquote(relative)] if relative else []
    places += [absolute, path.parent / absolute.name]
    return next((place for place in places if place.is_file()), places[0] if absolute.name or relative else None)
