"""What answers cost, of real models side by side."""

from pathlib import Path

import pytest

from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.evaluation.cost import costs, student_answerer, teacher_answerer
from pride_mm.evaluation.examined import load_examinee


def test_student_and_teacher_are_timed_on_the_same_prompts(
    runs: list[Path], opened: ShardSet, small_model: Path
) -> None:
    student = load_examinee(runs[0], opened)
    samples = opened.samples("test")[:2]
    answerers = {"student": student_answerer(student), "teacher": teacher_answerer(str(small_model), student)}
    found = costs(answerers, samples)
    assert found["teacher"].parameters == 260_032
    assert found["student"].parameters == sum(weight.numel() for weight in student.student.parameters())
    assert all(0 < one.milliseconds < 5000 for one in found.values())
    assert answerers["student"].prepare(samples[0])().shape == (1, 16)
    assert costs(answerers, []) == {}
    with pytest.raises(UserError, match="nope"):
        teacher_answerer("nope", student)
