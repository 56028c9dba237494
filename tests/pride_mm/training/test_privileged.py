"""The privileged path: its own softmax, its own chances, and nothing left of it where notes are dropped."""

from pathlib import Path

import pytest
import torch

from pride_mm.data.batch import Padded
from pride_mm.schema import load_schema
from pride_mm.student import Student, load_student, save_student
from pride_mm.student.backbone import load_backbone
from pride_mm.training.chances import Chances
from pride_mm.training.privileged import PrivilegedPath

FIELDS = ("feelings", "situation")


@pytest.fixture(scope="module")
def loaded(small_model: Path):
    torch.manual_seed(0)
    model, tokenizer = load_backbone(small_model)
    return Student.from_backbone(model, load_schema("pride"), layers=2), tokenizer


@pytest.fixture
def path() -> PrivilegedPath:
    path = PrivilegedPath(FIELDS, 64, 8, field_dropout=0.3, row_dropout=0.5, seed=3)
    torch.nn.init.ones_(path.attention.gate)
    return path


def ids(seed: int, rows: int = 6, length: int = 5) -> Padded:
    make = torch.Generator().manual_seed(seed)
    return Padded(torch.randint(3, 500, (rows, length), generator=make), torch.ones(rows, length, dtype=torch.bool))


def chances(step: int) -> Chances:
    return Chances(0, step, tuple(f"k{row}" for row in range(6)))


def notes(absent: tuple[int, ...] = ()) -> dict[str, Padded]:
    made = {name: ids(seed) for seed, name in enumerate(FIELDS)}
    for note in made.values():
        note.mask[list(absent)] = False
    return made


def test_rows_without_notes_equal_the_deploy_pass_by_bit(loaded, path):
    student = loaded[0].train()
    inputs, response = {"dialogue": ids(7)}, ids(8)
    read = path.eval().read(path.encode(notes(absent=(1, 5)), student.get_input_embeddings()))
    deploy, noted = student.respond(inputs, response), student.respond(inputs, response, read)
    same = (deploy.hidden == noted.hidden).flatten(1).all(1)
    assert same.tolist() == [False, True, False, False, False, True]


def test_rows_are_dropped_by_chance_and_never_chosen_without_notes(loaded, path):
    latents = path.encode(notes(absent=(5,)), loaded[0].get_input_embeddings())
    chosen = [path.choose(latents.present, chances=chances(step)).tolist() for step in range(200)]
    assert {row for rows in chosen for row in rows} == {0, 1, 2, 3, 4}
    assert 0.4 < sum(len(rows) for rows in chosen) / 1000 < 0.6
    assert path.choose(latents.present).tolist() == [0, 1, 2, 3, 4]


def test_chance_belongs_to_sample_step_field_and_seed(loaded, path):
    embedding, both = loaded[0].get_input_embeddings(), notes()
    shown = path.shown(both, chances(4))
    kept = {name: mask.any(1).tolist() for name, mask in shown.items()}
    assert kept["feelings"] != kept["situation"]
    assert kept != {name: mask.any(1).tolist() for name, mask in path.shown(both, chances(5)).items()}
    turned = torch.tensor([5, 4, 3, 2, 1, 0])
    other = {name: Padded(note.values[turned], note.mask[turned]) for name, note in both.items()}
    given, again = path.encode(both, embedding, chances(4)), path.encode(other, embedding, chances(4).rows(turned))
    torch.testing.assert_close(again.values, given.values[turned])
    dropped = sum(not one for step in range(300) for one in path.shown(both, chances(step))["feelings"].any(1).tolist())
    assert 0.25 < dropped / 1800 < 0.35


def test_the_gate_starts_shut_and_learns(loaded):
    path = PrivilegedPath(FIELDS, 64, 8, row_dropout=0.0, field_dropout=0.0)
    student = loaded[0]
    read = path.read(path.encode(notes(), student.get_input_embeddings()))
    inputs, response = {"dialogue": ids(7)}, ids(8)
    out = student.respond(inputs, response, read)
    assert torch.equal(out.hidden, student.respond(inputs, response).hidden)
    out.hidden.square().sum().backward()
    assert path.attention.gate.grad != 0
    student.zero_grad()


def test_its_chances_leave_all_others_alone(loaded, path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    path.read(path.encode(notes(), loaded[0].get_input_embeddings(), chances(0)))
    PrivilegedPath(FIELDS, 64, 8)
    assert torch.equal(torch.rand(3), expected)


def test_no_notes_at_all_is_zero_with_a_gradient(loaded, path):
    embedding = loaded[0].get_input_embeddings()
    latents = path.encode(notes(absent=tuple(range(6))), embedding)
    assert torch.equal(latents.values, torch.zeros(6, 8, 64))
    predicted = torch.randn(6, 8, 64, requires_grad=True)
    loss = path.prior_loss(predicted, latents)
    loss.backward()
    assert loss == 0
    assert predicted.grad.isfinite().all()
    text = torch.randn(6, 4, 64)
    assert torch.equal(path.read(latents)(text), torch.zeros_like(text))


def test_the_prior_learns_from_rows_with_notes_and_does_not_pull_the_notes(loaded, path):
    predicted = torch.randn(6, 8, 64, requires_grad=True)
    latents = path.eval().encode(notes(absent=(2,)), loaded[0].get_input_embeddings())
    path.prior_loss(predicted, latents).backward()
    assert torch.equal(predicted.grad[2], torch.zeros(8, 64))
    assert (predicted.grad[0] != 0).any()
    assert all(parameter.grad is None for parameter in path.resampler.parameters())
    with torch.no_grad():
        path.predict.weight.copy_(torch.eye(64))
        assert path.prior_loss(3 * latents.values, latents) < 1e-6


def test_training_ends_as_deployment_begins(loaded, path):
    latents = path.encode(notes(), loaded[0].get_input_embeddings())
    assert len(path.choose(latents.present, 1.0, chances(1))) == 0
    assert (
        path.choose(latents.present, 0.0, chances(1)).tolist() == path.choose(latents.present, 0.5, chances(1)).tolist()
    )
    assert len(path.choose(latents.present, 0.0, chances(1))) > 0


def test_fields_are_told_apart_and_a_missing_one_counts_as_absent(loaded, path):
    path.eval()
    embedding = loaded[0].get_input_embeddings()
    both = notes()
    swapped = dict(zip(FIELDS, reversed(both.values()), strict=True))
    whole = path.encode(both, embedding)
    assert not torch.allclose(whole.values, path.encode(swapped, embedding).values, atol=1e-4)
    gone = {**both, FIELDS[1]: Padded(both[FIELDS[1]].values, torch.zeros(6, 5, dtype=torch.bool))}
    without = path.encode({FIELDS[0]: both[FIELDS[0]]}, embedding)
    torch.testing.assert_close(path.encode(gone, embedding).values, without.values)


def test_nothing_of_it_reaches_the_students_folder(loaded, path, tmp_path):
    student, tokenizer = loaded
    save_student(tmp_path / "student", student, tokenizer)
    kept = load_student(tmp_path / "student")[0]
    total = sum(parameter.numel() for parameter in student.parameters())
    assert sum(parameter.numel() for parameter in kept.parameters()) == total
    assert not set(path.state_dict()) & {name for name in kept.state_dict() if "field" in name or "predict." in name}


def test_notes_stand_in_the_place_of_their_prediction(loaded):
    student = loaded[0].train()
    path = PrivilegedPath(FIELDS, 64, 8, row_dropout=0.0, field_dropout=0.0, place="instead")
    inputs, response = {"dialogue": ids(7)}, ids(8)
    with torch.no_grad():
        student.attention.gate.fill_(0.5)
    deploy = student.respond(inputs, response)
    latents = path.encode(notes(absent=(1, 5)), student.get_input_embeddings())
    read, sources = path.join(latents, deploy.sources)
    assert read is None
    assert sources.names == deploy.sources.names
    noted = student.respond(inputs, response, read, sources)
    same = (deploy.hidden == noted.hidden).flatten(1).all(1)
    assert same.tolist() == [False, True, False, False, False, True]
    assert path.prior_loss(latents.values, latents) == 0  # what predicts them exactly can stand in for them
    assert path.prior_loss(2 * latents.values, latents).item() == pytest.approx(1.0)
    noted.logits["emotion"].square().sum().backward()
    assert path.resampler.latents.grad.abs().sum() > 0  # heads read them, whatever the gate
    with torch.no_grad():
        student.attention.gate.zero_()
    student.zero_grad()
