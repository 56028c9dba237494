"""Answers of the exported student: the same in a batch, the same whatever the notes were."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.schema import Role, load_schema
from pride_mm.serving.conversation import Conversation
from pride_mm.serving.predictor import Answer, Predictor
from pride_mm.serving.request import read_request

TURNS = [{"speaker": "a", "text": "Once upon a time I lost my dog."}]


def test_text_and_targets(predictor: Predictor) -> None:
    answer = predictor.answer(predictor.request(dialogue=TURNS), 12)
    assert answer.text
    schema = load_schema("pride")
    for head, (label, probability) in answer.targets.items():
        options = schema.get(head).options  # type: ignore[union-attr]
        assert label in options
        assert 1 / len(options) <= probability <= 1
    assert set(answer.targets) == {head.name for head in schema.heads}


def test_a_batch_answers_as_one_by_one_and_the_clip_matters(predictor: Predictor, clip: Path) -> None:
    given = [{"dialogue": TURNS}, {"dialogue": TURNS, "video": str(clip), "audio": str(clip)}]
    requests = [read_request(predictor.request, one) for one in given]
    together = predictor.answers(requests, 8)
    alone = [predictor.answer(request, 8) for request in requests]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    for one, other in zip(together, alone, strict=True):
        for head in one.targets:
            assert one.targets[head][1] == pytest.approx(other.targets[head][1], abs=1e-4)
    assert alone[0].targets != alone[1].targets
    assert predictor.answers([]) == []


def test_only_its_own_requests_are_taken(predictor: Predictor) -> None:
    with pytest.raises(AssertionError, match="request model"):
        predictor.answer({"dialogue": TURNS})  # type: ignore[arg-type]


def _pack(folder: Path, situations: list[str] | None) -> ShardSet:
    from pipelines.pack import pack

    folder.mkdir()
    items = [
        {
            "id": f"i{number}",
            "corpus": "t",
            "group": f"g{number}",
            "split": "test",
            "inputs": {"dialogue": [{"speaker": "a", "text": f"I have {number} dogs and one of them is ill."}]},
            "targets": {"response": "Oh no!", "emotion": "sad"},
        }
        for number in range(2)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    notes = []
    if situations is not None:
        lines = [{"item": f"i{n}", "privileged": {"situation": text}} for n, text in enumerate(situations)]
        (folder / "notes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        notes = [folder / "notes.jsonl"]
    pack([folder / "items.jsonl"], load_schema("pride"), folder / "shards", notes, max_bad=0)
    return ShardSet.open(folder / "shards")


def _answers(predictor: Predictor, shards: ShardSet) -> list[Answer]:
    roles = (Role.INPUT, Role.PRIVILEGED)
    requests = [predictor.request(**replace(sample).inputs) for sample in shards.samples("test", roles)]
    return predictor.answers(requests, 8)


def test_answers_are_equal_by_bit_with_notes_present_altered_and_gone(predictor: Predictor, tmp_path: Path) -> None:
    present = _pack(tmp_path / "present", ["Her dog has died.", "She found it in the rain."])
    altered = _pack(tmp_path / "altered", ["The opposite of it.", "Nothing has happened at all."])
    without = _pack(tmp_path / "without", None)
    sample = present.samples("test", (Role.INPUT, Role.PRIVILEGED))[0]
    assert sample.privileged
    expected = _answers(predictor, present)
    assert _answers(predictor, altered) == expected
    assert _answers(predictor, without) == expected
    with pytest.raises(ValueError, match="'situation' is no input"):
        predictor.request(**sample.inputs, **sample.privileged)


def test_a_talk_keeps_its_history(predictor: Predictor, clip: Path, tmp_path: Path) -> None:
    talk = Conversation(predictor, 6)
    talk.say("Once upon a time")
    talk.say("there was a girl")
    assert [turn.text for turn in talk.turns if turn.speaker == "you"] == ["Once upon a time", "there was a girl"]
    assert talk.attach(clip) == ["Video", "Audio"]
    talk.reset()
    assert talk.turns == ()
    (tmp_path / "noise.mp4").write_bytes(b"no clip")
    with pytest.raises(UserError, match=r"noise\.mp4 cannot be read"):
        talk.attach(tmp_path / "noise.mp4")
    with pytest.raises(UserError, match="No file"):
        talk.attach(tmp_path / "gone.mp4")
