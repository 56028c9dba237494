"""The tables of an mp4, read without a decoder: whether it may lie in a shard as it is, in a tenth of a millisecond.

Only the plainest of files is understood (ISO/IEC 14496-12 and -15): anything else gives None, and FFmpeg decides.
All that a table says of the file is checked against the file's size, so a truncated one is never plain.
"""

import mmap
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pride_mm.media.settings import MediaLimits

_WHOLE_PICTURES = (66, 77, 100)  # H.264's profiles of 8 bits
_UPRIGHT = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_HOLDS_SPS = 100

Table = NDArray[np.int64]


@dataclass(frozen=True)
class PlainClip:
    """What the tables of a plain mp4 say of its pictures; ``late`` is the time of the first one, in seconds."""

    width: int
    height: int
    frames: int
    seconds: float
    late: float


def read_plain(data: bytes | mmap.mmap, limits: MediaLimits) -> PlainClip | None:
    """The pictures of an mp4 that every reader reads alike; None where this file isn't clearly one.

    It has one track of H.264 with 8 bits and 4:2:0, upright, no frame hidden by an edit list, all of its
    samples within the file, and is within the limits.
    """
    try:
        return _read(memoryview(data), limits)
    except (_OddError, struct.error, ValueError, IndexError, KeyError, OverflowError):
        return None


class _OddError(Exception):
    """Not the plainest of files."""


def _require(fits: bool) -> None:
    if not fits:
        raise _OddError


_head = struct.Struct(">I4s").unpack_from
_Boxes = dict[bytes, list[memoryview]]


def _boxes(data: memoryview) -> _Boxes:
    """The boxes that lie in one, by name, in order."""
    found: _Boxes = {}
    place, end = 0, len(data)
    while place + 8 <= end:
        size, name = _head(data, place)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, place + 8)[0], 16
        elif size == 0:
            size = end - place
        if not head <= size <= end - place:
            raise _OddError
        found.setdefault(name, []).append(data[place + head : place + size])
        place += size
    return found


_NOTHING = [memoryview(b"")]


@dataclass(frozen=True)
class _Track:
    """The boxes of a track that count; an empty one where there is none."""

    kind: bytes
    header: memoryview
    media_header: memoryview
    edit: memoryview
    tables: dict[bytes, memoryview]

    @classmethod
    def of(cls, box: memoryview) -> "_Track":
        track = _boxes(box)
        media = _boxes(track.get(b"mdia", _NOTHING)[0])
        inside = _boxes(media.get(b"minf", _NOTHING)[0])
        tables = _boxes(inside.get(b"stbl", _NOTHING)[0])
        _require(all(len(bodies) == 1 for bodies in tables.values()))  # or readers could choose
        return cls(
            kind=bytes(media.get(b"hdlr", _NOTHING)[0][8:12]),
            header=track.get(b"tkhd", _NOTHING)[0],
            media_header=media.get(b"mdhd", _NOTHING)[0],
            edit=_boxes(track.get(b"edts", _NOTHING)[0]).get(b"elst", _NOTHING)[0],
            tables={name: body for name, (body,) in tables.items()},
        )


def _table(box: memoryview, columns: int, kind: str = ">u4", skip: int = 4) -> Table:
    """The rows of a box that counts them, (rows, columns)."""
    count = struct.unpack_from(">I", box, skip)[0]
    rows = np.frombuffer(box, kind, count * columns, skip + 4)
    return rows.astype(np.int64).reshape(count, columns)


def _read(data: memoryview, limits: MediaLimits) -> PlainClip | None:
    boxes = _boxes(data)
    _require(next(iter(boxes), b"") == b"ftyp" and len(boxes.get(b"moov", ())) == 1 and b"moof" not in boxes)
    movie = _boxes(boxes[b"moov"][0])
    _require(b"mvex" not in movie)
    tracks = [_Track.of(box) for box in movie.get(b"trak", ())]
    kinds = [track.kind for track in tracks]
    _require(kinds.count(b"vide") == 1 and kinds.count(b"soun") <= 1 and len(kinds) <= 3)
    for track in tracks:
        if track.kind in (b"vide", b"soun"):
            _require_samples(track.tables, len(data))
    return _pictures(tracks[kinds.index(b"vide")], _timescale(movie.get(b"mvhd", _NOTHING)[0]), limits)


def _timescale(header: memoryview) -> int:
    scale = int(struct.unpack_from(">I", header, 20 if header[0] else 12)[0])
    _require(scale > 0)
    return scale


def _require_samples(tables: dict[bytes, memoryview], size: int) -> None:
    """Each chunk of samples lies within the file."""
    fixed, count = struct.unpack_from(">II", tables[b"stsz"], 4)
    wide = b"co64" in tables
    chunks = _table(tables[b"co64" if wide else b"stco"], 1, ">u8" if wide else ">u4")[:, 0]
    runs = _table(tables[b"stsc"], 3)
    _require(count > 0 and len(chunks) > 0 and len(runs) > 0 and runs[0, 0] == 1 and bool((runs[:, 2] == 1).all()))
    each = np.repeat(runs[:, 1], np.diff(np.append(runs[:, 0], len(chunks) + 1)))
    _require(len(each) == len(chunks) and int(each.sum()) == count)
    ends = np.cumsum(each)
    if fixed:
        lengths = each * fixed
    else:
        sizes = np.concatenate([[0], np.cumsum(np.frombuffer(tables[b"stsz"], ">u4", count, 12), dtype=np.int64)])
        lengths = sizes[ends] - sizes[ends - each]
    _require(bool((chunks >= 0).all() and (chunks + lengths <= size).all()))


def _pictures(track: _Track, movie_scale: int, limits: MediaLimits) -> PlainClip:
    header, tables = track.header, track.tables
    _require(bytes(header[52 if header[0] else 40 :][:36]) == _UPRIGHT)
    width, height = _description(tables[b"stsd"])
    _require(width * height <= limits.max_pixels)
    scale = _timescale(track.media_header)
    times, length = _times(tables)
    begin, stop = _edit(track.edit, movie_scale, scale)
    first, last = int(times.min()), int(times.max())
    _require(first >= begin and (stop is None or last < stop))
    seconds = (last + length - first) / scale
    _require(0 < seconds <= limits.max_seconds)
    return PlainClip(width, height, len(times), seconds, (first - begin) / scale)


def _description(box: memoryview) -> tuple[int, int]:
    """Width and height of H.264 with 8 bits and 4:2:0; one description only, with its parameters out of band."""
    entries = _boxes(box[8:])
    _require(list(entries) == [b"avc1"] and len(entries[b"avc1"]) == 1)
    entry = entries[b"avc1"][0]
    settings = _boxes(entry[78:])[b"avcC"][-1]
    _require(settings[0] == 1 and settings[1] in _WHOLE_PICTURES)
    place = 5
    for mask in (0x1F, 0xFF):
        number, place = settings[place] & mask, place + 1
        _require(number > 0)
        for _ in range(number):
            place += 2 + int(struct.unpack_from(">H", settings, place)[0])
    if settings[1] == _HOLDS_SPS:  # the format of colours and their bits stand behind the parameters, or we don't know
        _require(settings[place] & 3 == 1 and settings[place + 1] & 7 == 0 and settings[place + 2] & 7 == 0)
    width, height = struct.unpack_from(">HH", entry, 24)
    _require(width > 0 and height > 0)
    return width, height


def _times(tables: dict[bytes, memoryview]) -> tuple[Table, int]:
    """When each sample is shown, in ticks, in the order of decoding; and how long the last one lasts."""
    fixed, count = struct.unpack_from(">II", tables[b"stsz"], 4)
    runs = _table(tables[b"stts"], 2)
    _require(fixed == 0 and int(runs[:, 0].sum()) == count and bool((runs[:, 1] > 0).all()))
    lengths = np.repeat(runs[:, 1], runs[:, 0])
    times = np.cumsum(lengths) - lengths
    if b"ctts" in tables:
        signed = tables[b"ctts"][0] == 1
        offsets = _table(tables[b"ctts"], 2, ">i4" if signed else ">u4")
        _require(bool((offsets[:, 0] >= 0).all()) and int(offsets[:, 0].sum()) == count)
        times = times + np.repeat(offsets[:, 1], offsets[:, 0])
    if b"stss" in tables:
        _require(int(_table(tables[b"stss"], 1)[0, 0]) == 1)
    return times, int(lengths[int(times.argmax())])


def _edit(box: memoryview, movie_scale: int, scale: int) -> tuple[int, int | None]:
    """From which to which tick the track is shown; one edit at most, that hides nothing and waits for nothing."""
    if not len(box):
        return 0, None
    wide = box[0] == 1
    _require(struct.unpack_from(">I", box, 4)[0] == 1)
    duration, begin, rate = struct.unpack_from(">QqI" if wide else ">IiI", box, 8)
    _require(begin >= 0 and rate == 0x10000)
    return begin, begin + -(-duration * scale // movie_scale) if duration else None
