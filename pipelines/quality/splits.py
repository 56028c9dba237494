"""What stands on both sides of a split: then a test set tells what was learnt by heart.

Asked of packed shards, whatever packed them: groups, dialogues, and recordings. Dialogues are alike as in ``alike``;
where there is a recording it decides, for actors may say the same words, and it is the same where its bytes are: those
that were encoded anew are found before packing, by ``pride gate``. Dialogues of a few words are not compared.
"""

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from dataclasses import field as datum

import numpy as np

from pipelines.overlap import words
from pipelines.quality.alike import Copies, pairs, share_equal, text_bands
from pipelines.quality.marks import text_mark
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.errors import BadSamples
from pride_mm.evaluation.audit import Check
from pride_mm.progress import Progress, silent
from pride_mm.schema import Kind, Role, Schema, Turn

SHORTEST = 8
"""Words of a dialogue; shorter ones begin alike by chance."""


def check_splits(shards: ShardSet, bad: BadSamples, progress: Progress = silent) -> list[Check]:
    """Whether a group, a dialogue or a recording is in more than one split.

    Args:
        shards: all of whose splits are read; of recordings only those whose sizes are equal.
        bad: counts samples that cannot be read.
        progress: told of every sample.
    """
    groups, dialogues, recordings = _Both(), _Dialogues(), _recordings(shards, bad)
    media = {key for keys in recordings.keys.values() for key in keys}
    total, done, groupless = sum(shards.splits.values()), 0, 0
    for split, size in shards.splits.items():
        reader = shards.samples(split, (Role.INPUT,), media=False)
        for place in range(size):
            with bad.counting():
                sample = reader[place]
                group = sample.meta.get("group")
                groupless += not group
                if group:
                    groups.add((sample.corpus, str(group)), split, sample.key)
                if sample.key not in media:
                    dialogues.add(_turns(shards.schema, sample), split, sample.key)
            done += 1
            progress(done, total, split)
    told = f"{groupless:,} samples have no group" if groupless else ""
    alike = dialogues.alike()
    return [
        Check("a group (speaker or dialogue) in two splits", f"{len(groups):,} groups", groups.found(), told),
        Check("a dialogue, or one nearly like it, in two splits", f"{len(dialogues.keys):,} dialogues", alike),
        Check("a recording in two splits", f"{len(media):,} samples with one", recordings.both.found()),
    ]


def _turns(schema: Schema, sample: Sample) -> tuple[str, ...]:
    turns = sample.inputs[schema.dialogue.name]
    return tuple(turn.text for turn in turns if isinstance(turn, Turn)) if isinstance(turns, tuple) else ()


class _Both:
    """What may be in one split only, with the first key of it in each."""

    def __init__(self) -> None:
        self._keys: dict[Hashable, dict[str, str]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, thing: Hashable, split: str, key: str) -> None:
        self._keys.setdefault(thing, {}).setdefault(split, key)

    def found(self) -> tuple[str, ...]:
        """The keys of each thing that is in more than one split."""
        return tuple(
            " and ".join(f"{key} ({split})" for split, key in places.items())
            for places in self._keys.values()
            if len(places) > 1
        )


class _Dialogues:
    """Marks of what was said, one for all samples of a split that say the same."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, str]] = []
        self._near = bytearray()
        self._known: set[tuple[str, bytes]] = set()

    def add(self, turns: tuple[str, ...], split: str, key: str) -> None:
        if sum(len(words(turn)) for turn in turns) < SHORTEST:
            return
        mark = text_mark(turns)
        if (split, mark.exact) not in self._known:
            self._known.add((split, mark.exact))
            self.keys.append((key, split))
            self._near += mark.near

    def alike(self) -> tuple[str, ...]:
        """Each dialogue that is like one of another split, beside the first such."""
        if len(self.keys) < 2:
            return ()
        marks = np.frombuffer(self._near, np.uint8).reshape(len(self.keys), -1).view("<u2")
        limit = Copies().text
        found: dict[int, int] = {}
        for first, second in pairs(text_bands(marks)):
            near = share_equal(marks, first, second) >= limit
            for one, other in zip(first[near].tolist(), second[near].tolist(), strict=True):
                if self.keys[one][1] != self.keys[other][1]:
                    found.setdefault(other, one)
        named = [(self.keys[one], self.keys[other]) for other, one in sorted(found.items())]
        return tuple(f"{one} ({split}) and {other} ({there})" for (one, split), (other, there) in named)


@dataclass
class _Recordings:
    """Which keys of each split have a recording, and the recordings by their bytes, where two may be the same."""

    keys: dict[str, list[str]] = datum(default_factory=dict)
    both: _Both = datum(default_factory=_Both)


def _recordings(shards: ShardSet, bad: BadSamples) -> _Recordings:
    """Only what has the same size as another split's is read."""
    found = _Recordings()
    fields = [field.name for field in shards.schema.of(Role.INPUT, Kind.VIDEO, Kind.AUDIO)]
    readers = {split: shards.samples(split, (Role.INPUT,)) for split in shards.splits} if fields else {}
    sizes: dict[tuple[str, int], dict[str, list[int]]] = {}
    for split, reader in readers.items():
        start = 0
        has: dict[int, None] = {}
        for shard, count in enumerate(reader.sizes):
            with bad.counting():
                lengths = reader.lengths(shard)
                for name in fields:
                    for row, size in enumerate(lengths[name].tolist() if name in lengths else ()):
                        if size:
                            sizes.setdefault((name, size), {}).setdefault(split, []).append(start + row)
                            has[start + row] = None
            start += count
        found.keys[split] = [reader.key(place) for place in has]
    for (name, _), places in sizes.items():
        if len(places) < 2:
            continue
        for split, rows in places.items():
            for row in rows:
                with bad.counting():
                    sample = readers[split][row]
                    clip = sample.inputs.get(name)
                    if isinstance(clip, bytes):
                        found.both.add((name, hashlib.sha256(clip).digest()), split, sample.key)
    return found
