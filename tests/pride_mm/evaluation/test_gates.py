"""What a real student and a real privileged path lean on; known attention gives known shares."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pride_mm.data.shards import ShardSet
from pride_mm.evaluation.examined import load_examinee
from pride_mm.evaluation.gates import gates, load_path
from pride_mm.evaluation.predictions import Examinee
from pride_mm.schema import Role
from pride_mm.training.privileged import Place, PrivilegedPath

ALL = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)


@pytest.fixture(scope="module")
def examinee(runs: list[Path], opened: ShardSet) -> Examinee:
    return load_examinee(runs[0], opened)


def _checkpoint(folder: Path, examinee: Examinee, gate: float, place: Place = "beside") -> PrivilegedPath:
    config = examinee.student.config
    fields = tuple(field.name for field in examinee.schema.privileged)
    path = PrivilegedPath(fields, config.width, config.latents, place=place)
    with torch.no_grad():
        if path.attention is not None:
            path.attention.gate.fill_(gate)
    tensors = {f"training.path.{name}": value.clone() for name, value in path.state_dict().items()}
    save_file(tensors | {"queue": torch.zeros(2)}, folder / "training.safetensors")
    return path


def test_a_run_without_a_privileged_path_says_so(runs: list[Path], examinee: Examinee, opened: ShardSet) -> None:
    (checkpoint,) = runs[0].glob("checkpoint-*")
    found = gates(examinee, checkpoint, opened.samples("test", ALL), {})
    assert found.text == {0: pytest.approx(math.tanh(1.0))}
    assert found.noted is None
    assert "without a privileged path" in found.why


def test_with_notes_each_field_has_its_share(tmp_path: Path, examinee: Examinee, opened: ShardSet) -> None:
    path = _checkpoint(tmp_path, examinee, 0.5)
    loaded = load_path(tmp_path, examinee)
    assert loaded is not None
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in path.state_dict().items())
    found = gates(examinee, tmp_path, opened.samples("test", ALL), {"data.max_note": 32}).noted
    assert found is not None
    assert (found.samples, found.gate) == (6, pytest.approx(math.tanh(0.5)))
    assert set(found.fields) == {"situation", "expression"}
    assert all(0 < share < 1 for share in found.fields.values())
    assert sum(found.fields.values()) < 1
    assert found.gain is not None
    assert math.isfinite(found.gain)
    assert gates(examinee, tmp_path, None, {}).why == "the notes are not at this site"


def test_a_closed_gate_is_worth_nothing(tmp_path: Path, examinee: Examinee, opened: ShardSet) -> None:
    _checkpoint(tmp_path, examinee, 0.0)
    found = gates(examinee, tmp_path, opened.samples("test", ALL), {}).noted
    assert found is not None
    assert (found.gate, found.gain) == (0.0, 0.0)


def test_indifferent_attention_is_shared_by_the_count(tmp_path: Path, examinee: Examinee, opened: ShardSet) -> None:
    """Where all keys are alike, counts decide: of tokens among the resampler's keys, of latents among the text's."""
    _checkpoint(tmp_path, examinee, 0.5)
    tensors = load_file(tmp_path / "training.safetensors")
    for name, value in tensors.items():
        if "query" in name:
            tensors[name] = torch.zeros_like(value)
    save_file(tensors, tmp_path / "training.safetensors")
    found = gates(examinee, tmp_path, opened.samples("test", ALL), {}).noted
    sample = next(one for one in opened.samples("test", ALL) if one.privileged)
    batch = replace(examinee.collator, max_note=64)([sample])
    assert found is not None
    assert batch.privileged is not None
    counts = {name: int(padded.mask.sum()) for name, padded in batch.privileged.items()}
    latents = examinee.student.config.latents
    keys = sum(counts.values()) + latents
    for name in ("situation", "expression"):
        assert found.fields[name] == pytest.approx(latents / (latents + 1) * counts[name] / keys, rel=1e-4)


def test_notes_that_join_the_sources_have_no_gate(tmp_path: Path, examinee: Examinee, opened: ShardSet) -> None:
    student = examinee.student
    fusion = student.config.fusion
    student.config.fusion = "hierarchical"  # the path joins the sources wherever this isn't multi_source
    try:
        _checkpoint(tmp_path, examinee, 0.0, place="among")
        found = gates(examinee, tmp_path, opened.samples("test", ALL), {}).noted
    finally:
        student.config.fusion = fusion
    assert found is not None
    assert found.gate is None
    assert 0 < sum(found.fields.values()) < 1
    assert "dialogue summary" in found.sources
