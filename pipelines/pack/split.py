"""Which split an item goes to: by its group, so that no speaker or dialogue is torn apart.

The split is read off a hash of the group's name alone, so it stays as it is when data are added. A
corpus's own split is kept, for all items of the group that has one.
"""

import hashlib
from typing import get_args

from pride_mm.records import Split

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
