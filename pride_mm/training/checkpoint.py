"""A run's folder: checkpoints that are whole or not there, safetensors and JSON only.

``checkpoint-000120/student`` is the deployable student, ``training.safetensors`` holds what only
training needs (the privileged path, the optimiser's moments, the random state) and ``state.json``
the position. No teacher is in it.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pride_mm.errors import UserError
from pride_mm.files import PARTIAL, write_json
from pride_mm.training.adapters import merged_state

_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class State:
    """Where a run is. ``score`` is the validation loss without notes, by which the best checkpoint is chosen."""

    step: int
    epoch: int
    score: float
    finished: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = (path for path in run.glob(f"{_PREFIX}*") if (path / "state.json").is_file() and PARTIAL not in path.name)
    return sorted(found)


def read_state(checkpoint: Path) -> State:
    return State(**json.loads((checkpoint / "state.json").read_text()))


def best(run: Path) -> Path:
    """The checkpoint with the lowest validation loss without notes; raises UserError where there is none."""
    found = checkpoints(run)
    if not found:
        raise UserError(f"No checkpoint in {run}: give the folder of a run that 'pride train' has written.")
    return min(found, key=lambda path: read_state(path).score)


def student_folder(run: Path) -> Path:
    """The deployable student of a run's best checkpoint."""
    return best(run) / "student"


def save(run: Path, state: State, student: Any, tokenizer: Any, tensors: dict[str, Tensor]) -> Path:
    """Write a checkpoint, then drop all but the newest and the best."""
    from pride_mm.student import save_student

    final = run / f"{_PREFIX}{state.step:06d}"
    partial = final.with_name(final.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_student(partial / "student", student, tokenizer, merged_state(student))
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial / "training.safetensors"
    )
    write_json(partial / "state.json", asdict(state))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    keep = {best(run), checkpoints(run)[-1]}
    for old in checkpoints(run):
        if old not in keep:
            shutil.rmtree(old)
    return final


def load_tensors(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "training.safetensors")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of AdamW by parameter number, without pickle."""
    return {
        f"optimizer.{number}.{name}": torch.as_tensor(value)
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the moments back into an optimiser of the same parameters."""
    whole = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            whole["state"].setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(whole)
