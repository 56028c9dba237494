import hashlib
import io
import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.cli import run
from pipelines.look.check import check
from pipelines.pack import PackSettings, pack
from pride_mm.data.shards import MANIFEST, ShardSet
from pride_mm.data.tar_writer import write_tar
from pride_mm.errors import SampleError, TooManyBadSamples, UserError
from pride_mm.media import VideoPacking, probe, read_audio, read_frames
from pride_mm.schema import Role, Schema

ALL = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
Lines = Callable[..., Path]
COPY = VideoPacking(mode="copy")
TWO, FIVE = PackSettings(shard_samples=2, video=COPY), PackSettings(shard_samples=5, video=COPY)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


NAMES = (".index", ".privileged.index", ".privileged.tar", ".tar")


def sample(folder: Path, key: str, roles: tuple[Role, ...] = ALL) -> Any:
    shards = ShardSet.open(folder)
    split, place = shards.find(key)
    return shards.samples(split, roles)[place]


def test_two_packs_are_the_same_bytes(
    packed: Path,
    clip_items: list[dict[str, Any]],
    note_lines: list[dict[str, Any]],
    schema: Schema,
    write_lines: Lines,
    tmp_path: Path,
) -> None:
    # in another order, over two files, by another number of threads
    one = write_lines(tmp_path / "one.jsonl", clip_items[7:])
    two = write_lines(tmp_path / "two.jsonl", clip_items[:7][::-1])
    notes = write_lines(tmp_path / "privileged.jsonl", note_lines)
    pack([one, two], schema, tmp_path / "again", [notes], FIVE, max_bad=0, workers=1)
    assert hashes(tmp_path / "again") == hashes(packed)
    assert len(list(packed.glob("*.privileged.tar"))) == len(list(packed.glob("*-??????.tar"))) >= 3


def test_every_item_is_there_with_its_media(packed: Path, clip_items: list[dict[str, Any]]) -> None:
    shards = ShardSet.open(packed)
    samples = {s.key: s for split in shards.splits for s in shards.samples(split, ALL)}
    assert sorted(samples) == sorted(item["id"] for item in clip_items)
    for item in clip_items:
        found = samples[item["id"]]
        assert found.corpus == "real"
        assert found.inputs["dialogue"][0].text == item["inputs"]["dialogue"][0]["text"]
        assert ("video" in found.inputs) == ("video" in item["inputs"])
        assert read_audio(found.inputs["audio"], 16000).abs().max() > 0.001
    whole = samples["mosi_3"]
    assert whole.inputs["video"] == Path(clip_items[3]["inputs"]["video"]["path"]).read_bytes()
    assert read_frames(whole.inputs["video"], 4, 32).shape == (4, 3, 32, 32)
    cut = samples["mosi_0"]
    assert len(read_audio(cut.inputs["audio"], 16000)) == 8000
    assert (info := probe(cut.inputs["video"]).video) is not None
    assert info.frames in (7, 8)


def test_notes_lie_apart_and_what_was_agreed_goes_first(packed: Path) -> None:
    noted = sample(packed, "mosi_1")
    assert noted.targets == {"emotion": "angry", "response": "I hear you, mosi_1."}
    assert noted.privileged["situation"] == "Her dog has died."
    assert noted.privileged["turn_emotion"] == ("sad",)
    assert sample(packed, "mosi_2").privileged == {}
    for tar in packed.glob("*.tar"):
        assert (b"Her dog has died" in tar.read_bytes()) <= tar.name.endswith(".privileged.tar")
    assert b"Her dog" not in (packed / MANIFEST).read_bytes()


def test_no_group_is_torn(packed: Path) -> None:
    shards = ShardSet.open(packed)
    groups = {split: {s.meta["group"] for s in shards.samples(split)} for split in shards.splits}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values()))


def broken_items(folder: Path, clip_items: list[dict[str, Any]]) -> list[Any]:
    """One of each: what a folder of real recordings holds sooner or later."""
    good = clip_items[1]
    video = Path(good["inputs"]["video"]["path"])
    data = video.read_bytes()
    (folder / "half.mp4").write_bytes(data[: len(data) // 2])
    header = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", 36, b"WAVEfmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", 0)
    (folder / "empty.wav").write_bytes(header)
    silent = io.BytesIO()
    with av.open(str(video)) as given, av.open(silent, "w", format="mp4") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    (folder / "silent.mp4").write_bytes(silent.getvalue())

    def changed(key: str, **inputs: Any) -> dict[str, Any]:
        media = {name: {"path": path} for name, path in inputs.items()}
        return {**good, "id": key, "inputs": {"dialogue": good["inputs"]["dialogue"], **media}}

    return [
        changed("half", video="half.mp4"),
        changed("empty", audio="empty.wav"),
        changed("silent", video="silent.mp4", audio="silent.mp4"),
        changed("missing", video="nowhere.mp4"),
        json.dumps(good)[:80],
        good,
        good,
        {**good, "id": "unknown", "targets": {"emotion": "hangry"}},
    ]


def test_all_that_is_broken_is_named_and_the_rest_is_packed(
    clip_items: list[dict[str, Any]], schema: Schema, write_lines: Lines, tmp_path: Path
) -> None:
    items = write_lines(tmp_path / "items.jsonl", broken_items(tmp_path, clip_items))
    result = pack([items], schema, tmp_path / "shards", settings=TWO, max_bad=7)
    named = [str(error) for error in result.bad]
    expected = [
        "items.jsonl:5: not JSON",
        "items.jsonl:7: id 'mosi_1' was already given at items.jsonl:6",
        "items.jsonl:8: emotion: 'hangry' is not one of: neutral, calm",
        "half: video: half.mp4: cannot be read",
        "empty: audio: empty.wav: has no sound in it",
        "silent: audio: silent.mp4: has no sound",
        "missing: video: nowhere.mp4: no such file",
    ]
    assert len(named) == len(expected)
    for start in expected:
        assert any(line.startswith(start) for line in named), (start, named)
    assert result.fields_left_out == 4
    assert sum(result.manifest.bad.values()) == 7
    shards = ShardSet.open(tmp_path / "shards")
    assert sum(shards.splits.values()) == 5
    assert set(sample(tmp_path / "shards", "half").inputs) == {"dialogue"}
    assert set(sample(tmp_path / "shards", "silent").inputs) == {"dialogue", "video"}


def test_more_bad_than_allowed_stops_and_leaves_nothing_whole(
    clip_items: list[dict[str, Any]], schema: Schema, write_lines: Lines, tmp_path: Path
) -> None:
    items = write_lines(tmp_path / "items.jsonl", broken_items(tmp_path, clip_items))
    with pytest.raises(TooManyBadSamples, match="7 bad samples, 6 are allowed"):
        pack([items], schema, tmp_path / "shards", settings=TWO, max_bad=6)
    with pytest.raises(UserError, match="not complete"):
        ShardSet.open(tmp_path / "shards")
    assert not list((tmp_path / "shards").glob("*.partial"))


def test_text_alone_and_odd_text(schema: Schema, write_lines: Lines, tmp_path: Path) -> None:
    turns = [{"speaker": "a", "text": "Hi"}]
    base = {"corpus": "c", "group": "g", "targets": {"response": "Hello."}}
    lines = [
        {**base, "id": "good", "inputs": {"dialogue": turns}},
        {**base, "id": "half_a_pair", "inputs": {"dialogue": [{"speaker": "a", "text": "\ud800"}]}},
        {**base, "id": "x" * 64, "inputs": {"dialogue": turns}},
    ]
    long = schema.privileged[0].model_copy(update={"name": "n" * 32})
    schema = schema.model_copy(update={"field": (*schema.field, long)})
    items = write_lines(tmp_path / "items.jsonl", lines)
    result = pack([items], schema, tmp_path / "shards", max_bad=2)
    assert sorted(error.reason.split(":")[0] for error in result.bad) == [
        "text that is not Unicode",
        "this id is longer than the 51 characters that a tar has for it",
    ]
    assert sum(ShardSet.open(tmp_path / "shards").splits.values()) == 1
    with pytest.raises(UserError, match="Nothing to pack"):
        pack([write_lines(tmp_path / "none.jsonl", [])], schema, tmp_path / "none")
    with pytest.raises(UserError, match="No file"):
        pack([tmp_path / "absent.jsonl"], schema, tmp_path / "none")


def test_the_same_id_in_two_files_and_notes_that_do_not_fit(schema: Schema, write_lines: Lines, tmp_path: Path) -> None:
    line = {
        "id": "one",
        "corpus": "c",
        "group": "g",
        "inputs": {"dialogue": [{"speaker": "a", "text": "Hi"}]},
        "targets": {"response": "Hello."},
    }
    files = [write_lines(tmp_path / f"{name}.jsonl", [line]) for name in "ab"]
    notes = [
        {"item": "one", "privileged": {"turn_emotion": ["sad", "angry"], "situation": "My secret."}},
        {"item": "other", "privileged": {"situation": "Unused."}},
    ]
    result = pack(files, schema, tmp_path / "shards", [write_lines(tmp_path / "n.jsonl", notes)])
    named = [str(error) for error in result.bad]
    assert named[0] == "b.jsonl:1: id 'one' was already given at a.jsonl:1"
    assert named[1].startswith("one: turn_emotion: 2 entries for 1 turns")
    assert "secret" not in "".join(named)
    assert result.notes_unused == 1
    assert sample(tmp_path / "shards", "one").privileged == {"situation": "My secret."}


def test_an_older_pack_is_replaced_whole(schema: Schema, write_lines: Lines, tmp_path: Path) -> None:
    def lines(count: int, word: str) -> Path:
        turns = [{"speaker": "a", "text": word}]
        return write_lines(
            tmp_path / "items.jsonl",
            [
                {"id": f"k{n}", "corpus": "c", "group": "g", "split": "train", "inputs": {"dialogue": turns}}
                for n in range(count)
            ],
        )

    out = tmp_path / "shards"
    pack([lines(6, "first")], schema, out, settings=TWO)
    (out / "mine.txt").write_text("not ours")
    for number in range(3):
        write_tar(out / f"train-{number:06d}.teacher.tar", [])
    same = pack([lines(6, "first")], schema, out, settings=TWO)
    assert same.teacher_removed == 0
    fewer = pack([lines(4, "second")], schema, out, settings=TWO)
    assert fewer.teacher_removed == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        "mine.txt",
        *(f"train-{n:06d}{added}" for n in range(2) for added in NAMES),
    ]
    assert ShardSet.open(out).splits == {"train": 4}


def test_ctrl_c_leaves_nothing_that_is_taken_for_whole(
    clip_items: list[dict[str, Any]], write_lines: Lines, tmp_path: Path
) -> None:
    many = [{**item, "id": f"{item['id']}_{copy}"} for copy in range(40) for item in clip_items]
    items, out = write_lines(tmp_path / "items.jsonl", many), tmp_path / "shards"
    pride = [sys.executable, "-c", "from pipelines.cli import main; main()", "pack", str(items), "--out", str(out)]
    process = subprocess.Popen(pride, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob(".work/*.partial")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Stopped" in said
    assert [path.name for path in out.iterdir()] == [".work"], "what is half done is out of sight"
    with pytest.raises(UserError, match="not complete"):
        ShardSet.open(out)
    assert run(["check", str(out)]) == 2


def test_webdataset_reads_the_shards(packed: Path) -> None:
    import webdataset

    urls = sorted(str(path) for path in packed.glob("train-??????.tar"))
    read = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    reader = ShardSet.open(packed).samples("train")
    assert [one["__key__"] for one in read] == list(reader.keys)
    assert json.loads(read[0]["target.emotion.json"]) == {"present": True, "value": "sad"}
    assert read[0]["input.audio.flac"] == reader[0].inputs["audio"]


def test_datasets_reads_shards_of_text(
    clip_items: list[dict[str, Any]], schema: Schema, write_lines: Lines, tmp_path: Path
) -> None:
    from datasets import load_dataset

    turns = [{"dialogue": item["inputs"]["dialogue"]} for item in clip_items[1:5]]
    lines = [item | {"split": "train", "inputs": one} for item, one in zip(clip_items[1:5], turns, strict=True)]
    pack([write_lines(tmp_path / "items.jsonl", lines)], schema, tmp_path / "shards")
    files = {"train": [str(tmp_path / "shards" / "train-000000.tar")]}
    read = load_dataset("webdataset", data_files=files, streaming=True, cache_dir=str(tmp_path))["train"]
    reader = ShardSet.open(tmp_path / "shards").samples("train")
    rows = list(read)
    assert [row["__key__"] for row in rows] == list(reader.keys)
    assert rows[0]["target.emotion.json"] == {"present": True, "value": "sad"}
    assert rows[0]["target.sentiment.json"] == {"present": False, "value": ""}


@pytest.fixture
def half_drafted(note_lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Notes of which one value of each role is a model's draft that was left as it was."""
    (note,) = note_lines
    how = dict.fromkeys([*note["privileged"], *note["targets"]], "single: expert-1")
    return {**note, "how": how, "drafts": {"situation": "m-1@ab", "emotion": "m-1@ab"}}


def test_a_models_draft_is_left_out_or_stays_marked(
    clip_items: list[dict[str, Any]],
    half_drafted: dict[str, Any],
    schema: Schema,
    write_lines: Lines,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = write_lines(tmp_path / "items.jsonl", clip_items[:3])
    notes = write_lines(tmp_path / "privileged.jsonl", [half_drafted])
    given = ["pack", str(items), "--notes", str(notes)]
    assert run([*given, "--out", str(tmp_path / "without")]) == 0
    assert "2 values that are a model's drafts as they were; --drafts keeps" in capsys.readouterr().out
    without = sample(tmp_path / "without", "mosi_1")
    assert without.privileged["expression"] == 2
    assert "situation" not in without.privileged
    assert without.targets["emotion"] == "sad", "the item's own, not the model's"
    assert (without.drafts, without.reached["expression"]) == ({}, "single: expert-1")
    assert run([*given, "--out", str(tmp_path / "kept"), "--drafts"]) == 0
    assert "1 notes are a model's drafts as they were, and marked so" in capsys.readouterr().out
    kept = sample(tmp_path / "kept", "mosi_1")
    assert kept.privileged["situation"] == "Her dog has died."
    assert kept.drafts == {"situation": "m-1@ab"}
    assert kept.targets["emotion"] == "sad", "a target is never a model's word"
    assert ShardSet.open(tmp_path / "kept").manifest.drafts == {"situation": 1}
    assert ShardSet.open(tmp_path / "without").manifest.drafts == {}
    assert not sample(tmp_path / "kept", "mosi_1", (Role.INPUT, Role.TARGET)).reached, "it lies with the notes"
    assert run(["show", str(tmp_path / "kept"), "mosi_1", "--notes", "--out", str(tmp_path / "page.html")]) == 0
    assert "Situation (draft of m-1@ab, left as it was): Her dog has died." in capsys.readouterr().out
    assert run(["check", str(tmp_path / "kept")]) == 0


def test_what_is_said_of_notes_is_checked(packed: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(packed)
    split, _ = shards.find("mosi_1")
    (path,) = [p for p in packed.glob(f"{split}-*.privileged.tar") if b"mosi_1.meta.notes.json" in p.read_bytes()]
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in packed.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data.replace(b'{"how":', b'{"not":') if file == path else data)
    said = [str(finding) for finding in check(broken).findings]
    assert any("mosi_1: 'meta.notes.json' is not what was packed" in finding for finding in said)
    with pytest.raises(SampleError, match="is not what was packed"):
        sample(broken, "mosi_1")


def test_a_process_that_is_stopped_costs_the_fields_not_the_item(
    clip_items: list[dict[str, Any]], schema: Schema, write_lines: Lines, tmp_path: Path
) -> None:
    items = write_lines(tmp_path / "items.jsonl", clip_items[1:3])
    # nothing is converted in a ten-thousandth of a second
    settings = TWO.model_copy(update={"item_seconds": 1e-4})
    result = pack([items], schema, tmp_path / "shards", settings=settings, workers=2)
    assert result.fields_left_out == 4
    assert all("the process that converted it took longer than 0.0001 s" in str(error) for error in result.bad)
    assert {error.field for error in result.bad} == {"video", "audio"}
    for item in clip_items[1:3]:
        found = sample(tmp_path / "shards", item["id"])
        assert set(found.inputs) == {"dialogue"}
        assert found.targets["response"] == item["targets"]["response"]


def test_a_file_of_another_kind_is_named_once(schema: Schema, write_lines: Lines, tmp_path: Path) -> None:
    said = {"dialogue": [{"speaker": "a", "text": "Well."}]}
    lines: dict[str, dict[str, Any]] = {
        "items": {"id": "i", "corpus": "made", "group": "g", "inputs": said, "targets": {}},
        "annotations": {"item": "i", "annotator": "ana", "values": {}},
        "notes": {"item": "i", "privileged": {}},
    }
    files = {name: write_lines(tmp_path / f"{name}.jsonl", [line]) for name, line in lines.items()}
    for given, message in (
        ((["notes"], []), r"notes\.jsonl is a file of notes, where one of items belongs: give it by --notes"),
        ((["items"], ["items"]), r"file of items, where one of notes belongs: give it as an argument"),
        ((["items"], ["annotations"]), r"file of annotations.*`pride label agree .*annotations\.jsonl --out"),
    ):
        items, notes = ([files[name] for name in names] for names in given)
        with pytest.raises(UserError, match=message):
            pack(items, schema, tmp_path / "shards", notes)


def test_sound_that_is_no_number_is_named_and_its_item_packed(
    schema: Schema, write_lines: Lines, tmp_path: Path
) -> None:
    sound = np.sin(np.arange(16_000) / 20).astype("<f4")
    sound[8_000] = np.nan
    header = b"RIFF" + struct.pack("<I", 36 + sound.nbytes) + b"WAVEfmt "
    form = struct.pack("<IHHIIHH", 16, 3, 1, 16_000, 64_000, 4, 32)
    (tmp_path / "odd.wav").write_bytes(header + form + b"data" + struct.pack("<I", sound.nbytes) + sound.tobytes())
    said = [{"speaker": "a", "text": "Well."}]
    inputs = {"audio": {"path": "odd.wav"}, "dialogue": said}
    item = {"id": "i", "corpus": "made", "group": "g", "inputs": inputs, "targets": {}, "split": "train"}
    result = pack([write_lines(tmp_path / "items.jsonl", [item])], schema, tmp_path / "shards", max_bad=1)
    assert [(error.place, error.field) for error in result.bad] == [("i", "audio")]
    assert "number" in str(next(iter(result.bad)))
    assert "audio" not in ShardSet.open(tmp_path / "shards").samples("train")[0].inputs
    with pytest.raises(UserError, match="1 bad"):
        pack([tmp_path / "items.jsonl"], schema, tmp_path / "none", max_bad=0)
