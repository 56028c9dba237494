"""Teaching by two real processes: the same cache by bytes, and one line where one of them goes."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pride_mm.errors import UserError
from pride_mm.teacher.ranks import ALONE, Ranks, join_ranks

PRIDE = Path(sys.executable).with_name("pride")
LEAVES = """
from pride_mm.teacher.ranks import join_ranks
with join_ranks() as ranks:
    assert ranks.gather(ranks.rank) == [0, 1]
    print(ranks.gather("ü" * ranks.rank * 1000) == ["", "ü" * 1000])
    if ranks.rank == 0:
        ranks.gather("there?")
"""


def start(*command: str | Path) -> list[subprocess.Popen[str]]:
    """The same command in two processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            command,
            env={**os.environ, **world, "RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]


def test_two_ranks_leave_what_one_leaves(taught: Path, bare_shards: Path, small_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bare_shards, tmp_path / "shards"))
    given = ["--max-prompt", "1024", "--max-response", "12", "--top-k", "16"]
    processes = start(PRIDE, "teach", folder, "--model", small_model, *given)
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "16 of 16 samples scored" in said[0][0]
    assert said[1] == ("", "")
    for tar in taught.glob("*.tar"):
        assert tar.read_bytes() == (folder / tar.name).read_bytes(), tar.name
    shared, alone = (json.loads((place / "teacher.json").read_text()) for place in (folder, taught))
    assert shared == alone | {"teacher": str(small_model)}


def test_who_waits_for_one_that_ended_says_so() -> None:
    processes = start(sys.executable, "-c", LEAVES)
    first, second = (process.communicate(timeout=300) for process in processes)
    assert [process.returncode for process in processes] == [1, 0], (first, second)
    assert first[0] == second[0] == "True\n"
    assert "UserError: Another of these processes has ended before all were done" in first[1]


def test_each_shard_is_one_ranks() -> None:
    shards = list(range(11))
    parts = [Ranks(rank, 4).mine(shards) for rank in range(4)]
    assert sorted(shard for part in parts for shard in part) == shards
    assert {len(part) for part in parts} == {2, 3}
    assert ALONE.mine(shards) == shards
    assert ALONE.gather({"one": [1, None, "ü"]}) == [{"one": [1, None, "ü"]}]


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join_ranks() as ranks:
        assert ranks == ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"RANK, MASTER_PORT doesn't say.*torchrun"), join_ranks():
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(UserError, match="but MASTER_ADDR doesn't say"), join_ranks():
        pass
