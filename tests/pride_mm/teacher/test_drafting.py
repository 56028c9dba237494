"""Drafts by a real small model: valid in every kind, in the order of the steps, and without an expert's word."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pride_mm.data.conversation import Message
from pride_mm.errors import BadSamples, TooManyBadSamples, UserError
from pride_mm.records import Item
from pride_mm.schema import Kind, Role, Schema, Turn, load_schema, parse_value
from pride_mm.teacher.drafting import (
    DRAFTED,
    Drafter,
    DraftPrompt,
    Said,
    Writer,
    drafted_fields,
    whole_sentences,
)
from pride_mm.teacher.local_writer import LocalWriter
from pride_mm.teacher.scoring import Teacher


class Listening:
    """Passes every question on to a writer, and keeps it."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.asked: list[str] = []

    def _keep(self, chat: Sequence[Message]) -> Sequence[Message]:
        self.asked.append("\n".join(message["content"] for message in chat))
        return chat

    def fits(self, chat: Sequence[Message]) -> bool:
        return self.writer.fits(chat)

    def write(self, chat: Sequence[Message]) -> Said:
        return self.writer.write(self._keep(chat))

    def choose(self, chat: Sequence[Message], options: Sequence[str], blank: Sequence[Message]) -> Said | None:
        return self.writer.choose(self._keep(chat), options, blank)


@pytest.fixture(scope="module")
def pride() -> Schema:
    return load_schema("pride")


@pytest.fixture(scope="module")
def item(data_dir: Path) -> Item:
    """A real dialogue with its answer."""
    with (data_dir / "empathetic_dialogues" / "valid.jsonl").open(encoding="utf-8") as file:
        said = json.loads(file.readline())["turns"]
    turns = tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in said[:3])
    values = {"inputs": {"dialogue": turns}, "targets": {"response": said[3]["text"]}}
    return Item(id="real", corpus="ed", group="g", inputs={}).model_copy(update=values)


@pytest.fixture
def listening(storyteller: Teacher) -> Listening:
    return Listening(LocalWriter(storyteller, max_tokens=10))


def test_every_field_is_drafted_validly_and_each_once(pride: Schema, item: Item, listening: Listening) -> None:
    fields = drafted_fields(pride)
    drafter = Drafter(DraftPrompt.load(pride), listening, BadSamples(0))
    drafted = drafter.draft(item, fields)
    assert list(drafted.values) == [f.name for f in fields], "in the order of the steps"
    for name, value in drafted.values.items():
        parsed = parse_value(pride.by_name[name], list(value) if isinstance(value, tuple) else value, turns=3)
        assert parsed == value
    assert drafted.score is not None
    assert 0 < drafted.score < 1
    assert drafter.draft(item, fields) == drafted, "the same model says the same of the same"


def test_what_it_drafted_enters_the_next_question_and_nothing_else_does(
    pride: Schema, item: Item, listening: Listening
) -> None:
    fields = drafted_fields(pride)
    drafted = Drafter(DraftPrompt.load(pride), listening, BadSamples(0)).draft(item, fields)
    texts = [str(value) for name, value in drafted.values.items() if pride.by_name[name].kind is Kind.TEXT]
    assert len(texts) > 2
    turns = item.inputs["dialogue"]
    assert isinstance(turns, tuple)
    first, last = listening.asked[0], listening.asked[-1]
    assert str(turns[-1].text) in last  # type: ignore[union-attr]
    assert all(text in last for text in texts)
    assert not any(text in first for text in texts)
    assert str(turns[2].text) not in first, "a turn is judged by what came before it"  # type: ignore[union-attr]
    answer = str(item.targets["response"])
    shown = [answer in question for question in listening.asked]
    third = sum(f.step == "response" for f in fields)
    assert shown == [False] * (len(shown) - third) + [True] * third, "the answer is known from the third step on"


def test_an_experts_note_never_enters(pride: Schema, item: Item, listening: Listening) -> None:
    """Targets but the response are experts' words, and an item cannot carry notes; nothing of either is asked."""
    secret = item.model_copy(update={"targets": {**item.targets, "emotion": "disgusted", "sentiment": "negative"}})
    prompt = DraftPrompt.load(pride)
    Drafter(prompt, listening, BadSamples(0)).draft(secret, drafted_fields(pride))
    asked = list(listening.asked)
    listening.asked.clear()
    Drafter(prompt, listening, BadSamples(0)).draft(item, drafted_fields(pride))
    assert asked == listening.asked
    assert not any(field.role is Role.PRIVILEGED for field in pride.inputs)


def test_every_kind_but_time_segments_is_drafted(item: Item, listening: Listening) -> None:
    schema = Schema.model_validate(
        {
            "name": "kinds",
            "field": [
                {"name": "dialogue", "kind": "dialogue", "role": "input"},
                {"name": "topic", "kind": "text", "role": "input"},
                {"name": "one", "kind": "choice", "role": "privileged", "options": ["loss", "work"]},
                {"name": "many", "kind": "choices", "role": "privileged", "options": ["rest", "help", "ear"]},
                {"name": "level", "kind": "scale", "role": "privileged", "low": -1, "high": 2},
                {"name": "note", "kind": "text", "role": "privileged", "step": "feelings"},
                {"name": "each", "kind": "turn_choice", "role": "privileged", "options": ["up", "none"]},
                {"name": "moment", "kind": "spans", "role": "privileged", "options": ["a", "b"]},
                {"name": "response", "kind": "text", "role": "target"},
            ],
        }
    )
    fields = drafted_fields(schema)
    assert [f.name for f in fields] == ["note", "one", "many", "level", "each"]
    assert {f.kind for f in fields} == set(DRAFTED)
    about = item.model_copy(update={"inputs": {**item.inputs, "topic": "a quiet street"}})
    drafted = Drafter(DraftPrompt.load(schema), listening, BadSamples(0)).draft(about, fields)
    assert {"note", "one", "level"} <= drafted.values.keys()
    assert drafted.values["one"] in ("loss", "work")
    assert drafted.values["level"] in (-1, 0, 1, 2)
    assert all("Topic: a quiet street" in asked for asked in listening.asked)
    with pytest.raises(UserError, match=r"No draft for 'moment': of schema 'kinds' a model drafts one, many"):
        drafted_fields(schema, ["moment"])


def test_a_long_dialogue_loses_its_oldest_turns_and_is_named_where_that_is_not_enough(
    pride: Schema, item: Item, storyteller: Teacher
) -> None:
    turns = tuple(Turn(speaker="ab"[n % 2], text=f"turn number {n} of a long talk") for n in range(200))
    long = item.model_copy(update={"inputs": {"dialogue": turns}, "targets": {}})
    listening = Listening(LocalWriter(storyteller, limit=500, max_tokens=8))
    bad = BadSamples()
    drafter = Drafter(DraftPrompt.load(pride), listening, bad)
    assert drafter.draft(long, [pride.get("feelings")]).values
    assert drafter.shortened == 1
    assert "turn number 199" in listening.asked[0]
    assert "turn number 0 " not in listening.asked[0]
    listening.writer = LocalWriter(storyteller, limit=100)
    assert not drafter.draft(long, [pride.get("feelings")]).values
    assert [str(error) for error in bad] == ["real: feelings: its question is too long for the model (--max-prompt)"]
    drafter.bad = BadSamples(0)
    with pytest.raises(TooManyBadSamples):
        drafter.draft(long, [pride.get("feelings")])


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("She is sad. She wants to", "She is sad."),
        ('He said "no." Then', 'He said "no."'),
        ("no end", "no end"),
        ("3.5 points. And", "3.5 points."),
        ("我很累。我不", "我很累。"),
        ("", ""),
    ],
)
def test_what_was_cut_off_ends_with_its_last_sentence(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole
