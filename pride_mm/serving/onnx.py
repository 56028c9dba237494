"""Encoders as ONNX programs, for runtimes without PyTorch: frames or a waveform in, the student's tokens of them out.

Promise: what is written was run by ONNX Runtime, at other lengths than it was traced with, and gave what the student's
own encoder gives. Limit: what prepares its input outside of PyTorch, as Whisper's features are, can't be traced.
"""

import copy
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pride_mm.errors import UserError
from pride_mm.schema import AudioField, VideoField
from pride_mm.student import Student

TOLERANCE = 1e-3
"""Of a token's largest difference; tokens have a spread of about one."""
_SHORTEST = 1 / 10  # seconds of sound; a trace holds from there on


class OneRow(nn.Module):
    """An encoder of media without padding: ``values`` are frames ``(F, 3, H, W)`` of bytes or a waveform ``(N,)``."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, values: Tensor) -> Float[Tensor, "S D"]:
        """Its tokens."""
        mask = torch.ones(1, values.shape[0], dtype=torch.bool, device=values.device)
        tokens: tuple[Tensor, Tensor] = self.encoder(values[None], mask)
        return tokens[0][0]


@torch.no_grad()
def write_onnx(student: Student, name: str, folder: Path) -> Path:
    """Write the encoder of the field ``name`` as ``encoder-NAME.onnx``, which computes in float32.

    Raises:
        UserError: the student has no such encoder, PyTorch can't trace it, ONNX Runtime gives other tokens than it
            does, or ONNX isn't installed.
    """
    if any(importlib.util.find_spec(needed) is None for needed in ("onnxscript", "onnxruntime")):
        raise UserError("--onnx needs the extra 'onnx': pip install 'pride-mm[onnx]'.")
    if name not in student.encoders:
        known = ", ".join(student.encoders) or "it has none"
        raise UserError(f"--onnx takes the name of an encoder of the student ({known}), not '{name}'.")
    field = student.schema.get(name)
    assert isinstance(field, VideoField | AudioField), "encoders are of media"
    row, (low, high) = OneRow(copy.deepcopy(student.encoders[name])).float().eval(), _bounds(field)
    row(_media(field, high))  # what is made once and kept is not to be made in the program
    path = folder / f"encoder-{name}.onnx"
    _traced(row, _media(field, (low + high) // 2), low, high, name).save(path)
    worst = _difference(row, path, [_media(field, amount) for amount in (low, high)])
    if worst > TOLERANCE:
        raise UserError(f"--onnx: ONNX Runtime gives other tokens of '{name}', by {worst:.2g}: leave it out.")
    return path


def _bounds(field: VideoField | AudioField) -> tuple[int, int]:
    """The least and the most that it takes, of frames or samples; a trace of one frame holds for one alone."""
    if isinstance(field, VideoField):
        return min(2, field.frames), field.frames
    return round(field.rate * _SHORTEST), round(field.rate * field.seconds)


def _media(field: VideoField | AudioField, amount: int) -> Tensor:
    """Noise in the form of media."""
    generator = torch.Generator().manual_seed(amount)
    if isinstance(field, VideoField):
        return torch.randint(0, 256, (amount, 3, field.size, field.size), dtype=torch.uint8, generator=generator)
    return 0.1 * torch.randn(amount, generator=generator)


def _traced(row: OneRow, values: Tensor, low: int, high: int, name: str) -> Any:
    """The program, without the names of this machine's files, which PyTorch writes beside each operation."""
    sizes = {0: torch.export.Dim("size", min=low, max=high)} if low < high else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                row,
                (values,),
                dynamic_shapes={"values": sizes},
                input_names=["values"],
                output_names=["tokens"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        why = type(error.__cause__ or error).__name__
        raise UserError(f"--onnx: PyTorch can't trace the encoder of '{name}' ({why}): leave it out.") from None
    assert program is not None, "torch.onnx gives a program"
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    return program


def _difference(row: OneRow, path: Path, given: list[Tensor]) -> float:
    """The largest between what ONNX Runtime gives and what the encoder does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(session.run(["tokens"], {"values": values.numpy()})[0]) for values in given]
    return max(float((tokens - row(values)).abs().max()) for tokens, values in zip(found, given, strict=True))
