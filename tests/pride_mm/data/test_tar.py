import hashlib
import io
import os
import pickle
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.index import BLOCK, index_path
from pride_mm.data.tar import LARGEST_MEMBER, header, index_tar, read_members
from pride_mm.data.tar_writer import TarWriter, write_tar
from pride_mm.errors import SampleError, UserError
from pride_mm.schema import StoredFile

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
    assert {key: read_members(path, key, index[key])[KNOWN[0]] for key in index} == data
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
    assert read_members(disguised, "a", index_tar(disguised, KNOWN)["a"])
    assert not ran.exists()


def test_a_tar_that_changed_after_it_was_indexed(tar: Path) -> None:
    index, whole = index_tar(tar, KNOWN), tar.read_bytes()
    for key, members in SAMPLES:
        assert read_members(tar, key, index[key]) == members
    for entry in index["b-2"].values():
        for place in (0, 50, 110, 125, 150, 156, 300, 511):
            broken = bytearray(whole)
            broken[entry.offset - BLOCK + place] ^= 0x15
            tar.write_bytes(broken)
            with pytest.raises(SampleError, match=r"train-000000\.tar: b-2: \w+: a damaged header"):
                read_members(tar, "b-2", index["b-2"])
            assert read_members(tar, "a_1", index["a_1"]) == SAMPLES[0][1]
    with pytest.raises(SampleError, match="another tar's index"):
        read_members(tar, "b-2", index["a_1"])
    tar.write_bytes(whole[:1024])
    with pytest.raises(SampleError, match="truncated since"):
        read_members(tar, "b-2", index["b-2"])


def test_small_and_large_members_are_read_in_any_choice(tmp_path: Path) -> None:
    names = [f"input.f{number}.txt" for number in range(6)]
    sizes = [0, 700, 100_000, 40_000, 32_768, 5]
    members = {name: bytes([number + 1]) * size for number, (name, size) in enumerate(zip(names, sizes, strict=True))}
    path = tmp_path / "x.tar"
    write_tar(path, [("a", {}), ("b", members), ("c", {names[0]: b"c"})])
    index = index_tar(path, names)
    for choice in range(64):
        wanted = [name for number, name in reversed(list(enumerate(names))) if choice >> number & 1]
        found = read_members(path, "b", {name: index["b"][name] for name in wanted})
        assert list(found.items()) == [(name, members[name]) for name in wanted]


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,100}", fullmatch=True), st.integers(0, LARGEST_MEMBER))
def test_a_header_is_what_the_library_writes(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o444, 0
    assert header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


def test_what_a_header_does_not_hold() -> None:
    with pytest.raises(ValueError, match="name is too long"):
        header("k" * 101, 1)
    with pytest.raises(ValueError, match="too large for a tar"):
        header("k", LARGEST_MEMBER + 1)


def test_a_member_that_claims_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "claims.tar"
    info = tarfile.TarInfo(f"a.{KNOWN[0]}")
    info.size = 10 * 1024**3
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(SampleError, match=r"claims\.tar: a\.input\.words\.txt: truncated inside"):
        index_tar(path, KNOWN)
    with path.open("r+b") as file:
        file.truncate(1024**4)  # a hole: not a byte of it is on the disk
    with pytest.raises(SampleError, match="doesn't end as a tar does"):
        index_tar(path, KNOWN)


@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("lost", [0, 1, 700])
def test_a_writer_goes_on_where_another_was_killed(tmp_path: Path, kept: int, lost: int) -> None:
    samples = [*SAMPLES, ("c", {KNOWN[0]: b"see", KNOWN[1]: b"[]"})]
    whole, path = tmp_path / "whole.tar", tmp_path / "train-000000.tar"
    written = write_tar(whole, samples)
    with TarWriter(path) as first:
        ends = [0, *(first.append(*sample) for sample in samples)]
    assert not path.exists()
    with first.partial.open("r+b") as file:
        file.truncate(ends[kept] + lost)
    with TarWriter(path, at=ends[kept]) as second:
        assert second.samples == kept
        assert [second.append(*sample) for sample in samples[kept:]] == ends[kept + 1 :]
        assert second.close() == written
    assert path.read_bytes() == whole.read_bytes()
    assert index_path(path).read_bytes() == index_path(whole).read_bytes()
    assert sorted(tmp_path.glob("*.partial")) == []


def test_a_writer_goes_on_only_behind_a_whole_sample(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    with pytest.raises(ValueError, match=r"train-000000\.tar\.partial isn't there"):
        TarWriter(path, at=1024)
    with TarWriter(path) as first:
        end = first.append(*SAMPLES[0])
    with pytest.raises(ValueError, match="has less than"):
        TarWriter(path, at=end + 512)
    for astray in (end - 512, end - 100):
        with pytest.raises(ValueError, match="truncated"):
            TarWriter(path, at=astray)


def test_a_writer_that_is_killed_has_lost_nothing_of_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    code = (
        "import os, signal, sys, pathlib; from pride_mm.data.tar_writer import TarWriter\n"
        "tar = TarWriter(pathlib.Path(sys.argv[1]))\n"
        f"print([tar.append(f'k{{n}}', {{{KNOWN[0]!r}: b'x' * n * 999}}) for n in range(9)][-1], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    with TarWriter(path, at=int(killed.stdout)) as tar:
        tar.close()
    assert index_tar(path, KNOWN)["k8"][KNOWN[0]].size == 8 * 999


def stored(path: Path) -> StoredFile:
    about = path.stat()
    return StoredFile(str(path), about.st_size, about.st_mtime_ns)


@pytest.mark.parametrize("size", [1, 4096, (9 << 20) + 3])
def test_a_stored_file_is_the_same_as_its_bytes(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "clip").write_bytes(data)
    first, last = ("a", {KNOWN[0]: b"before"}), ("c", {KNOWN[0]: b"after", KNOWN[1]: b"{}"})
    members = {KNOWN[0]: data, KNOWN[1]: b"x" * 700}
    by_bytes = write_tar(tmp_path / "bytes.tar", [first, ("b", members), last])
    members[KNOWN[0]] = stored(tmp_path / "clip")
    by_file = write_tar(tmp_path / "file.tar", [first, ("b", members), last])
    assert by_bytes == by_file
    for suffix in ("tar", "index"):
        assert (tmp_path / f"bytes.{suffix}").read_bytes() == (tmp_path / f"file.{suffix}").read_bytes()
    assert by_file.sha256 == hashlib.sha256((tmp_path / "file.tar").read_bytes()).hexdigest()


def test_a_stored_file_that_is_another_one_by_then_is_refused_and_nothing_is_added(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(b"x" * 5000)
    was = stored(clip)
    clip.write_bytes(b"y" * 5000)
    os.utime(clip, ns=(0, was.changed + 1))
    with TarWriter(tmp_path / "t.tar") as writer:
        end = writer.append("a", {KNOWN[0]: b"1"})
        with pytest.raises(UserError, match=r"clip was changed while it was packed\. Run the same command"):
            writer.append("b", {KNOWN[0]: b"2", KNOWN[1]: was})
        clip.unlink()
        with pytest.raises(UserError, match="went away"):
            writer.append("b", {KNOWN[0]: b"2", KNOWN[1]: was})
        assert writer.append("c", {KNOWN[0]: b"3"}) == end + 1024
        writer.close()
    assert index_tar(tmp_path / "t.tar", KNOWN).order == ("a", "c")
