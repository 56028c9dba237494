"""A real small model's word on responses, held against its full logits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig, LlamaConfig

from pride_mm.data.teaching import Lesson, stack
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import Question

SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 520, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PROMPTS = [Question([5, 9, 30, 41]), Question([7, 8])]
RESPONSES = [[50, 60, 2], [70, 80, 90, 100, 2]]


@pytest.fixture(scope="module")
def teacher(small_model: Path) -> Teacher:
    return Teacher(*load_backbone(small_model), top_k=32)


@pytest.fixture(scope="module")
def lessons(teacher):
    return teacher.score(PROMPTS, RESPONSES, [False, True])


def test_it_equals_the_models_own_logits(teacher, lessons):
    for prompt, response, lesson in zip(PROMPTS, RESPONSES, lessons, strict=True):
        with torch.no_grad():
            logits = teacher.model(torch.tensor([prompt.ids + response])).logits[0, len(prompt.ids) - 1 : -1].double()
        exact = logits.log_softmax(-1)
        assert torch.allclose(lesson.log_probs.double(), exact.gather(1, lesson.ids.long()), atol=1e-5)
        assert torch.allclose(
            lesson.gold_log_probs.double(), exact.gather(1, torch.tensor(response)[:, None])[:, 0], atol=1e-5
        )
        rest = exact.scatter(1, lesson.ids.long(), float("-inf")).logsumexp(-1)
        assert torch.allclose(lesson.log_tail.double(), rest, atol=1e-4)


def test_the_mass_is_one(lessons):
    for lesson in lessons:
        mass = lesson.log_probs.exp().sum(-1) + lesson.log_tail.exp()
        assert torch.allclose(mass, torch.ones_like(mass), atol=1e-5)


def test_its_neighbours_in_a_batch_change_nothing(teacher, lessons):
    alone = teacher.score(PROMPTS[:1], RESPONSES[:1], [False])[0]
    assert torch.allclose(alone.log_tail, lessons[0].log_tail, atol=1e-5)
    assert torch.allclose(alone.features, lessons[0].features, atol=1e-5)


def test_the_teacher_is_frozen_and_in_eval(teacher):
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_written_responses_continue_the_prompt(teacher):
    written = teacher.write(PROMPTS, 6)
    assert all(1 <= len(ids) <= 6 for ids in written)
    assert written[0] == teacher.write(PROMPTS[:1], 6)[0]


def test_a_lesson_survives_its_bytes_and_the_same_lesson_has_the_same(lessons):
    data = lessons[1].to_bytes()
    back = Lesson.from_bytes(data)
    assert back.written
    assert back.to_bytes() == data
    assert torch.equal(back.log_tail, lessons[1].log_tail)


@pytest.mark.parametrize("data", [b"", b"not a lesson", b"\x80\x04\x95cos\nsystem\n"])
def test_what_is_no_lesson_is_refused(data):
    with pytest.raises(ValueError, match="not what a teacher wrote"):
        Lesson.from_bytes(data)


def test_stacked_lessons_are_padded_and_masked(lessons):
    teaching = stack([lessons[0], None, lessons[1]], 6)
    assert teaching.mask.sum(1).tolist() == [3, 0, 5]
    assert teaching.ids.shape == (3, 6, 32)
    assert stack([None], 3) is None


def test_its_states_and_its_head_make_its_logits(teacher, small_model, lessons):
    keeping = Teacher(teacher.model, teacher.tokenizer, top_k=0)
    for lesson, sparse in zip(keeping.score(PROMPTS, RESPONSES, [False, True]), lessons, strict=True):
        assert lesson.ids is None
        log_probs = keeping.head.logits(lesson.states).log_softmax(-1)
        assert torch.allclose(log_probs.gather(1, sparse.ids.long()), sparse.log_probs, atol=1e-5)
        back = Lesson.from_bytes(lesson.to_bytes())
        near = keeping.head.logits(back.states.float()).log_softmax(-1)
        rounding = (log_probs.exp() * (log_probs - near)).sum(-1)
        assert rounding.max() < 1e-3  # nats; bfloat16 keeps three digits of a state


def test_states_in_eight_bits_take_half_and_are_some_thousandths_of_a_nat_off(teacher):
    whole, small = (
        Teacher(teacher.model, teacher.tokenizer, top_k=0, fp8=fp8).score(PROMPTS, RESPONSES, [False, True])[1]
        for fp8 in (False, True)
    )
    back = Lesson.from_bytes(small.to_bytes())
    assert back.to_bytes() == small.to_bytes()
    saved = len(whole.to_bytes()) - len(small.to_bytes())
    assert saved > 0.8 * whole.states.numel() - 4 * len(small.scale) - 200
    log_p, log_q = (teacher.head.logits(states.float()).log_softmax(-1) for states in (whole.states, back.whole_states))
    apart = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert 0 < apart.max() < 0.02
    teaching = stack([whole, back], 6)
    assert (teaching.states[0, :5] - teaching.states[1, :5]).abs().max() < 0.07 * whole.states.abs().max()


@pytest.mark.parametrize("highest", [65_535, 65_536, 151_935])
def test_ids_take_two_bytes_or_three_and_come_back(lessons, highest):
    ids = lessons[1].ids.clone()
    ids[0, 0] = highest
    given = replace(lessons[1], ids=ids)
    assert torch.equal(Lesson.from_bytes(given.to_bytes()).ids, ids)
    more = len(given.to_bytes()) - len(lessons[1].to_bytes())
    assert (more >= ids.numel()) == (highest > 65_535)


def test_stacked_states_are_padded(teacher):
    keeping = Teacher(teacher.model, teacher.tokenizer, top_k=0)
    teaching = stack([None, *keeping.score(PROMPTS, RESPONSES, [False, True])], 6)
    assert teaching.states.shape[:2] == (3, 6)
    assert teaching.ids is None
    assert teaching.mask.sum(1).tolist() == [0, 3, 5]
    assert not teaching.states[1, 3:].any()


def test_in_half_the_width_it_says_nearly_the_same(teacher, small_model, lessons):
    half = Teacher(*load_backbone(small_model, torch.bfloat16, device_map="auto"), top_k=32)
    assert half.model.dtype == torch.bfloat16
    for one, other in zip(half.score(PROMPTS, RESPONSES, [False, True]), lessons, strict=True):
        assert one.gold_log_probs.dtype == torch.float32
        assert (one.gold_log_probs - other.gold_log_probs).abs().mean() < 0.1
    assert teacher.model.dtype == torch.float32


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SHAPE, final_logit_softcapping=0.1),
        GraniteConfig(**SHAPE, logits_scaling=4.0, embedding_multiplier=3.0),
        LlamaConfig(**SHAPE),
    ],
    ids=lambda config: config.model_type,
)
def test_what_models_do_to_their_logits_is_done_here_too(teacher, config):
    torch.manual_seed(0)
    other = Teacher(AutoModelForCausalLM.from_config(config), teacher.tokenizer, top_k=32)
    for prompt, response, lesson in zip(
        PROMPTS, RESPONSES, other.score(PROMPTS, RESPONSES, [False, True]), strict=True
    ):
        with torch.no_grad():
            logits = other.model(torch.tensor([prompt.ids + response])).logits[0, len(prompt.ids) - 1 : -1].double()
        exact = logits[:, : other.vocabulary].log_softmax(-1)
        assert torch.allclose(lesson.log_probs.double(), exact.gather(1, lesson.ids.long()), atol=1e-5)
