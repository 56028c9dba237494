"""A real small model's word on responses, held against its full logits."""

from pathlib import Path

import pytest
import torch

from pride_mm.data.teaching import Lesson, stack
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.scoring import Teacher

PROMPTS = [[5, 9, 30, 41], [7, 8]]
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
            logits = teacher.model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].double()
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
