"""Memory that is free but held."""

import sys
from pathlib import Path

import pytest
import torch

from pride_mm.memory import give_back_freed_memory

BLOCK, BLOCKS = 64 << 10, 3000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_what_lies_free_between_what_is_used_goes_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(BLOCKS)]
    kept = blocks[::50]
    full = resident()
    del blocks
    give_back_freed_memory()
    assert full - resident() > 0.9 * BLOCK * (BLOCKS - len(kept))
    assert all(bool(block.all()) for block in kept)
