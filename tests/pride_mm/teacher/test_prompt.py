"""The empathy-reasoning prompt."""

from dataclasses import replace
from pathlib import Path

import pytest

from pride_mm.data.shards import Sample
from pride_mm.errors import SampleError, UserError
from pride_mm.schema import Turn, load_schema
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.prompt import Prompt, choose_examples

SECRET = "zebra crossing at midnight"


def sample(turns: int = 1, situation: str = SECRET) -> Sample:
    dialogue = tuple(Turn(speaker="ab"[n % 2], text=f"turn number {n}") for n in range(turns))
    return Sample("k", "c", {"dialogue": dialogue}, {}, {"situation": situation, "expression": 2})


@pytest.fixture(scope="module")
def tokenizer(small_model: Path):
    return load_backbone(small_model)[1]


def test_each_note_stands_at_its_step_by_its_title():
    prompt = Prompt.load(load_schema("pride"), "empathy_reasoning")
    text = prompt.system(sample().privileged)
    feelings, rest = text.split("Step 2")
    situation, response = rest.split("Step 3")
    assert f"Situation: {SECRET}" in situation
    assert "Expression of experience: 2 on a scale from 0 to 2" in response
    assert SECRET not in feelings + response


def test_without_notes_no_title_is_left():
    text = Prompt.load(load_schema("pride"), "empathy_reasoning").system({})
    assert "Situation:" not in text
    assert "- " not in text


def test_old_turns_go_before_notes_do(tokenizer):
    prompt = Prompt.load(load_schema("pride"), "empathy_reasoning", limit=460)
    ids = prompt.ids(tokenizer, sample(turns=40))
    text = tokenizer.decode(ids)
    assert len(ids) <= 460
    assert SECRET in text
    assert "turn number 39" in text
    assert "turn number 0\n" not in text
    assert prompt.shortened == 1


def test_notes_that_are_too_long_are_refused_by_key_and_never_shown(tokenizer):
    prompt = Prompt.load(load_schema("pride"), "empathy_reasoning", limit=460)
    with pytest.raises(SampleError, match=r"k: notes and last turn take \d+ tokens, 460 are allowed") as refused:
        prompt.ids(tokenizer, sample(situation=SECRET * 100))
    assert "zebra" not in str(refused.value)


def answered(key: str, note: str, response: str) -> Sample:
    turns = (Turn(speaker="a", text=f"words of {key}"),)
    return Sample(key, "c", {"dialogue": turns}, {"response": response}, {"situation": note})


def test_examples_are_shown_with_notes_and_answer_but_never_to_themselves(tokenizer):
    schema = load_schema("pride")
    shown = (answered("x", "a note on x", "answer of x"), answered("y", "a note on y", "answer of y"))
    prompt = Prompt.load(schema, "empathy_reasoning", 2000, shown)
    text = tokenizer.decode(prompt.ids(tokenizer, sample()))
    for part in ("words of x", "a note on x", "answer of x", "answer of y", SECRET):
        assert part in text, part
    assert text.index("answer of y") < text.index("Now the dialogue") < text.index(SECRET)
    itself = tokenizer.decode(prompt.ids(tokenizer, shown[0]))
    assert "answer of x" not in itself
    assert "answer of y" in itself
    assert prompt.sha256 != Prompt.load(schema, "empathy_reasoning").sha256


def test_without_examples_the_prompt_says_nothing_of_them():
    assert "xample" not in Prompt.load(load_schema("pride"), "empathy_reasoning").system(sample().privileged)


def test_examples_are_those_with_most_notes_and_an_answer():
    schema = load_schema("pride")
    few = answered("few", "n", "r")
    many = replace(few, key="many", privileged={"situation": "n", "feelings": "f"})
    silent = replace(many, key="silent", targets={})
    assert [one.key for one in choose_examples(schema, [few, silent, many], 2)] == ["many", "few"]
    with pytest.raises(UserError, match="--shots 3: only 2 of the first 3 train samples"):
        choose_examples(schema, [few, silent, many], 3)


def test_a_template_without_a_place_for_examples_refuses_them():
    with pytest.raises(UserError, match="no place for examples"):
        Prompt(load_schema("pride"), "Be kind. {{ notes }}", examples=(answered("x", "n", "r"),))
