"""Files and shards that were broken, cut off or made to harm, packed, checked and streamed.

Each is named with tar, key and field, counted, and bounded by a setting; none stops what goes on around it.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.look.check import check
from pipelines.pack import pack
from pipelines.workers import Workers, processes
from pride_mm.data.batches import Batches
from pride_mm.data.collate import Collator, InputCollator
from pride_mm.data.corpora import Corpora
from pride_mm.data.index import index_path
from pride_mm.data.loader import Loader
from pride_mm.data.manifest import MANIFEST
from pride_mm.data.mix import Mix
from pride_mm.data.shards import ShardSet, open_index
from pride_mm.data.tar import file_sha256, read_members
from pride_mm.data.tar_writer import write_tar
from pride_mm.errors import TooManyBadSamples, UserError

Members = dict[str, bytes]
TAR = "train-000000.tar"


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A copy of the good shards, to be broken."""
    return Path(shutil.copytree(packed, tmp_path / "shards"))


@pytest.fixture
def key(shards: Path) -> str:
    """A sample in the first tar that has a clip and sound."""
    index = open_index(shards / TAR, ShardSet.open(shards).schema, "")
    return next(key for key in index if "input.video.mp4" in index[key])


def record(folder: Path, tar: str) -> None:
    """Let the manifest say what the tar now is, as a harmful sender would."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    name, _, added = tar.removesuffix(".tar").partition(".")
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            if shard["name"] == name:
                path = folder / tar
                shard["tars"][f".{added}" if added else ""] = {
                    "sha256": file_sha256(path),
                    "size": path.stat().st_size,
                }
    (folder / MANIFEST).write_text(json.dumps(manifest))


def change(folder: Path, key: str, members: dict[str, bytes | None], tar: str = TAR) -> None:
    """Put other members into one sample; None takes one out."""
    path = folder / tar
    added = tar.removesuffix(".tar").partition(".")[2]
    index = open_index(path, ShardSet.open(folder).schema, f".{added}" if added else "")
    samples = []
    for one, entries in index.items():
        held: dict[str, bytes | None] = dict(read_members(path, one, entries))
        samples.append((one, {n: d for n, d in (held | (members if one == key else {})).items() if d is not None}))
    write_tar(path, samples)
    record(folder, tar)


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    """Processes that outlive a test: each folder is looked at once by them, they keep its files open."""
    with processes(1) as made:
        yield made


def found(folder: Path, pool: Workers | None = None) -> list[str]:
    return [str(finding) for finding in check(folder, pool=pool).findings]


@pytest.fixture(scope="module")
def stream(small_model: Path) -> Callable[..., Loader[Any]]:
    """The batches of a folder as training reads them: text tokenised, clips and sound decoded."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small_model)

    def opened(folder: Path, max_bad: int = 1000) -> Loader[Any]:
        shards = ShardSet.open(folder)
        corpora = Corpora([(shards.samples("train"), 1.0)])
        collate = Collator(InputCollator(shards.schema, tokenizer))
        return Loader(corpora, collate, Batches(Mix(corpora.described, 0), 3), max_bad=max_bad)

    return opened


def streamed(loader: Loader[Any]) -> tuple[set[str], list[str]]:
    """The keys that an epoch gives, and what it says of the others."""
    return {key for batch in loader for key in batch.keys}, [str(bad) for bad in loader.bad]


def member(info: tarfile.TarInfo) -> Callable[[Path], None]:
    """Put one more member before the others of a tar."""

    def put(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(
            info.tobuf(tarfile.USTAR_FORMAT) + bytes(-(-info.size // 512) * 512 if info.size < 4096 else 0) + data
        )

    return put


def info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, link
    return made


def cut(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes()[:at])


TARS = {
    "truncated": (lambda path: cut(path, path.stat().st_size // 2), "truncated"),
    "truncated on a border": (lambda path: cut(path, 512 * 3), "truncated|damaged"),
    "half a header": (lambda path: cut(path, path.stat().st_size - 1300), "truncated|damaged"),
    "empty": (lambda path: cut(path, 0), "truncated"),
    "upwards": (member(info("../../etc/x.input.video.mp4")), "not named <key>"),
    "absolute": (member(info("/etc/x.input.video.mp4")), "not named <key>"),
    "a symbolic link": (member(info("x.input.video.mp4", 0, tarfile.SYMTYPE, "/etc/passwd")), "is a link"),
    "a hard link": (member(info("x.input.video.mp4", 0, tarfile.LNKTYPE, "y")), "is a link"),
    "a device": (member(info("x.input.video.mp4", 0, tarfile.CHRTYPE)), "not a regular file"),
    "a pickle": (member(info("x.input.video.pkl", 3)), "could run code"),
    "10 GB claimed": (member(info("x.input.video.mp4", 8 * 2**30 - 1)), "truncated inside this member"),
}


@pytest.mark.parametrize("name", TARS)
@pytest.mark.parametrize("honest", [False, True])
def test_a_tar(shards: Path, pool: Workers, stream: Callable[..., Loader[Any]], name: str, honest: bool) -> None:
    """Whether or not the manifest was made to fit, and with an index beside it that still says all is well."""
    harm, reason = TARS[name]
    inside = set(open_index(shards / TAR, ShardSet.open(shards).schema, ""))
    every = set(ShardSet.open(shards).samples("train").keys)
    harm(shards / TAR)
    if honest:
        record(shards, TAR)
    named = [line for line in found(shards, pool) if line.startswith(TAR)]
    assert any(re.search(reason, line) for line in named), named
    assert honest or any("was packed with" in line or "sha256" in line for line in named)
    if not honest:
        with pytest.raises(UserError, match=rf"{TAR} has [\d,]+ bytes, was packed with"):
            stream(shards)
        return
    given, left_out = streamed(stream(shards))
    assert given == every - inside
    assert len(left_out) == len(inside)
    assert all(line.startswith(TAR) for line in left_out)
    with pytest.raises(TooManyBadSamples, match="are allowed"):
        streamed(stream(shards, max_bad=len(inside) - 1))


def made(tmp_path: Path, *options: str, name: str = "made.mp4") -> bytes:
    path = tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options, str(path)], check=True)
    return path.read_bytes()


CLIPS: dict[str, tuple[str, Callable[[Path, bytes], bytes], str]] = {
    "truncated": ("input.video.mp4", lambda _, clip: clip[: len(clip) // 2], "read|truncated|decode"),
    "no moov": ("input.video.mp4", lambda _, clip: clip.replace(b"moov", b"moox"), "cannot be read|holds neither"),
    "zero bytes": ("input.video.mp4", lambda _, clip: bytes(len(clip)), "cannot be read"),
    "nothing": ("input.video.mp4", lambda *_: b"", "empty"),
    "text": ("input.video.mp4", lambda *_: b"this is no clip " * 99, "cannot be read"),
    "wrong extension": (
        "input.video.mp4",
        lambda path, _: made(path, "-f", "lavfi", "-i", "testsrc2=size=64x64:duration=1", name="m.mkv"),
        "is matroska called .mp4",
    ),
    "sound only": (
        "input.video.mp4",
        lambda path, _: made(path, "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"),
        "has no pictures",
    ),
    "pictures only": (
        "input.audio.flac",
        lambda path, _: made(path, "-f", "lavfi", "-i", "testsrc2=size=64x64:duration=1"),
        "has no sound",
    ),
    "stereo": (
        "input.audio.flac",
        lambda path, _: made(path, "-f", "lavfi", "-i", "sine=r=16000:d=1", "-ac", "2", name="s.flac"),
        "2 channels",
    ),
    "8K": (
        "input.video.mp4",
        lambda path, _: made(
            path, "-f", "lavfi", "-i", "color=size=7680x4320:rate=2:duration=1", "-preset", "ultrafast", "-threads", "1"
        ),
        "pixels|was packed with",
    ),
    "an hour": (
        "input.audio.flac",
        lambda path, _: made(path, "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "3600", name="h.flac"),
        "lasts 3600|is 3600",
    ),
}


# What lies in a shard as it should not, but gives the student what it asks for.
DECODED = ("stereo", "an hour")


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip(
    shards: Path, pool: Workers, stream: Callable[..., Loader[Any]], key: str, tmp_path: Path, name: str
) -> None:
    suffix, make, reason = CLIPS[name]
    path = shards / TAR
    clip = read_members(path, key, open_index(path, ShardSet.open(shards).schema, "")[key])[suffix]
    change(shards, key, {suffix: make(tmp_path, clip)})
    named = found(shards, pool)
    assert named
    assert all(line.startswith(f"{TAR}: {key}: {suffix.split('.')[1]}: ") for line in named), named
    assert any(re.search(reason, line) for line in named), named
    given, left_out = streamed(stream(shards))
    assert len(given) + len(left_out) == sum(ShardSet.open(shards).samples("train").sizes)
    if name in DECODED:
        assert (key in given, left_out) == (True, [])
    else:
        assert [line.startswith(f"{TAR}: {key}: {suffix.split('.')[1]}: ") for line in left_out] == [True], left_out


MENDED = ("wrong extension", "stereo")


def test_packing_such_files(
    clip_items: list[dict[str, Any]],
    schema: Any,
    write_lines: Callable[..., Path],
    stream: Callable[..., Loader[Any]],
    tmp_path: Path,
) -> None:
    """What cannot be mended is left out by name, the words beside it are kept, and training reads what was packed."""
    good = clip_items[1]
    clip = Path(good["inputs"]["video"]["path"]).read_bytes()
    items = [good]
    for name, (suffix, make, _) in CLIPS.items():
        field, file = suffix.split(".")[1], f"{name}.{suffix.split('.')[2]}"
        (tmp_path / file).write_bytes(make(tmp_path, clip))
        inputs = {"dialogue": good["inputs"]["dialogue"], field: {"path": file}}
        items.append({**good, "id": name.replace(" ", "_"), "inputs": inputs})
    given, broken = write_lines(tmp_path / "items.jsonl", items), [name for name in CLIPS if name not in MENDED]
    result = pack([given], schema, tmp_path / "shards", max_bad=len(broken), workers=1)
    named = {str(bad).split(":")[0]: str(bad) for bad in result.bad}
    assert set(named) == {name.replace(" ", "_") for name in broken}
    for name in broken:
        suffix, _, reason = CLIPS[name]
        line = named[name.replace(" ", "_")]
        assert line.startswith(f"{name.replace(' ', '_')}: {suffix.split('.')[1]}: {name}."), line
        assert re.search(reason, line), line
    assert streamed(stream(tmp_path / "shards")) == ({item["id"] for item in items}, [])
    with pytest.raises(TooManyBadSamples, match=f"{len(broken)} bad samples, {len(broken) - 1} are allowed"):
        pack([given], schema, tmp_path / "again", max_bad=len(broken) - 1, workers=1)


def test_what_was_packed_and_is_gone(shards: Path, key: str) -> None:
    change(shards, key, {"input.video.mp4": None})
    assert found(shards) == [f"{TAR}: {key}: video: is missing, but was packed"]


def test_a_key_that_is_missing_in_json(shards: Path, key: str) -> None:
    change(shards, key, {"target.emotion.json": b'{"value":"sad"}', "meta.item.json": b'{"corpus":"real"}'})
    named = found(shards)
    assert any(line.startswith(f"{TAR}: {key}: emotion: ") for line in named)
    assert any(line.startswith(f"{TAR}: {key}: 'meta.item.json'") for line in named)


def test_an_index_that_lies(shards: Path) -> None:
    """It has the right size and hash, but says that a sample lies elsewhere."""
    from pride_mm.data.index import Index

    path = index_path(shards / TAR)
    index = Index.load(path)
    index.offsets = index.offsets.copy()
    index.offsets[0] = index.offsets[1]
    index.save(path)
    assert any(line.startswith(f"{path.name}: doesn't say what lies in") for line in found(shards))
    path.write_bytes(b"junk")
    assert any(line.startswith(f"{path.name}: not an index") for line in found(shards))
    path.unlink()
    assert found(shards) == []


def test_notes_that_stand_in_the_inputs(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "Since the operation last winter she hides from everybody that she is afraid of dying soon."
    tar = next(
        p.name.replace(".privileged", "") for p in shards.glob("*.privileged.tar") if b"mosi_1." in p.read_bytes()
    )
    turns = {"speakers": ["a"], "texts": [f"Well. {secret}"], "starts": [-1.0], "ends": [-1.0]}
    change(shards, "mosi_1", {"input.dialogue.json": json.dumps(turns).encode()}, tar)
    notes = tar.replace(".tar", ".privileged.tar")
    change(shards, "mosi_1", {"privileged.situation.txt": secret.encode()}, notes)
    report = shards.parent / "findings.jsonl"
    assert run(["check", str(shards), "--report", str(report)]) == 1
    said = capsys.readouterr()
    listed = [json.loads(line) for line in report.read_text().splitlines()]
    leak = {
        "kind": "leak",
        "tar": tar,
        "key": "mosi_1",
        "field": "situation",
        "reason": "stands in the inputs word for word",
    }
    assert leak in listed
    assert "situation: 1 of 1 notes stand in the inputs" in said.out
    assert "operation" not in said.out + said.err + report.read_text()
    assert run(["check", str(shards), "--max-leaks", "1"]) == 0


def test_findings_are_bounded_on_screen_and_all_in_the_report(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.cli.shards._SHOWN", 2)
    for number in range(7):
        (shards / f"stray-{number:06d}.tar").write_bytes(b"")
    report = tmp_path / "findings.jsonl"
    assert run(["check", str(shards), "--report", str(report)]) == 1
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3
    assert "... and 5 more, all in" in shown[-1]
    assert len(report.read_text().splitlines()) == 7


def test_a_tar_of_100_000_members(
    tmp_path: Path, pool: Workers, schema: Any, stream: Callable[..., Loader[Any]]
) -> None:
    """12,500 samples of text: every one is looked at, and memory is that of one."""
    from pride_mm.data.members import META, encode_value, is_media, suffix, to_json
    from pride_mm.schema import Turn

    fields = [field for field in schema.inputs + schema.targets if not is_media(field)]
    meta = {
        "corpus": "c",
        "group": "g",
        "media": {f.name: {"seconds": 0.0, "frames": 0} for f in schema.inputs if is_media(f)},
    }
    said = {schema.dialogue.name: (Turn(speaker="a", text="Hello there."),)}
    base = {META: to_json(meta)} | {suffix(f): encode_value(f, said.get(f.name)) for f in fields}
    count = 100_000 // len(base)
    written = write_tar(tmp_path / TAR, ((f"k{number}", base) for number in range(count)))
    shard = {"name": "train-000000", "samples": count, "tars": {"": {"sha256": written.sha256, "size": written.size}}}
    manifest = {
        "schema": schema.model_dump(mode="json"),
        "schema_sha256": schema.sha256,
        "splits": {"train": {"samples": count, "seconds": {}, "shards": [shard]}},
        "bad": {},
        "tools": {},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    report = check(tmp_path, pool=pool)
    assert (report.samples, report.count) == (count, 0), [str(finding) for finding in report.findings[:3]]
    batch = next(iter(stream(tmp_path)))
    assert len(set(batch.keys)) == 3


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    """A command as people type it; its processes start with the environment of now."""
    return subprocess.run([Path(sys.executable).with_name("pride"), *words], capture_output=True, text=True)


def test_on_a_url(
    packed: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    monkeypatch.setenv("PRIDE_CACHE", str(tmp_path / "cache"))
    system, _ = fsspec.core.url_to_fs(s3)
    for path in packed.iterdir():
        system.put_file(str(path), f"{s3}/set/{path.name}")
    done = typed("check", f"{s3}/set")
    assert (done.returncode, done.stderr) == (0, "")
    assert "14 samples in" in done.stdout
    assert run(["stats", f"{s3}/set"]) == 0
    assert "note: Situation" in capsys.readouterr().out
    assert run(["show", f"{s3}/set", "--out", str(tmp_path / "sample.html")]) == 0
    monkeypatch.setenv("PRIDE_CACHE", str(tmp_path / "another"))
    data = bytearray((packed / TAR).read_bytes())
    data[len(data) // 2] ^= 1
    system.pipe_file(f"{s3}/set/{TAR}", bytes(data))
    system.rm_file(f"{s3}/set/train-000001.tar")
    done = typed("check", f"{s3}/set")
    assert done.returncode == 1
    assert re.search(rf"^{TAR}: .*SHA-256", done.stderr, re.MULTILINE)
    assert re.search(r"^train-000001.tar: .*is missing", done.stderr, re.MULTILINE)
