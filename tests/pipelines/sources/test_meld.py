import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest


def test_an_item_for_each_utterance(take_in, data_dir) -> None:
    items, annotations, bad = take_in("meld", data_dir / "meld_text" / "dev_sent_emo.csv")
    assert not len(bad)
    assert len(items) == len(annotations) == 1109
    assert {item.split for item in items} == {"valid"}
    assert sum("response" in item.targets for item in items) == 783
    assert len({item.group for item in items}) == 114
    emotions = Counter(item.targets["emotion"] for item in items)
    assert (emotions["neutral"], emotions["happy"]) == (470, 163)
    for item, note in zip(items, annotations, strict=True):
        assert len(note.values["turn_emotion"]) == len(item.inputs["dialogue"])
        assert note.values["turn_emotion"][-1] == item.targets["emotion"]
        assert not {"video", "audio"} & item.inputs.keys()  # no folder of clips lies beside the tables


def test_a_limit_takes_whole_dialogues_of_every_split(take_in, data_dir) -> None:
    items, _, _ = take_in("meld", data_dir / "meld_text", limit=10)
    assert Counter(item.split for item in items).keys() == {"train", "valid", "test"}
    assert len({item.group for item in items}) == 10


@pytest.fixture
def with_clips(tmp_path: Path, data_dir: Path, clips: list[Path]) -> Path:
    """The first dialogues of the validation table, each utterance with a clip, real but of other words."""
    lines = (data_dir / "meld_text" / "dev_sent_emo.csv").read_text().splitlines(keepends=True)[:8]
    (tmp_path / "dev_sent_emo.csv").write_text("".join(lines))
    folder = tmp_path / "dev_splits_complete"
    folder.mkdir()
    for row, clip in zip(csv.DictReader(lines), clips, strict=False):
        shutil.copy(clip, folder / f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.mp4")
    return tmp_path


def test_the_clip_is_the_last_utterance_and_never_the_answer(take_in, with_clips) -> None:
    items, _, _ = take_in("meld", with_clips)
    assert len(items) == 7
    for item in items:
        dialogue, utterance = item.id.split("_")[2:]
        assert Path(item.inputs["video"].path).name == f"dia{dialogue}_utt{utterance}.mp4"
        assert item.inputs["audio"] == item.inputs["video"]
    assert [len({turn.speaker for turn in item.inputs["dialogue"]}) for item in items][:4] == [1, 2, 1, 2]
    assert items[0].targets["response"] == items[1].inputs["dialogue"][-1].text


def test_a_missing_clip_is_named(take_in, with_clips) -> None:
    (with_clips / "dev_splits_complete" / "dia0_utt1.mp4").unlink()
    items, _, bad = take_in("meld", with_clips, max_bad=2)
    assert len(items) == 6
    assert [(error.place, error.field) for error in bad] == [
        ("dev_sent_emo.csv:2", "video"),
        ("dev_sent_emo.csv:2", "audio"),
    ]
    assert "no such file: dev_splits_complete/dia0_utt1.mp4" in str(next(iter(bad)))


def test_clips_in_a_folder_of_their_own(take_in, with_clips, tmp_path_factory) -> None:
    raw = tmp_path_factory.mktemp("raw")
    shutil.move(with_clips / "dev_splits_complete", raw)
    items, _, _ = take_in("meld", with_clips, change=(f"media={raw}",))
    assert Path(items[0].inputs["video"].path).parent == raw / "dev_splits_complete"
