"""A teacher's words on its own tokens, for a student of other tokens: real tokenizers of two families."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.conversation import response_ids
from pride_mm.data.shards import ShardSet
from pride_mm.data.teaching import Lesson
from pride_mm.data.vocabularies import NO_TOKEN, Translation, spellings, spellings_to_bytes, token_starts
from pride_mm.errors import UserError
from pride_mm.schema import Role
from pride_mm.student.backbone import load_tokenizer

WORDS = st.text(st.sampled_from("ab eI'.,\n") | st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=30)


@pytest.fixture(scope="module")
def tokenizers(small_model, other_family):
    return load_tokenizer(small_model), load_tokenizer(other_family)


def said_before(tokenizer, ids, place):
    return tokenizer.decode(ids[:place], skip_special_tokens=True).lstrip()


@pytest.fixture(scope="module")
def lesson_of(tokenizers):
    def make(text: str, k: int = 5) -> Lesson:
        teacher = tokenizers[0]
        ids, _ = response_ids(teacher, text, 1000)
        logits = torch.randn(len(ids), len(teacher), generator=torch.Generator().manual_seed(len(text))).log_softmax(-1)
        top, tokens = logits.topk(k)
        rest = logits.scatter(-1, tokens, -torch.inf).logsumexp(-1)
        starts = torch.tensor(token_starts(teacher, ids, text))
        return Lesson(torch.tensor(ids), False, logits[:, 0], torch.zeros(3), tokens, top, rest, starts=starts)

    return make


@settings(max_examples=150, deadline=None)
@given(text=WORDS)
def test_rows_that_count_have_read_the_same_and_each_is_the_teachers_own(tokenizers, lesson_of, text):
    teacher, student = tokenizers
    lesson = lesson_of(text)
    ids, _ = response_ids(student, text, 1000)
    there = Translation(student, None).lesson(lesson, ids, text)
    assert len(there.counts) == len(ids) == len(there.ids)
    theirs = lesson.response_ids.tolist()
    for place in there.counts.nonzero().flatten().tolist():
        mine = said_before(student, ids, place)
        before = [n for n in range(len(theirs)) if said_before(teacher, theirs, n) == mine]
        assert before, "the teacher has a token that begins here"
        assert torch.equal(there.log_probs[place], lesson.log_probs[before[-1]])
        assert text.strip().startswith(mine)


def test_plain_words_and_the_end_are_all_matched(tokenizers, lesson_of):
    _, student = tokenizers
    text = "I am so sorry to hear that. What was she like?"
    lesson, ids = lesson_of(text), response_ids(student, text, 1000)[0]
    there = Translation(student, None).lesson(lesson, ids, text)
    words = len(text.split())
    assert there.counts.sum() >= words
    assert there.counts[-1], "both say when it ends"
    assert torch.equal(there.log_probs[-1], lesson.log_probs[-1])


def test_parts_of_a_character_are_nowhere(tokenizers, lesson_of):
    _, student = tokenizers
    ids = response_ids(student, "ก ok", 1000)[0]
    starts = token_starts(student, ids, "ก ok")
    assert starts[0] == 0
    assert -1 in starts[:3]
    assert starts[-1] == len("ก ok".encode())


def test_spellings_are_what_a_token_adds(tokenizers):
    for tokenizer in tokenizers:
        spelt = spellings(tokenizer)
        assert len(spelt) == len(tokenizer)
        assert spelt[tokenizer.eos_token_id] == ""
        assert spelt.count("") == 1
        ids = tokenizer("Well, I have a dog", add_special_tokens=False)["input_ids"]
        assert "".join(spelt[one] for one in ids).strip() == "Well, I have a dog"
        assert all(spelt[one] is None for one in tokenizer.all_special_ids if one != tokenizer.eos_token_id)


def test_what_the_student_cannot_spell_is_in_the_tail(tokenizers, lesson_of):
    teacher, student = tokenizers
    text = "She had a wonderful dog."
    lesson, ids = lesson_of(text, 20), response_ids(student, text, 1000)[0]
    said = Translation.of(student, spellings_to_bytes(spellings(teacher))).lesson(lesson, ids, text)
    plain = Translation(student, None).lesson(lesson, ids, text)
    mine, theirs = spellings(student), spellings(teacher)
    assert said.counts.any()
    seen = set()
    for place in said.counts.nonzero().flatten().tolist():
        there = said.ids[place] != NO_TOKEN
        for one, other in zip(said.ids[place][there].tolist(), plain.ids[place][there].tolist(), strict=True):
            assert mine[one] == theirs[other]
            seen.add(mine[one])
        assert len(set(said.ids[place][there].tolist())) == there.sum()
        mass = said.log_probs[place][there].exp().sum() + said.log_tail[place].exp()
        assert float(mass) == pytest.approx(1.0, abs=1e-5)
    assert len(seen) > 5


def test_a_row_without_any_token_in_common_does_not_count(tokenizers, lesson_of):
    teacher, student = tokenizers
    text = "A dog."
    lesson, ids = lesson_of(text, 2), response_ids(student, text, 1000)[0]
    strange = next(n for n, spelling in enumerate(spellings(teacher)) if spelling is None)
    lesson = replace(lesson, ids=torch.full_like(lesson.ids, strange))
    said = Translation.of(student, spellings_to_bytes(spellings(teacher))).lesson(lesson, ids, text)
    assert not said.counts.any()


def test_lessons_keep_where_tokens_begin_and_what_was_written(taught, tokenizers):
    shards = ShardSet.open(taught)
    for sample in shards.samples("train", (Role.INPUT, Role.TARGET), teacher=True):
        lesson = Lesson.from_bytes(sample.teacher)
        text = lesson.text or str(sample.targets[shards.schema.response.name])
        assert bool(lesson.text) == lesson.written
        assert lesson.starts.tolist() == token_starts(tokenizers[0], lesson.response_ids.tolist(), text)
        assert Lesson.from_bytes(lesson.to_bytes()).text == lesson.text


def test_an_old_cache_says_what_to_do(tokenizers, lesson_of):
    old = replace(lesson_of("A dog."), starts=None)
    with pytest.raises(UserError, match="Run 'pride teach' again"):
        Translation(tokenizers[1], None).lesson(old, [1, 2], "A dog.")
