"""The artifact: whole or not there, nothing privileged in it, damage found by name."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pride_mm.errors import UserError
from pride_mm.schema import load_schema
from pride_mm.serving.card import Corpus
from pride_mm.serving.export import assert_served_only, export
from pride_mm.serving.predictor import Predictor
from pride_mm.student import load_student


def _words(value: Any) -> Iterator[str]:
    """Every key and string of some JSON but the steps of the prompt, which are no fields."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield name
            yield from () if name == "step" else _words(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _words(entry)
    elif isinstance(value, str):
        yield value


def test_nothing_privileged_is_in_it(artifact: Path) -> None:
    notes = {field.name for field in load_schema("pride").privileged}
    served = json.loads((artifact / "config.json").read_text())["served_schema"]
    assert not notes & {field["name"] for field in served["field"]}
    assert {field["role"] for field in served["field"]} == {"input", "target"}
    with safe_open(artifact / "model.safetensors", framework="pt") as weights:
        parts = {part for name in weights.keys() for part in name.split(".")}  # noqa: SIM118
    assert not notes & parts
    said = set(_words(json.loads((artifact / "config.json").read_text())))
    assert not notes & said


def test_a_parameter_too_many_is_caught(student_folder: Path) -> None:
    student, _, schema = load_student(student_folder)
    assert_served_only(student, schema)
    student.notes = torch.nn.Linear(4, 4)
    with pytest.raises(AssertionError, match=r"notes\.bias"):
        assert_served_only(student, schema)


def test_plain_transformers_loads_it_with_the_same_weights_and_generates(artifact: Path, student_folder: Path) -> None:
    assert AutoConfig.from_pretrained(artifact).model_type == "pride_student"
    plain = AutoModelForCausalLM.from_pretrained(artifact)
    student, _, _ = load_student(student_folder)
    theirs = plain.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in student.state_dict().items())
    given = AutoTokenizer.from_pretrained(artifact)("Once upon a time", return_tensors="pt")["input_ids"]
    made = plain.generate(given, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert torch.equal(made, student.generate(given, max_new_tokens=4, min_new_tokens=4, do_sample=False))
    assert made.shape[1] == given.shape[1] + 4


@pytest.mark.parametrize("width", ["float32", "bfloat16"])
def test_smaller_ones_answer(
    student_folder: Path, predictor: Predictor, clip: Path, tmp_path: Path, width: Any
) -> None:
    quantized = export(student_folder, tmp_path / "a", width=width, quantization="int8")
    plain = export(student_folder, tmp_path / "b", width=width)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (quantized, plain)]
    assert sizes[0] == sizes[1]
    whole = predictor.student.num_parameters() * (4 if width == "float32" else 2)
    assert sizes[0] == pytest.approx(whole, rel=0.2)
    said = [{"speaker": "a", "text": "Once upon a time I lost my dog."}]
    asked = {"dialogue": said, "video": str(clip), "audio": str(clip)}
    reference = predictor.read(predictor.request(**asked))
    for folder in (quantized, plain):
        smaller = Predictor.open(folder)
        request = smaller.request(**asked)
        assert smaller.answer(request, 6).text
        read = smaller.read(request)
        for head, shares in reference.targets.items():
            assert read.targets[head] == pytest.approx(shares, abs=0.05)
    inner = {type(layer).__module__ for layer in Predictor.open(quantized).student.backbone.modules()}
    assert any("quantized" in name for name in inner)
    assert AutoModelForCausalLM.from_pretrained(quantized).dtype == getattr(torch, width)
    with pytest.raises(UserError, match="int8, which answers on a CPU and not on 'cuda'"):
        Predictor.open(quantized, device="cuda")
    with pytest.raises(UserError, match="No width 'float8'"):
        export(student_folder, tmp_path / "c", width="float8")  # type: ignore[arg-type]


def test_the_card_says_what_it_was_trained_on(student_folder: Path, tmp_path: Path) -> None:
    corpora = [Corpus("mosi", 1200, "research use only"), Corpus("mine", 3)]
    card = (export(student_folder, tmp_path / "a", corpora=corpora, width="bfloat16") / "README.md").read_text()
    assert "| mosi | 1,200 | research use only |" in card
    assert "| mine | 3 | not known here |" in card
    assert ", bfloat16" in card


def test_the_card_says_what_it_is(student_folder: Path, tmp_path: Path) -> None:
    score = {"value": 12.345, "n": 3, "unit": "tokens", "interval": None}
    scores = {
        "samples": 3,
        "groups": 2,
        "split": "test",
        "contenders": [{"name": "mine", "scores": {"perplexity": score}}],
        "runs": [{"leakage": {"clean": True}}],
    }
    card = (export(student_folder, tmp_path / "a", ["situation"], scores) / "README.md").read_text()
    assert card.startswith("---\n")
    assert "`situation`" in card
    assert "12.35" in card or "12.34" in card
    assert "no therapist" in card
    assert "equal by bit" in card


def test_an_older_artifact_is_replaced_and_other_folders_are_not(student_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    export(student_folder, out)
    (out / "artifact.json").write_text("{}")
    export(student_folder, out)
    Predictor.open(out)
    assert os.listdir(tmp_path) == ["artifact"]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(UserError, match="is no artifact, so it is not replaced"):
        export(student_folder, tmp_path / "letters")
    assert (tmp_path / "letters" / "mother.txt").read_text() == "dear"


def test_an_export_that_is_stopped_leaves_nothing(
    student_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pride_mm.serving.export.write_record", stop)
    with pytest.raises(KeyboardInterrupt):
        export(student_folder, tmp_path / "artifact")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "README.md"])
def test_a_missing_file_is_named(artifact: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        Predictor.open(copy)


def test_one_flipped_bit_in_the_weights_is_found(artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"model\.safetensors in .* is not what was exported"):
        Predictor.open(copy)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 1}, r"artifact\.json is of format 1; this version reads 2"),
        ({"schema_version": 7}, r"serves schema 'pride' version 7, but its config\.json has 'pride' version 1"),
        ({"schema_sha256": "0" * 64}, "schema 'pride' version 1 is not what it was when exported"),
        ({"quantization": "int3"}, r"artifact\.json is not readable by this version"),
    ],
)
def test_another_version_is_named_and_refused(artifact: Path, tmp_path: Path, changed: Any, said: str) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    record = json.loads((copy / "artifact.json").read_text())
    (copy / "artifact.json").write_text(json.dumps(record | changed))
    with pytest.raises(UserError, match=said):
        Predictor.open(copy)


def test_what_was_not_exported_is_refused(artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    (copy / "LICENCE").write_text("mine")
    Predictor.open(copy)
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"adapter_config\.json in .* was not exported"):
        Predictor.open(copy)


def test_what_is_no_artifact_is_refused(student_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no artifact: artifact\.json is missing"):
        Predictor.open(student_folder)
    with pytest.raises(UserError, match="No artifact at"):
        Predictor.open(tmp_path / "nowhere")
