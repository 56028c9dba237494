"""From a row to an item and the annotations that its corpus knows, as the corpus's description says."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.sources.corpus import LINE, Corpus, Rule, first_of, render
from pipelines.sources.rows import Row
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.records import Annotation, Item, item_from_json
from pride_mm.schema import Field, Kind, Role, Schema, parse_values

MEDIA = (Kind.VIDEO, Kind.AUDIO)
_WRITTEN_AS_JSON = (Kind.CHOICES, Kind.TURN_CHOICE, Kind.SPANS)
_SPLITS = {"val": "valid", "dev": "valid", "validation": "valid", "training": "train", "testing": "test"}


class Entry(NamedTuple):
    """What a source yields: where it was found, the item, and what its corpus says of it."""

    place: str
    item: Item
    annotations: tuple[Annotation, ...] = ()


class Mapper:
    """Turns rows into entries.

    Args:
        corpus: which columns feed which fields.
        schema: the contract; a field it lacks is refused by name.
        bad: where rows that don't fit go.
        folder: where relative media paths start.
    """

    def __init__(self, corpus: Corpus, schema: Schema, bad: BadSamples, folder: Path | None = None) -> None:
        self._corpus, self._schema, self._bad, self._folder = corpus, schema, bad, folder or Path()
        named = {name: schema.get(name) for name in corpus.field}
        self._fields: dict[str, Field] = named or dict(schema.by_name)
        self._rules = dict(corpus.field) or {name: Rule(column=name) for name in schema.by_name}
        self._used = {name for rule in self._rules.values() for name in rule.columns}
        self.unused: set[str] = set()

    def check_columns(self, columns: list[str], place: str) -> None:
        """Refuse a table that lacks a column the description names."""
        present = {self._corpus.aliases.get(name, name) for name in columns}
        missing = sorted(self._corpus.wanted - present)
        if missing:
            raise UserError(
                f"{place} has no column {', '.join(missing)} (it has: {', '.join(columns)}). "
                f"Is it a manifest of '{self._corpus.corpus}'? Else describe it in a TOML like those in configs/corpus."
            )

    def entry(self, row: Row) -> Entry | None:
        """One row as an entry; None, and counted, where it is refused."""
        columns = self._columns(row)
        if columns is None:
            return None
        key, group = first_of(self._corpus.id, columns), first_of(self._corpus.group, columns)
        if key is None or group is None:
            what, templates = ("id", self._corpus.id) if key is None else ("group", self._corpus.group)
            self._bad.add(SampleError(row.place, None, f"no {what}: empty or missing {' or '.join(templates)}"))
            return None
        values, refused = self._values(columns)
        for name, reason in refused:
            self._bad.add(SampleError(row.place, name, reason))
        if refused:
            return None
        return self._records(row.place, key, group, self._split(columns), values)

    def _columns(self, row: Row) -> dict[str, Any] | None:
        columns: dict[str, Any] = {}
        for given, value in row.columns.items():
            name = self._corpus.aliases.get(given, given)
            if isinstance(value, str) and not value.isascii() and _is_broken(value):
                self._bad.add(SampleError(row.place, name, "not UTF-8"))
                return None
            try:
                columns[name] = self._corpus.columns[name].mend(value) if name in self._corpus.columns else value
            except ValueError as error:
                self._bad.add(SampleError(row.place, name, str(error)))
                return None
        self.unused |= columns.keys() - self._used
        return {**columns, LINE: row.line}

    def _split(self, columns: dict[str, Any]) -> str | None:
        given = first_of(self._corpus.split, columns)
        return None if given is None else _SPLITS.get(given.lower(), given)

    def _values(self, columns: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        values: dict[str, Any] = {}
        refused: list[tuple[str, str]] = []
        for name, rule in self._rules.items():
            if any(str(columns.get(column)) not in allowed for column, allowed in rule.when.items()):
                continue
            raw = render(rule.template, columns) if rule.template else columns.get(str(rule.column))
            if raw is None or raw == "":
                continue
            try:
                values[name] = self._read(self._fields[name], rule, raw, columns)
            except ValueError as error:
                refused.append((name, str(error)))
        return values, refused

    def _read(self, field: Field, rule: Rule, raw: Any, columns: dict[str, Any]) -> Any:
        if field.kind in MEDIA:
            return self._media(rule, raw, columns)
        if not isinstance(raw, str):
            return raw
        if field.kind is Kind.DIALOGUE:
            return _json(raw) if raw.lstrip().startswith("[") else [{"speaker": rule.speaker, "text": raw}]
        if field.kind is Kind.SCALE:
            return int(raw)
        return _json(raw) if field.kind in _WRITTEN_AS_JSON else raw

    def _media(self, rule: Rule, raw: Any, columns: dict[str, Any]) -> dict[str, Any]:
        media = dict(raw) if isinstance(raw, dict) else {"path": str(raw)}
        for bound, column in (("start", rule.start), ("end", rule.end)):
            if column is not None and columns.get(column) not in (None, ""):
                media[bound] = float(columns[column])
        given = str(media.get("path", ""))
        path = self._folder / given
        if not path.is_file():
            raise ValueError(f"no such file: {given}")
        if path.stat().st_size == 0:
            raise ValueError(f"an empty file: {given}")
        return {**media, "path": os.path.abspath(path)}

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


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None


def _is_broken(text: str) -> bool:
    return any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
