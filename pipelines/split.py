"""Which split an item goes to: by its group, so that no speaker or dialogue is torn apart.

The split is read off a hash of the group's name alone, so it stays as it is when data are added. A
corpus's own split is kept, for all items of the group that has one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import get_args

from pride_mm.errors import BadSamples, SampleError
from pride_mm.records import Item, Split

SPLITS: tuple[Split, ...] = get_args(Split)
SHARES: dict[Split, float] = {"train": 0.8, "valid": 0.1, "test": 0.1}


def split_of(group: str) -> Split:
    """The split of a group that has none of its own."""
    place = int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return SPLITS[-1]


def assign_splits(items: Sequence[Item], bad: BadSamples) -> dict[str, Split]:
    """The split of each item by id; items of a group with more than one split of its own are bad."""
    own: dict[tuple[str, str], set[Split]] = {}
    for item in items:
        given = own.setdefault((item.corpus, item.group), set())
        if item.split is not None:
            given.add(item.split)
    assigned: dict[str, Split] = {}
    for item in items:
        given = own[item.corpus, item.group]
        if len(given) > 1:
            bad.add(SampleError(item.id, None, f"group '{item.group}' is torn over {_named(given)}; give it one split"))
        else:
            assigned[item.id] = min(given) if given else split_of(item.group)
    return assigned


def _named(splits: Iterable[Split]) -> str:
    return " and ".join(sorted(splits, key=SPLITS.index))
