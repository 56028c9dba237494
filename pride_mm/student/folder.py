"""A student's folder: a plain Hugging Face model with its tokenizer. Safetensors and JSON only; nothing in it runs."""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer

from pride_mm.errors import UserError
from pride_mm.files import PARTIAL
from pride_mm.schema import Schema
from pride_mm.student.config import StudentConfig
from pride_mm.student.network import Student


def save_student(folder: Path, student: Student, tokenizer: Any, state: Mapping[str, Tensor] | None = None) -> None:
    """Write a student and its tokenizer to ``folder``, which appears under its name only when it is whole.

    ``state`` are its weights where they aren't to be saved as they are.
    """
    beside = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        # By the names that the modules have: for some encoders' models, transformers would write those of old.
        given = None if state is None else dict(state)
        student.save_pretrained(beside, state_dict=given, save_original_format=False)
        tokenizer.save_pretrained(beside)
        for weights in beside.glob("*.safetensors"):  # safetensors writes for the owner alone, whatever the umask
            shutil.copymode(beside / "config.json", weights)
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load_student(folder: Path) -> tuple[Student, Any, Schema]:
    """The student (in eval mode), its tokenizer and the schema it serves.

    Raises:
        UserError: what is missing or broken, by the file's name.
    """
    if not folder.is_dir():
        raise UserError(f"No student at {folder}: give the folder that 'pride train' or 'pride export' wrote.")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a whole student: {name} is missing.")
        _load(name, folder, partial(_parse, folder / name))
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder} is not a whole student: model.safetensors is missing.")
    config = _load("config.json", folder, lambda: StudentConfig.from_pretrained(folder))
    student, report = _load(
        "model.safetensors",
        folder,
        lambda: Student.from_pretrained(folder, config=config, output_loading_info=True, use_safetensors=True),
    )
    lost = sorted(report["missing_keys"])
    strange = sorted(report["unexpected_keys"])
    if lost or strange or report["mismatched_keys"]:
        wrong = [str(key) for key in (*lost, *strange, *report["mismatched_keys"])]
        raise UserError(f"{folder / 'model.safetensors'} does not fit its config.json: {', '.join(wrong[:5])}.")
    tokenizer = _load("tokenizer.json", folder, lambda: AutoTokenizer.from_pretrained(folder))
    return student.eval(), tokenizer, config.schema


def _parse(file: Path) -> Any:
    return json.loads(file.read_text())


def _load(name: str, folder: Path, load: Any) -> Any:
    try:
        return load()
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  parsers and safetensors raise a dozen kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder / name} cannot be read ({reason}). Write the student again.") from None
