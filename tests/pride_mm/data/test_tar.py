import hashlib
import io
import pickle
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.tar import BLOCK, index_tar, read_members, write_tar
from pride_mm.errors import SampleError

KNOWN = ("input.words.txt", "target.label.json")
SAMPLES = [("a_1", {KNOWN[0]: b"hello", KNOWN[1]: b"{}"}), ("b-2", {KNOWN[0]: b"", KNOWN[1]: b"x" * 1000})]


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "train-000000.tar"
    write_tar(path, SAMPLES)
    return path


def foreign(path: Path, *infos: tuple[str, bytes, str]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as made:
        for name, data, kind in infos:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind.encode(), len(data)
            if kind in "12":
                info.linkname, info.size = "/etc/passwd", 0
            made.addfile(info, io.BytesIO(data))
    return path


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.binary(max_size=1500), max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: dict[str, bytes]) -> None:
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    written = write_tar(path, [(key, {KNOWN[0]: value}) for key, value in data.items()])
    index = index_tar(path, KNOWN)
    assert list(index) == list(data)
    assert {key: read_members(path, index[key])[KNOWN[0]] for key in index} == data
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (written.size, written.samples) == (path.stat().st_size, len(data))


def test_other_tars_read_it_and_it_is_the_same_each_time(tar: Path, tmp_path: Path) -> None:
    listed = subprocess.run(["tar", "-tf", str(tar)], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert listed.stdout.split() == [f"{key}.{name}" for key, members in SAMPLES for name in members]
    write_tar(tmp_path / "again.tar", SAMPLES)
    assert (tmp_path / "again.tar").read_bytes() == tar.read_bytes()


def test_a_long_name_and_a_failing_writer_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name is too long"):
        write_tar(tmp_path / "long.tar", [("k" * 95, {KNOWN[0]: b""})])
    assert list(tmp_path.iterdir()) == []


def test_cut_anywhere_is_found_out(tar: Path, tmp_path: Path) -> None:
    data = tar.read_bytes()
    for length in [*range(0, len(data), 128), len(data) - 1]:
        cut = tmp_path / "cut.tar"
        cut.write_bytes(data[:length])
        with pytest.raises(SampleError, match="truncated"):
            index_tar(cut, KNOWN)


def test_a_flipped_byte_in_any_header_is_found_out(tar: Path, tmp_path: Path) -> None:
    data = tar.read_bytes()
    for place in [entry.offset - BLOCK for members in index_tar(tar, KNOWN).values() for entry in members.values()]:
        for inside in (0, 50, 125, 150, 156, 300):
            broken = bytearray(data)
            broken[place + inside] ^= 0x15
            (tmp_path / "flip.tar").write_bytes(broken)
            with pytest.raises(SampleError, match="damaged header"):
                index_tar(tmp_path / "flip.tar", KNOWN)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("a.input.words.txt", b"", "2")], "a.input.words.txt: is a link"),
        ([("a.input.words.txt", b"", "1")], "is a link"),
        ([("a.input.words.txt", b"", "5")], "not a regular file"),
        ([("../a.input.words.txt", b"x", "0")], "not named <key>"),
        ([("/abs.input.words.txt", b"x", "0")], "not named <key>"),
        ([("a.b.input.words.txt", b"x", "0")], "not named <key>"),
        ([("a.input.words.txt.gz", b"x", "0")], "not named <key>"),
        ([("a.input.words.pyd", b"x", "0")], "could run code"),
        ([("a.privileged.words.txt", b"x", "0")], "a: words: no member of this tar"),
        ([("a.input.other.txt", b"x", "0")], "a: other: no member of this tar"),
        ([("a.input.words.txt", b"x", "0")] * 2, "a: member 'input.words.txt' is there twice"),
        (
            [("a.input.words.txt", b"", "0"), ("b.input.words.txt", b"", "0"), ("a.target.label.json", b"", "0")],
            "a: the members of this sample don't lie side by side",
        ),
    ],
)
def test_what_has_no_place_in_a_shard(tmp_path: Path, members: list[tuple[str, bytes, str]], reason: str) -> None:
    path = foreign(tmp_path / "odd.tar", *members)
    with pytest.raises(SampleError, match=reason.replace("(", r"\(")) as caught:
        index_tar(path, KNOWN)
    assert str(caught.value).startswith("odd.tar")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (ran,)

    with pytest.raises(SampleError, match="could run code"):
        index_tar(foreign(tmp_path / "bomb.tar", ("a.input.words.pkl", pickle.dumps(Bomb()), "0")), KNOWN)
    disguised = foreign(tmp_path / "bomb.tar", ("a.input.words.txt", pickle.dumps(Bomb()), "0"))
    assert read_members(disguised, index_tar(disguised, KNOWN)["a"])
    assert not ran.exists()


def test_a_tar_that_shrank_after_it_was_opened(tar: Path) -> None:
    index = index_tar(tar, KNOWN)
    tar.write_bytes(tar.read_bytes()[:1024])
    with pytest.raises(SampleError, match="truncated since"):
        read_members(tar, index["b-2"])
