"""A trained student to an artifact: a folder to ship, with a card, that cannot take notes.

Promise: the folder appears whole or not at all, holds safetensors, JSON and ONNX only, no parameter beyond
those of the served schema's network, and no privileged field.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from pride_mm.errors import UserError
from pride_mm.files import PARTIAL, write_text
from pride_mm.schema import Role, Schema
from pride_mm.serving.artifact import ALLOWED, CARD, is_artifact, write_record
from pride_mm.serving.card import Corpus, model_card
from pride_mm.serving.onnx import write_onnx
from pride_mm.serving.quantize import Quantization, Width, narrow
from pride_mm.student import Student, load_student, save_student


def export(
    student_folder: Path,
    artifact: Path,
    privileged: Sequence[str] = (),
    scores: dict[str, Any] | None = None,
    corpora: Sequence[Corpus] = (),
    width: Width = "float32",
    quantization: Quantization = "none",
    onnx: Sequence[str] = (),
) -> Path:
    """Write the artifact of a student.

    Args:
        student_folder: what ``save_student`` wrote, such as a checkpoint's ``student``.
        artifact: the folder to write; one that an export wrote before is replaced.
        privileged: names of the fields that only training saw, for the card.
        scores: what ``scores.json`` holds, for the card.
        corpora: what it was trained on, for the card.
        width: of the weights in the file.
        quantization: how they are to be loaded, see ``quantize``.
        onnx: names of the fields whose encoders are written as ONNX, too.

    Raises:
        UserError: the student is not whole, ``artifact`` is there and is no artifact, or as ``write_onnx``.
    """
    if artifact.exists() and not is_artifact(artifact) and not (artifact.is_dir() and not any(artifact.iterdir())):
        raise UserError(f"{artifact} is there and is no artifact, so it is not replaced: give another --out.")
    student, tokenizer, schema = load_student(student_folder)
    assert_served_only(student, schema)
    narrow(student, width)
    partial = artifact.with_name(artifact.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_student(partial, student, tokenizer)
        for name in onnx:
            write_onnx(student, name, partial)
        assert_no_more_than(partial, student)
        write_text(partial / CARD, model_card(student, schema, privileged, scores, corpora))
        write_record(partial, schema, quantization)
        _put(partial, artifact)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return artifact


def assert_served_only(student: Student, schema: Schema) -> None:
    """The schema inside has no privileged field, and the network is the one that the schema describes."""
    assert not schema.of(Role.PRIVILEGED), "a served schema has no privileged fields"
    with torch.device("meta"):
        described = set(Student(student.config).state_dict())
    more = sorted(set(student.state_dict()) - described)
    assert not more, f"parameters that the served schema does not call for: {', '.join(more[:5])}"


def assert_no_more_than(folder: Path, student: Student) -> None:
    """Nothing in the folder runs, and its weights are the student's and no others."""
    strange = [path.name for path in folder.iterdir() if path.suffix not in ALLOWED]
    assert not strange, f"files that do not belong in an artifact: {', '.join(strange)}"
    known = set(student.state_dict())
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as weights:
            more = sorted(set(weights.keys()) - known)
        assert not more, f"{path.name} has weights that no student has: {', '.join(more[:5])}"


def _put(partial: Path, artifact: Path) -> None:
    """Put the new folder in the old one's place; the old one is out of the way for an instant only."""
    old = artifact.with_name(artifact.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if artifact.exists():
        os.replace(artifact, old)
    os.replace(partial, artifact)
    shutil.rmtree(old, ignore_errors=True)
