"""What was measured of one item, and the journal of it.

The journal is JSON lines beside the kept items: a stopped run goes on from there, and one with other thresholds
measures nothing anew. Neither text nor pictures nor sound can be read back out of it.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as datum
from pathlib import Path
from typing import Any, Self

from pipelines.quality.marks import Mark

JOURNAL = ".measured.jsonl"
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Measured:
    """One item's.

    Attributes:
        id: the item's.
        digest: of the item, its files and the settings it was measured with.
        figures: by field and measure.
        marks: by field; what copies are found by.
        broken: why media cannot be read, by field.
    """

    id: str
    digest: str
    figures: Figures = datum(default_factory=dict)
    marks: dict[str, Mark] = datum(default_factory=dict)
    broken: dict[str, str] = datum(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the journal has it."""
        marks = {field: [_ascii(mark.exact), _ascii(mark.near)] for field, mark in self.marks.items()}
        return {
            "id": self.id,
            "digest": self.digest,
            "figures": self.figures,
            "marks": marks,
            "broken": self.broken,
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """Read back; raises ValueError, KeyError or TypeError where it is no such thing."""
        marks = {field: Mark(*(base64.b64decode(part) for part in pair)) for field, pair in raw["marks"].items()}
        return cls(str(raw["id"]), str(raw["digest"]), dict(raw["figures"]), marks, dict(raw["broken"]))


def _ascii(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Journal:
    """The measured items of earlier runs by digest, and a place to add to.

    Only where their lines begin is held in memory. The last line of a run that was killed may be half there: it is
    left out, as is any that isn't the journal's own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[bytes, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        for place, line in self._lines():
            if not line.endswith(b"\n"):
                self._file.truncate(place)
            elif (found := _read(line)) is not None:
                self._places[_key(found.digest)] = place
        self._file.seek(0, 2)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        place = 0
        for line in self._file:
            yield place, line
            place += len(line)

    def __contains__(self, digest: str) -> bool:
        return _key(digest) in self._places

    def get(self, digest: str) -> Measured:
        """What was measured under this digest; raises KeyError."""
        self._file.seek(self._places[_key(digest)])
        found = _read(self._file.readline())
        if found is None or found.digest != digest:
            raise KeyError(digest)
        return found

    def add(self, measured: Measured) -> None:
        """Add an item; it is the operating system's before this returns."""
        self._file.seek(0, 2)
        place = self._file.tell()
        self._file.write(json.dumps(measured.to_json(), separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        self._places[_key(measured.digest)] = place

    def close(self) -> None:
        self._file.close()


def _key(digest: str) -> bytes:
    return bytes.fromhex(digest)[:16]


def _read(line: bytes) -> Measured | None:
    try:
        return Measured.from_json(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
