"""What frozen encoders make of media, kept on disk: encoded once, read in every later epoch.

A file is named by the decoded media themselves, its folder by the encoder's config and weights: whatever changes,
nothing wrong is ever read. Media are still decoded.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pride_mm.data.batch import Batch, Padded
from pride_mm.student import Student
from pride_mm.student.encoders import BodyEncoder

_NAME = "features"


class FeatureCache:
    """The features of a student's frozen encoders.

    Args:
        folder: where they are; made when the first is kept.
        student: its encoders that are frozen now, and have a body, are looked after.
        limit: bytes on disk; past that, what isn't there is encoded each time. With 0 nothing is looked after.
    """

    def __init__(self, folder: Path, student: Student, limit: int) -> None:
        self.encoders = {
            name: encoder
            for name, encoder in student.encoders.items()
            if limit
            and isinstance(encoder, BodyEncoder)
            and not any(p.requires_grad for p in encoder.body.parameters())
        }
        self.folders = {
            name: folder / _sha256(student.config.encoder_settings(name).model_dump(mode="json"), encoder.body)
            for name, encoder in self.encoders.items()
        }
        self.left = limit - sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))
        self.encoded = 0

    def fill(self, batch: Batch) -> Batch:
        """The batch with features ``(B, S, E)`` in place of what frozen encoders would read."""
        made = {name: self._features(name, given) for name, given in batch.inputs.items() if name in self.encoders}
        return replace(batch, inputs={**batch.inputs, **made}) if made else batch

    @torch.no_grad()
    def _features(self, name: str, given: Padded) -> Padded:
        there = given.present.nonzero().flatten().tolist()
        if not there:
            return given
        files = {row: self.folders[name] / _file(given.values[row], given.mask[row]) for row in there}
        rows = {row: load_file(file)[_NAME] for row, file in files.items() if file.is_file()}
        missing = [row for row in there if row not in rows]
        if missing:
            device = self.encoders[name].projection.weight.device
            states, real = self.encoders[name].features(
                given.values[missing].to(device), given.mask[missing].to(device)
            )
            for row, state, kept in zip(missing, states.cpu(), real.cpu(), strict=True):
                rows[row] = state[kept].contiguous()
                self._keep(files[row], rows[row])
            self.encoded += len(missing)
        width = next(iter(rows.values())).shape[1]
        ordered = [rows.get(row, torch.zeros(0, width)) for row in range(len(given.values))]
        pad = nn.utils.rnn.pad_sequence
        mask = pad([torch.ones(len(row), dtype=torch.bool) for row in ordered], batch_first=True)
        return Padded(pad(ordered, batch_first=True), mask)

    def _keep(self, file: Path, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if size > self.left or file.is_file():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        # Killed here or beside another rank, nothing half-written has the final name.
        partial = file.with_suffix(f".{os.getpid()}")
        save_file({_NAME: features}, partial)
        self.left -= partial.stat().st_size
        partial.replace(file)


def _sha256(settings: Mapping[str, object], body: nn.Module) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, value in sorted(body.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _file(values: Tensor, mask: Tensor) -> str:
    """By the real frames or samples of a row, so that padding doesn't count."""
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape[1:])}".encode())
    digest.update(_bytes(values[mask]))
    return f"{digest.hexdigest()}.safetensors"


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
