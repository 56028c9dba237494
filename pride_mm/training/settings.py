"""What a run is: read from ``configs/run/*.toml``, ``--set key=value`` on top."""

from typing import Annotated

from pydantic import Field as Setting

from pride_mm.losses.alignment import DualAlignment
from pride_mm.schema import Frozen
from pride_mm.student.config import EncoderSettings

Positive = Annotated[int, Setting(ge=1)]
Fraction = Annotated[float, Setting(ge=0, le=1)]


class StudentSettings(Frozen):
    """The student's make.

    Attributes:
        backbone: Hugging Face name or folder, or ``smollm2-135m`` from the package index.
        layers: evenly spaced layers kept of the backbone; None keeps all.
        freeze_vocabulary: leave the embedding and the head as the backbone has them; they are more than half of a
            small student's weights, and little data only spoils them.
        latents: latents per source.
        video, audio: the encoders.
        system: what the student is told before every dialogue, in training and when it is served.
    """

    backbone: str = "smollm2-135m"
    layers: Positive | None = None
    freeze_vocabulary: bool = True
    latents: Positive = 8
    video: EncoderSettings = EncoderSettings(name="torchvision")
    audio: EncoderSettings = EncoderSettings(name="logmel")
    system: str = ""


class DataSettings(Frozen):
    """How samples become batches. Lengths in tokens."""

    batch_size: Positive = 8
    max_context: Positive = 192
    max_response: Positive = 48
    max_note: Positive = 64
    workers: Annotated[int, Setting(ge=0)] = 0


class OptimSettings(Frozen):
    """AdamW with a linear warm-up and a cosine decay to a tenth.

    ``fresh_lr`` is for what starts from nothing (encoders, attention, heads); ``lr`` for the backbone.
    """

    lr: Annotated[float, Setting(gt=0)] = 2e-4
    fresh_lr: Annotated[float, Setting(gt=0)] = 1e-3
    weight_decay: Annotated[float, Setting(ge=0)] = 0.01
    warmup: Annotated[int, Setting(ge=0)] = 10
    clip: Annotated[float, Setting(gt=0)] = 1.0
    epochs: Positive = 4


class PrivilegedSettings(Frozen):
    """How the notes are read while training.

    Attributes:
        field_dropout: chance that a field of a row is not shown.
        row_dropout: chance that a row is trained without its notes in the privileged pass; it rises to 1
            over the last fifth of training, so that training ends as deployment begins.
    """

    field_dropout: Fraction = 0.3
    row_dropout: Fraction = 0.3


class RunSettings(Frozen):
    """One training run."""

    name: Annotated[str, Setting(pattern=r"^[A-Za-z0-9_-]+$")]
    description: str = ""
    seed: int = 0
    student: StudentSettings = StudentSettings()
    data: DataSettings = DataSettings()
    optim: OptimSettings = OptimSettings()
    privileged: PrivilegedSettings = PrivilegedSettings()
    loss: DualAlignment = DualAlignment()
