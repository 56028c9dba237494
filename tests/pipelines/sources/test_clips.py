import shutil
from collections import Counter
from pathlib import Path

import pytest

from pride_mm.errors import TooManyBadSamples, UserError
from pride_mm.schema import Media


def test_mosi(take_in, data_dir) -> None:
    items, annotations, _ = take_in("mosi", data_dir / "mosi_mini")
    assert len(items) == 341
    assert not annotations
    assert Counter(item.split for item in items) == {"train": 281, "valid": 60}
    by_split = {split: {item.group for item in items if item.split == split} for split in ("train", "valid")}
    assert not by_split["train"] & by_split["valid"]
    assert {item.targets["sentiment"] for item in items} == {"negative", "neutral", "positive"}
    assert items[0].inputs["dialogue"][0].text == "Anyhow it was really good"


def test_ravdess(take_in, data_dir) -> None:
    items, annotations, _ = take_in("ravdess", data_dir / "ravdess" / "manifest.csv")
    assert len(items) == len(annotations) == 307
    assert sum("video" in item.inputs for item in items) == 63
    assert all("audio" in item.inputs for item in items)
    assert len({item.group for item in items}) == 24
    assert Counter(item.targets["emotion"] for item in items)["disgusted"] == 39
    # the words don't tell, the notes do
    for item, note in zip(items, annotations, strict=True):
        assert item.targets["emotion"] in str(note.values["feelings"])
        assert item.targets["emotion"] not in item.inputs["dialogue"][0].text


@pytest.fixture
def own(tmp_path: Path, data_dir: Path) -> Path:
    clips = sorted((data_dir / "mosi_mini" / "clips").glob("*.mp4"))[:4]
    for number, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / f"c{number}.mp4")
    return tmp_path


def test_a_manifest_of_ones_own_needs_no_description(take_in, own) -> None:
    (own / "m.csv").write_text(
        "video,audio,transcript,speaker,emotion,situation,expression\n"
        "c0.mp4,c0.mp4,I got the job,ann,happy,She had waited for weeks.,1\n"
        "c1.mp4,,Never mind,bob,,,\n"
    )
    items, annotations, _ = take_in("clips", own / "m.csv")
    assert [(item.id, item.group, item.split) for item in items] == [("c0", "ann", None), ("c1", "bob", None)]
    assert items[0].inputs["audio"] == Media(path=str(own / "c0.mp4"))
    assert items[1].inputs.keys() == {"video", "dialogue"}
    assert [a.values for a in annotations] == [{"situation": "She had waited for weeks.", "expression": 1}]


def test_bad_rows_are_named_and_the_rest_kept(take_in, own) -> None:
    (own / "empty.mp4").touch()
    (own / "m.csv").write_text(
        "id,video,text,emotion,expression\n"
        "a,c0.mp4,one,happy,1\n"
        "b,gone.mp4,two,happy,1\n"
        "c,c1.mp4,three,bemused,1\n"
        'd,c1.mp4,"four\n\nlines",happy,1\n'
        "a,c2.mp4,five,happy,1\n"
        "e,c3.mp4\n"
        "f,c3.mp4,six,happy,9\n"
        "g,empty.mp4,seven,happy,1\n"
        "h,c3.mp4,,happy,1\n"
    )
    items, _, bad = take_in("clips", own / "m.csv", max_bad=10)
    assert [item.id for item in items] == ["a", "d"]
    assert [(error.place, error.field) for error in bad] == [
        ("m.csv:3", "video"),
        ("m.csv:4", "emotion"),
        ("m.csv:8", None),
        ("m.csv:9", None),
        ("m.csv:10", "expression"),
        ("m.csv:11", "video"),
        ("m.csv:12", "dialogue"),
    ]
    named = "\n".join(map(str, bad))
    assert "no such file: gone.mp4" in named
    assert "id 'a' was already given at m.csv:2" in named
    assert "9 is not" not in named  # a privileged value is in no message


def test_too_many_bad_rows_leave_nothing_behind(take_in, own) -> None:
    (own / "m.csv").write_text("video,text\n" + "gone.mp4,words\n" * 4)
    with pytest.raises(TooManyBadSamples, match="3 are allowed"):
        take_in("clips", own / "m.csv", max_bad=3)
    assert not list((own / "out").glob("*"))


def test_a_manifest_of_another_corpus_is_refused(take_in, data_dir) -> None:
    with pytest.raises(UserError, match=r"no column .*video_id.*it has: file, kind"):
        take_in("mosi", data_dir / "ravdess")


def test_same_input_same_bytes(take_in, data_dir, tmp_path) -> None:
    take_in("ravdess", data_dir / "ravdess")
    first = [(tmp_path / "out" / name).read_bytes() for name in ("items.jsonl", "annotations.jsonl")]
    take_in("ravdess", data_dir / "ravdess")
    assert first == [(tmp_path / "out" / name).read_bytes() for name in ("items.jsonl", "annotations.jsonl")]
