"""The check finds a leak where there is one, and none in a real student."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pride_mm.data.batch import Batch
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.evaluation.leakage import ALTERATIONS, OverlapCounter, alter, check_leakage
from pride_mm.evaluation.predictions import Examinee
from pride_mm.schema import Kind, Role, Schema, jsonable, load_schema, parse_value
from pride_mm.student import load_student
from pride_mm.training.checkpoint import student_folder

ALL = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)


@pytest.fixture
def examinee(runs: list[Path], opened: ShardSet) -> Examinee:
    student, tokenizer, _ = load_student(student_folder(runs[0]))
    return Examinee(student, tokenizer, opened.schema, 12)


@pytest.fixture
def samples(opened: ShardSet) -> Sequence[Sample]:
    reader = opened.samples("test", ALL)
    return [reader[number] for number in (0, 1, 6, len(reader) - 1)]


def test_a_real_student_says_the_same_by_bit(examinee: Examinee, samples: Sequence[Sample], opened: ShardSet) -> None:
    assert any(sample.privileged for sample in samples)
    found = check_leakage(opened.schema, samples, examinee.collator, examinee.everything)
    assert found.clean
    assert set(found.variants) == {"altered", "NaN", "empty", "gone"}
    assert "answer" in found.outputs
    assert found.samples == 4


def test_a_leak_is_found_and_named(examinee: Examinee, samples: Sequence[Sample], opened: ShardSet) -> None:
    def leaky(batch: Batch) -> dict[str, torch.Tensor]:
        """Lets the last bit of one head depend on whether the first row has notes."""
        said = {name: tensor.clone() for name, tensor in examinee.outputs(batch).items()}
        if batch.privileged is None:
            head = next(name for name in said if name.startswith("head"))
            said[head][1] = torch.nextafter(said[head][1], torch.tensor(torch.inf))
        return said

    found = check_leakage(opened.schema, samples, examinee.collator, leaky)
    assert not found.clean
    assert found.variants["gone"] == (samples[1].key,)
    assert found.variants["altered"] == ()


def test_the_note_reaches_the_check_as_nan(examinee: Examinee, samples: Sequence[Sample], opened: ShardSet) -> None:
    def curious(batch: Batch) -> dict[str, torch.Tensor]:
        garbage = batch.privileged is not None and any(p.values.isnan().any() for p in batch.privileged.values())
        return {"saw": torch.full((len(batch),), float(garbage))}

    found = check_leakage(opened.schema, samples, examinee.collator, curious)
    assert len(found.variants["NaN"]) == 4
    assert not found.variants["gone"]


@pytest.mark.parametrize("name", ["pride", "empathetic_dialogues"])
def test_altered_notes_are_valid_and_other(name: str) -> None:
    for field in load_schema(name).privileged:
        first = alter(field, None, 2)
        second = alter(field, first, 2)
        assert first != second
        assert parse_value(field, jsonable(first), 2) == first
        assert parse_value(field, jsonable(second), 2) == second


def test_every_kind_that_notes_can_have_can_be_altered() -> None:
    assert set(ALTERATIONS) == set(Kind) - {Kind.VIDEO, Kind.AUDIO, Kind.DIALOGUE}


def _noted(schema: Schema, sample: Sample, note: str) -> Sample:
    from dataclasses import replace

    return replace(sample, privileged={"situation": note})


def test_overlap_counts_shared_runs_of_words(opened: ShardSet, samples: Sequence[Sample]) -> None:
    spoken = samples[0].inputs["dialogue"][0].text  # type: ignore[index, union-attr]
    counter = OverlapCounter(opened.schema)
    counter.add(_noted(opened.schema, samples[0], spoken))
    counter.add(_noted(opened.schema, samples[1], "nothing of this is ever said by anyone"))
    found = counter.result()["situation"]
    assert (found.samples, found.inputs, found.response) == (2, 0.5, 0.0)
    assert found.near == (samples[0].key,)
    assert set(counter.result()) == {"situation"}
