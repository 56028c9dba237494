"""A real small model's choice among options, held against its own full scores."""

import pytest
import torch

from pride_mm.data.conversation import Message, chat_ids
from pride_mm.teacher.local_writer import LocalWriter
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import Question

OPTIONS = ("sad", "happy", "fearful", "a very long option of many tokens")
BLANK: list[Message] = [{"role": "user", "content": "How does Lily feel?"}]
CHAT: list[Message] = [{"role": "user", "content": "Lily lost her toy. She began to cry. How does Lily feel?"}]


def means(teacher: Teacher, chat: list[Message]) -> torch.Tensor:
    """Each option scored by itself, without a cache and without neighbours."""
    prompt = Question(chat_ids(teacher.tokenizer, chat))
    rows = [teacher.tokenizer(" " + option, add_special_tokens=False)["input_ids"] for option in OPTIONS]
    return torch.stack([teacher.score([prompt], [row], [True])[0].gold_log_probs.mean() for row in rows])


def test_an_option_is_what_the_dialogue_makes_more_probable(storyteller: Teacher) -> None:
    shares = (means(storyteller, CHAT) - means(storyteller, BLANK)).softmax(0)
    writer = LocalWriter(storyteller)
    said = writer.choose(CHAT, OPTIONS, BLANK)
    assert said.text == OPTIONS[int(shares.argmax())]
    assert said.probability == pytest.approx(float(shares.max()), abs=1e-4)
    assert writer.choose(CHAT, OPTIONS, BLANK) == said, "the second time from what it kept"
    assert writer.choose(BLANK, OPTIONS, BLANK).probability == pytest.approx(1 / len(OPTIONS), abs=1e-4)


def test_its_own_words_carry_their_probability_and_end_with_a_sentence(storyteller: Teacher) -> None:
    writer = LocalWriter(storyteller, max_tokens=40)
    said = writer.write(CHAT)
    assert said.text[-1] in ".!?\"'"
    assert said.probability is not None
    assert 0.05 < said.probability < 1
    assert LocalWriter(storyteller, max_tokens=3).write(CHAT).text, "three tokens are no sentence, but all there is"


def test_what_fits_is_counted_in_tokens(storyteller: Teacher) -> None:
    tokens = len(chat_ids(storyteller.tokenizer, CHAT))
    assert LocalWriter(storyteller, limit=tokens).fits(CHAT)
    assert not LocalWriter(storyteller, limit=tokens - 1).fits(CHAT)
