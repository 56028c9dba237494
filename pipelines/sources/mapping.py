"""From a row to an item and the annotations that its corpus knows, as the corpus's description says."""

import glob
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.sources import Request
from pipelines.sources.corpus import LINE, BadColumn, Rule
from pipelines.sources.documents import read_documents
from pipelines.sources.rows import Row
from pipelines.sources.templates import SPLIT_NAMES, first_of, render
from pipelines.sources.transcripts import read_transcript
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import write_bytes
from pride_mm.records import Annotation, Item, item_from_json
from pride_mm.schema import Field, Kind, Role, parse_values

MEDIA = (Kind.VIDEO, Kind.AUDIO)
FOLDER = "media"  # in the folder of the items, for media that had no file of their own
_WRITTEN_AS_JSON = (Kind.CHOICES, Kind.TURN_CHOICE, Kind.SPANS)
_SUFFIXES = {Kind.VIDEO: ".mp4", Kind.AUDIO: ".wav"}


class Entry(NamedTuple):
    """What a source yields: where it was found, the item, and what its corpus says of it."""

    place: str
    item: Item
    annotations: tuple[Annotation, ...] = ()


class Mapper:
    """Turns rows into entries.

    Args:
        request: its corpus says which columns feed which fields; a field that its schema lacks is refused by name.
        bad: where rows that don't fit go.
        folder: where the corpus's relative paths start.
    """

    def __init__(self, request: Request, bad: BadSamples, folder: Path | None = None) -> None:
        self._corpus, self._schema, self._bad = request.corpus, request.schema, bad
        self._folder = (folder or Path()) / request.corpus.media
        self._made = request.out / FOLDER
        self._sections = {rule.section for rule in request.corpus.field.values() if rule.section is not None}
        named = {name: self._schema.get(name) for name in self._corpus.field}
        self._fields: dict[str, Field] = named or dict(self._schema.by_name)
        self._rules = dict(self._corpus.field) or {name: Rule(column=(name,)) for name in self._schema.by_name}

    def check_columns(self, columns: list[str], place: str) -> None:
        """Refuse a table that lacks a column the description names."""
        present = {self._corpus.aliases.get(name, name) for name in columns}
        # what is inside of a column shows only in its rows
        missing = sorted(name for name in self._corpus.wanted - present if name.partition(".")[0] not in present)
        if missing:
            raise UserError(
                f"{place} has no column {', '.join(missing)} (it has: {', '.join(columns)}). "
                f"Is it a manifest of '{self._corpus.corpus}'? Else describe it in a TOML like those in configs/corpus."
            )

    def entry(self, row: Row) -> Entry | None:
        """One row as an entry; None, and counted, where it is refused."""
        try:
            columns = self._corpus.named(row.columns)
        except BadColumn as error:
            self._bad.add(SampleError(row.place, error.column, error.reason))
            return None
        return self.mapped(row._replace(columns=columns))

    def mapped(self, row: Row) -> Entry | None:
        """The same for a row whose columns bear the corpus's names and are mended."""
        columns = {**row.columns, LINE: row.line}
        key, group = first_of(self._corpus.id, columns), first_of(self._corpus.group, columns)
        if key is None or group is None:
            what, templates = ("id", self._corpus.id) if key is None else ("group", self._corpus.group)
            self._bad.add(SampleError(row.place, None, f"no {what}: empty or missing {' or '.join(templates)}"))
            return None
        values, refused = self._values(key, columns)
        for name, reason in refused:
            self._bad.add(SampleError(row.place, name, reason))
        if refused:
            return None
        return self._records(row.place, key, group, self._split(columns), values)

    def _split(self, columns: dict[str, Any]) -> str | None:
        given = first_of(self._corpus.split, columns)
        return None if given is None else SPLIT_NAMES.get(given.lower(), given)

    def _values(self, key: str, columns: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        values: dict[str, Any] = {}
        refused: list[tuple[str, str]] = []
        for name, rule in self._rules.items():
            if any(str(columns.get(column)) not in allowed for column, allowed in rule.when.items()):
                continue
            try:
                value = self._value(self._fields[name], rule, key, columns)
            except ValueError as error:
                refused.append((name, str(error)))
                continue
            if value is not None and value != "":
                values[name] = value
        return values, refused

    def _value(self, field: Field, rule: Rule, key: str, columns: dict[str, Any]) -> Any:
        if rule.file is not None:
            return self._from_files(field, rule, columns)
        if rule.template is not None:
            raw: Any = render(rule.template, columns)
        else:
            raw = next((columns[name] for name in rule.column if columns.get(name) not in (None, "")), None)
        if raw is None or raw == "":
            return None
        if field.kind in MEDIA:
            return self._media(field, rule, raw, key, columns)
        if not isinstance(raw, str):
            return raw
        if field.kind is Kind.DIALOGUE:
            return _json(raw) if raw.lstrip().startswith("[") else [{"speaker": rule.speaker, "text": raw}]
        if field.kind is Kind.SCALE:
            return _whole(raw)
        return _json(raw) if field.kind in _WRITTEN_AS_JSON else raw.strip()

    def _media(self, field: Field, rule: Rule, raw: Any, key: str, columns: dict[str, Any]) -> dict[str, Any] | None:
        media = dict(raw) if isinstance(raw, dict) else {"path": raw}
        data = media.pop("bytes", None) if isinstance(raw, dict) else (raw if isinstance(raw, bytes) else None)
        if data is not None:
            named = Path(str(media.get("path") or "") if isinstance(raw, dict) else "").suffix.lower()
            path = self._made / f"{key}.{field.name}{named or _SUFFIXES[field.kind]}"
            write_bytes(path, data)
            return {"path": os.path.abspath(path)}
        for bound, column in (("start", rule.start), ("end", rule.end)):
            if column is not None and columns.get(column) not in (None, ""):
                media[bound] = float(columns[column])
        given = str(media.get("path", ""))
        found = self._found(rule, self._folder / given, given)
        return None if found is None else {**media, "path": found}

    def _found(self, rule: Rule, path: Path, given: str) -> str | None:
        """The absolute path of a media file that is there and holds something."""
        if not path.is_file():
            if rule.optional and not path.parent.is_dir():
                return None
            raise ValueError(f"no such file: {given}")
        if path.stat().st_size == 0:
            raise ValueError(f"an empty file: {given}")
        return os.path.abspath(path)

    def _from_files(self, field: Field, rule: Rule, columns: dict[str, Any]) -> Any:
        """What the files that match hold; None where there are none, which for media needs ``optional``."""
        escaped = {name: glob.escape(str(value)) if value is not None else None for name, value in columns.items()}
        pattern = render(str(rule.file), escaped)
        if pattern is None:
            return None
        paths = [Path(path) for path in sorted(glob.glob(str(Path(glob.escape(str(self._folder))) / pattern)))]
        if field.kind in MEDIA:
            if len(paths) > 1:
                raise ValueError(f"{len(paths)} files where one is meant: {', '.join(path.name for path in paths[:3])}")
            given = render(str(rule.file), columns) or ""
            found = self._found(rule, paths[0] if paths else self._folder / given, given)
            return None if found is None else {"path": found}
        if not paths:
            return None
        if field.kind is Kind.DIALOGUE:
            turns = [cue._asdict() for path in paths for cue in read_transcript(path, rule.speaker, self._bad)]
            return turns or None
        return read_documents(paths, rule.section, self._sections)

    def _records(self, place: str, key: str, group: str, split: str | None, values: dict[str, Any]) -> Entry | None:
        by_role: dict[Role, dict[str, Any]] = {role: {} for role in Role}
        for name, value in values.items():
            by_role[self._fields[name].role][name] = value
        raw = {"id": key, "corpus": self._corpus.corpus, "group": group, "split": split}
        inputs, targets = by_role[Role.INPUT], by_role[Role.TARGET]
        item = item_from_json({**raw, "inputs": inputs, "targets": targets}, self._schema, place, self._bad)
        if item is None:
            return None
        turns = inputs[self._schema.dialogue.name]
        known, refused = parse_values(self._schema.privileged, by_role[Role.PRIVILEGED], len(turns))
        for name, reason in refused:
            self._bad.add(SampleError(place, name, reason))
        if refused:
            return None
        said = Annotation(item=item.id, annotator=self._corpus.annotator, origin=self._corpus.origin, values={})
        return Entry(place, item, (said.model_copy(update={"values": known}),) if known else ())


def _whole(text: str) -> int:
    """A whole number, also one that a table wrote as 2.0; its message shows nothing of what was given."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("not a whole number") from None
    if not number.is_integer():
        raise ValueError("not a whole number")
    return int(number)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
