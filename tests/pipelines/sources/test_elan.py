"""ELAN files: ours come back, those of others give turns by their tiers."""

from pathlib import Path

import pytest

from annotate.elan.write import write_elan
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Annotation, Item
from pride_mm.schema import Media, Span, Turn, load_schema

TALK = (
    Turn(speaker="client", text="I can't sleep: never.", start=0.2, end=1.5),
    Turn(speaker="helper", text="Since when?", start=1.6, end=2.0),
)
VALUES = {
    "turn_emotion": ("sad", None),
    "situation": "Her dog has died.",
    "shift": (Span(start=0.25, end=0.5, label="shift"),),
    "emotion": "sad",
    "response": "I am sorry.",
}


@pytest.fixture
def written(clips: list[Path], data_dir: Path, tmp_path: Path) -> Path:
    """Two items of ours: one with a clip, one with a part of a sound."""
    voice = sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[0]
    media = {
        "one": {"video": Media(path=str(clips[0])), "audio": Media(path=str(clips[0]))},
        "two": {"audio": Media(path=str(voice), start=0.5, end=3.0)},
    }
    items = [
        Item(id=name, corpus="c", group="g", inputs={}).model_copy(update={"inputs": {**found, "dialogue": TALK}})
        for name, found in media.items()
    ]
    notes = [
        Annotation(item=name, annotator=who, values={}).model_copy(update={"values": VALUES})
        for name in media
        for who in ("ann", "bob")
    ]
    write_elan(tmp_path / "elan", load_schema("pride"), items, notes, BadSamples(0))
    return tmp_path / "elan"


def test_what_we_wrote_comes_back(take_in, written, clips) -> None:
    items, annotations, bad = take_in("elan", written)
    assert not len(bad)
    assert [(item.id, item.inputs["dialogue"]) for item in items] == [("one", TALK), ("two", TALK)]
    assert items[0].inputs["video"] == items[0].inputs["audio"] == Media(path=str(clips[0]))
    assert "video" not in items[1].inputs
    part = items[1].inputs["audio"]
    assert (part.start, part.end) == (0.5, 3.0)
    assert [(note.item, note.annotator) for note in annotations] == [
        ("one", "ann"), ("one", "bob"), ("two", "ann"), ("two", "bob")
    ]  # fmt: skip
    assert all(note.values == VALUES for note in annotations)


def test_tiers_of_ones_own_are_speakers(take_in, clips, tmp_path) -> None:
    from pympi.Elan import Eaf

    document = Eaf()
    document.remove_tier("default")
    document.add_tier("A", part="Ann")
    document.add_tier("Bea")
    document.add_tier("situation@me")
    document.add_annotation("A", 100, 900, "I can't sleep.")
    document.add_annotation("Bea", 1000, 1500, "Since when?")
    document.add_annotation("situation@me", 0, 1500, "Her dog has died.")
    document.add_linked_file(clips[0].as_uri(), None, "video/mp4")
    document.to_file(str(tmp_path / "own.eaf"))
    items, annotations, bad = take_in("elan", tmp_path / "own.eaf")
    assert not len(bad)
    assert [(turn.speaker, turn.text) for turn in items[0].inputs["dialogue"]] == [
        ("Ann", "I can't sleep."),
        ("Bea", "Since when?"),
    ]
    assert items[0].inputs["video"].path == str(clips[0])
    assert [(note.annotator, note.values) for note in annotations] == [("me", {"situation": "Her dog has died."})]


def test_broken_files_are_named_and_the_rest_kept(take_in, written) -> None:
    (written / "broken.eaf").write_text("<!DOCTYPE a><a>a secret</a>")
    (written / "nothing.eaf").write_text("<a>a secret</a>")
    items, _, bad = take_in("elan", written, max_bad=2)
    assert len(items) == 2
    assert [error.place for error in bad] == ["broken.eaf", "nothing.eaf"]
    assert "secret" not in "".join(map(str, bad))
    with pytest.raises(UserError, match=r"No .eaf file at .*nowhere"):
        take_in("elan", written / "nowhere")
