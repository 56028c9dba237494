"""A run's folder: checkpoints that are whole or not there, safetensors and JSON only.

``checkpoint-00000120/student`` is the deployable student, ``training.safetensors`` holds what only
training needs (the privileged path, the optimiser's moments) and ``state.json``
the position, with the hashes of both. No teacher is in it.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pride_mm.errors import UserError
from pride_mm.files import PARTIAL, write_json
from pride_mm.processes import is_first
from pride_mm.training.sharding import alike

_PREFIX = "checkpoint-"
_HASHED = "training.safetensors", "student/model.safetensors"
UNKNOWN = float("inf")
"""The score of a checkpoint that was not validated."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """Where a run is.

    Attributes:
        step: steps taken.
        data: the position in the data, as the loader says it.
        score: the validation loss without notes, by which the best checkpoint is chosen; ``UNKNOWN`` within an epoch.
        waited: validations since the best one.
        finished: nothing is left to train.
        sha256: of the files with tensors.
    """

    step: int
    data: dict[str, Any]
    score: float = UNKNOWN
    waited: int = 0
    finished: bool = False
    sha256: dict[str, str] = field(default_factory=dict)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; half-written ones are not among them."""
    found = (path for path in run.glob(f"{_PREFIX}*") if (path / "state.json").is_file() and PARTIAL not in path.name)
    return sorted(found)


def read_state(checkpoint: Path) -> State:
    return State(**json.loads((checkpoint / "state.json").read_text()))


def best(run: Path) -> Path:
    """The checkpoint with the lowest validation loss without notes; raises UserError where there is none."""
    found = checkpoints(run)
    if not found:
        raise UserError(f"No checkpoint in {run}: give the folder of a run that 'pride train' has written.")
    return min(reversed(found), key=lambda path: read_state(path).score)


def student_folder(run: Path) -> Path:
    """The deployable student of a run's best checkpoint."""
    return best(run) / "student"


def newest_whole(run: Path) -> Path | None:
    """The newest checkpoint that is as it was written; what is broken after it is named and moved aside."""
    for half in run.glob(f"{_PREFIX}*{PARTIAL}") if is_first() else ():
        shutil.rmtree(half)
    for found in reversed(checkpoints(run)):
        if (broken := _broken(found)) is None:
            return found
        logger.warning("%s is broken (%s): going on from the checkpoint before it.", found, broken)
        if is_first():
            os.replace(found, found.with_name(f"broken-{found.name}"))
    return None


def _broken(checkpoint: Path) -> str | None:
    try:
        state = read_state(checkpoint)
        for name in _HASHED:
            if _sha256(checkpoint / name) != state.sha256[name]:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"state.json: {type(error).__name__}" if not isinstance(error, OSError) else str(error.strerror)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Writer:
    """Writes checkpoints beside the training, one at a time; a mistake comes out with the next one or at the end.

    Args:
        run: the run's folder.
        keep: how many of the newest stay, beside the best.
        student: writes a student's folder, given its path and its weights.
    """

    def __init__(self, run: Path, keep: int, student: Callable[[Path, dict[str, Tensor]], None]) -> None:
        self._run, self._keep, self._student = run, keep, student
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def save(self, state: State, student: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Take a copy of everything, and write it; waits only where the last one isn't written yet."""
        self.wait()
        self._writing = self._pool.submit(self._write, state, _copy(student), _copy(tensors))

    def wait(self) -> None:
        """Until everything is written; raises UserError where it could not be."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except OSError as error:
            left = checkpoints(self._run)
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise UserError(
                f"No checkpoint could be written to {self._run}: {reason}. The newest one is "
                f"{left[-1].name if left else 'none'}; make room, and run the same command again."
            ) from None

    def close(self) -> None:
        """End the thread; raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def _write(self, state: State, student: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        final = self._run / f"{_PREFIX}{state.step:08d}"
        partial = final.with_name(final.name + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            self._student(partial / "student", student)
            save_file(tensors, partial / _HASHED[0])
            hashes = {name: _sha256(partial / name) for name in _HASHED}
            write_json(partial / "state.json", asdict(replace(state, sha256=hashes)))
            for path in partial.rglob("*"):
                _flush(path)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            _flush(self._run)
        except OSError:
            raise
        except Exception as error:  # safetensors says a full disk in words of its own
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        left = checkpoints(self._run)
        for old in set(left[: -self._keep]) - {best(self._run)}:
            shutil.rmtree(old)


def _flush(path: Path) -> None:
    """To the disk: what has its final name is there after a power cut, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, and out of the training's reach; what shares memory goes on doing so."""
    copies: dict[tuple[int, torch.Size, tuple[int, ...]], Tensor] = {}
    copied = {}
    for name, tensor in tensors.items():
        place = tensor.data_ptr(), tensor.shape, tensor.stride()
        if tensor.numel() == 0 or place not in copies:
            copies[place] = tensor.detach().to("cpu", copy=True).contiguous()
        copied[name] = copies[place]
    return copied


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
    state = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            moment = value if value.dim() == 0 else alike(value, parameters[int(number)])
            state["state"].setdefault(int(number), {})[name] = moment
    optimizer.load_state_dict(state)
