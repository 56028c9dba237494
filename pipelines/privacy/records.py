"""The texts of a record, with whose they are: items, annotations and notes alike, and what else is JSON lines.

Of a field that the schema knows only what was freely written is a text: turns, who speaks them, and free text. Of one
that it doesn't know every string is. Paths of media are none, and neither is what only names a record.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from pride_mm.fields import Kind, Role
from pride_mm.schema import Schema

_FREE = (Kind.DIALOGUE, Kind.TEXT)
# Where a record keeps its values, and whose they are; None where only the schema says it.
_SECTIONS = {"inputs": Role.INPUT, "targets": Role.TARGET, "privileged": Role.PRIVILEGED, "values": None}
_PATH = "path"
SPEAKER = "speaker"
RECORD = "record"


class Where(NamedTuple):
    """Whose a text is: the role and the name of its field."""

    role: str
    field: str


def key_of(record: Mapping[str, Any], place: str) -> str:
    """What a record is called: the id of its item, or else its place in its file."""
    key = record.get("id") or record.get("item")
    return key if isinstance(key, str) and key.replace("-", "").replace("_", "").isalnum() else place


def holds_notes(record: Mapping[str, Any]) -> bool:
    """Whether what experts said is in it."""
    return "privileged" in record or "values" in record


def texts(record: Mapping[str, Any], schema: Schema) -> Iterator[tuple[Where, str]]:
    """Every text of a record."""
    for name, value in record.items():
        if name in _SECTIONS and isinstance(value, dict):
            for field, given in value.items():
                where = _where(name, field, schema)
                if _is_free(field, schema):
                    yield from _strings(given, where)
        elif name not in ("id", "item"):
            yield from _strings(value, Where(RECORD, name))


def replaced(record: Mapping[str, Any], schema: Schema, change: Callable[[Where, str], str]) -> dict[str, Any]:
    """The record with every text of its fields changed; what only names or groups records stays."""
    changed = dict(record)
    for name in _SECTIONS:
        if isinstance(value := record.get(name), dict):
            changed[name] = {
                field: _changed(given, _where(name, field, schema), change) if _is_free(field, schema) else given
                for field, given in value.items()
            }
    if not any(name in record for name in _SECTIONS):  # no record of ours: all of it
        changed = {
            name: value if name in ("id", "item") else _changed(value, Where(RECORD, name), change)
            for name, value in record.items()
        }
    return changed


def _where(section: str, field: str, schema: Schema) -> Where:
    known = schema.by_name.get(field)
    role = _SECTIONS[section] or (known.role if known else None)
    return Where(str(role or Role.PRIVILEGED), field if known else "(unknown)")


def _is_free(field: str, schema: Schema) -> bool:
    known = schema.by_name.get(field)
    return known is None or known.kind in _FREE


def _strings(value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part, where)
    elif isinstance(value, dict):
        for name, part in value.items():
            if name != _PATH:
                yield from _strings(part, _spoken(where, name))


def _changed(value: Any, where: Where, change: Callable[[Where, str], str]) -> Any:
    if isinstance(value, str):
        return change(where, value)
    if isinstance(value, list):
        return [_changed(part, where, change) for part in value]
    if isinstance(value, dict):
        return {n: part if n == _PATH else _changed(part, _spoken(where, n), change) for n, part in value.items()}
    return value


def _spoken(where: Where, name: str) -> Where:
    return where._replace(field=f"{where.field}: {SPEAKER}") if name == SPEAKER else where
