import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from pride_mm.data.index import BLOCK, Entry, Index, IndexBuilder, index_path
from pride_mm.data.tar import index_tar
from pride_mm.data.tar_writer import write_tar
from pride_mm.errors import SampleError

WORDS, LABEL = "input.words.txt", "target.label.json"
SAMPLES = [("a_1", {WORDS: b"hello", LABEL: b"{}"}), ("b-2", {LABEL: b"x" * 1000}), ("c", {WORDS: b""})]


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "train-000000.privileged.tar"
    write_tar(path, SAMPLES)
    return path


def same(one: Index, other: Index) -> bool:
    columns = all(np.array_equal(getattr(one, c), getattr(other, c)) for c in ("offsets", "sizes", "crcs"))
    return columns and (one.suffixes, one.order, one.tar_size) == (other.suffixes, other.order, other.tar_size)


def test_the_writers_index_is_what_a_walk_finds(tar: Path) -> None:
    path = index_path(tar)
    assert path.name == "train-000000.privileged.index"
    index = Index.load(path)
    assert same(index, index_tar(tar, (WORDS, LABEL)))
    assert list(index) == ["a_1", "b-2", "c"]
    assert index.fits(tar.stat().st_size, index.sha256)
    assert not index.fits(tar.stat().st_size + 512)
    assert not index.fits(tar.stat().st_size, "0" * 64)
    assert index["b-2"] == index.at(1)
    assert index.at(1)[LABEL].size == 1000
    assert set(index["c"]) == {WORDS}
    assert index["a_1"][WORDS] == Entry(BLOCK, 5, index.crcs[0, 0])


def test_an_empty_tar_has_an_index(tmp_path: Path) -> None:
    write_tar(tmp_path / "none.tar", [])
    index = Index.load(tmp_path / "none.index")
    assert (list(index), index.suffixes, index.tar_size) == ([], (), 1024)
    index.check("none.tar", (WORDS,), {WORDS: None})


def edited(change: Callable[[dict[str, Any], dict[str, Any]], None], path: Path) -> None:
    data = path.read_bytes()
    columns, head = load(data), json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(head["__metadata__"]["index"])
    columns = {name: column.copy() for name, column in columns.items()}
    change(columns, about)
    path.write_bytes(save(columns, {"index": json.dumps(about)}))


def test_what_is_no_index_is_refused(tar: Path) -> None:
    path = index_path(tar)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not an index"):
            Index.load(path)
    changes: list[Callable[[dict[str, Any], dict[str, Any]], None]] = [
        lambda columns, about: columns.pop("sizes"),
        lambda columns, about: columns.update(sizes=columns["sizes"][:2]),
        lambda columns, about: columns.update(sizes=columns["sizes"].astype(np.float64)),
        lambda columns, about: columns["keys"].__setitem__(0, ord("/")),
        lambda columns, about: columns.update(keys=columns["keys"][:-2]),
        lambda columns, about: about.update(samples=4),
        lambda columns, about: about.update(format=9),
        lambda columns, about: about.update(suffixes=3),
        lambda columns, about: about.pop("tar_size"),
    ]
    for change in changes:
        path.write_bytes(whole)
        edited(change, path)
        with pytest.raises(ValueError, match="not an index"):
            Index.load(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("offsets", 0), ("offsets", -5), ("offsets", 2**62), ("sizes", 10 * 1024**3), ("sizes", 2**63 - 1)],
)
def test_an_index_points_into_its_tar_only(tar: Path, column: str, value: int) -> None:
    edited(lambda columns, about: columns[column].__setitem__((1, 1), value), index_path(tar))
    with pytest.raises(ValueError, match="past the end"):
        Index.load(index_path(tar))


def test_members_that_may_not_be_there_or_are_missing(tar: Path) -> None:
    index = Index.load(index_path(tar))
    index.check(tar.name, (WORDS, LABEL), {})
    with pytest.raises(
        SampleError, match=r"privileged\.tar: a_1: words: no member of this tar is called.*allowed: target"
    ):
        index.check(tar.name, (LABEL,), {})
    with pytest.raises(SampleError, match=r"privileged\.tar: b-2: words: member 'input.words.txt' is missing"):
        index.check(tar.name, (WORDS, LABEL), {WORDS: "words"})
    with pytest.raises(SampleError, match="a_1: more: member"):
        index.check(tar.name, (WORDS, LABEL), {"input.more.txt": "more"})


def test_a_hundred_thousand_members(tmp_path: Path) -> None:
    builder = IndexBuilder()
    for row in range(25_000):
        builder.sample(f"k{row}")
        for column in range(4):
            builder.member(f"input.f{column}.txt", BLOCK + 2048 * row + 512 * column, 9, row)
    made = builder.build(25_001 * 2048)
    made.save(tmp_path / "x.index")
    loaded = Index.load(tmp_path / "x.index")
    assert same(made, loaded)
    assert loaded["k24999"]["input.f3.txt"] == Entry(BLOCK + 2048 * 24_999 + 1536, 9, 24_999)
    # a table of numbers, not a tree of objects
    assert (tmp_path / "x.index").stat().st_size < 25 * 100_000
