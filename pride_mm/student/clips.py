"""Video encoders that look at a whole clip: frames are resampled in time to what the model wants, and each of its
steps in time becomes a token.

Letters: ``B`` batch, ``F`` frames, ``C`` frames of the model, ``H W`` pixels, ``S`` steps in time, ``E`` features.
"""

from math import gcd

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from pride_mm.schema import Kind, VideoField
from pride_mm.student.config import CLIP_MODELS, EncoderSettings
from pride_mm.student.encoders import BodyEncoder, Features, register
from pride_mm.student.video import MEAN, STD, fitted

TIME_FIRST = {"videomae": 0, "vivit": 1}
"""Models whose states go through space first, then through time, after so many tokens that are of no place."""
# What torchvision's video models were trained on.
CLIP_FRAMES, CLIP_SIZE = 16, 112
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


class ClipEncoder(BodyEncoder):
    """A clip to one token for each step in time, plus a learned embedding of its place."""

    size: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def look(self, clips: Float[Tensor, "B C 3 H W"]) -> Float[Tensor, "B S E"]:
        """One vector a step in time, from normalised pixels."""
        raise NotImplementedError

    def features(self, values: UInt8[Tensor, "B F 3 _ _"], mask: Bool[Tensor, "B F"]) -> Features:
        rows = torch.arange(len(values), device=values.device)[:, None]
        frames = values[rows, _evenly(mask, self.frames)].to(self.projection.weight.dtype) / 255
        pixels = fitted(frames.flatten(0, 1), self.size, self.mean, self.std)
        seen = self.look(pixels.unflatten(0, (len(values), self.frames)))
        return seen, mask.any(1, keepdim=True).expand(seen.shape[:2])


def _evenly(mask: Bool[Tensor, "B F"], frames: int) -> Int[Tensor, "B C"]:
    """So many of a row's real frames, evenly spaced, with the first and the last; few are taken more than once."""
    count = mask.sum(1, keepdim=True)
    real = mask.long().argsort(dim=1, descending=True, stable=True)
    place = torch.arange(frames, device=mask.device) * (count - 1).clamp(min=0)
    # rounded in whole numbers, which no device does in another way
    chosen = (2 * place + frames - 1).div(2 * (frames - 1), rounding_mode="floor") if frames > 1 else place
    return real.gather(1, chosen)


@register(Kind.VIDEO, "torchvision-video")
class TorchvisionClips(ClipEncoder):
    """A 3D convolutional network of torchvision's on 16 frames of 112 pixels, pooled over space, from a random start.

    Group norm stands in for batch norm: a student must not answer one row differently for what else is in the batch.
    """

    def __init__(self, field: VideoField, settings: EncoderSettings, width: int) -> None:
        from torchvision.models import get_model

        name = settings.model or CLIP_MODELS[0]
        super().__init__(1024 if name == "s3d" else 512, width, CLIP_FRAMES)
        self.frames, self.size, self.mean, self.std = CLIP_FRAMES, CLIP_SIZE, KINETICS_MEAN, KINETICS_STD
        model = get_model(name, weights=None)
        parts = [model.features] if name == "s3d" else [model.stem, *(getattr(model, f"layer{n}") for n in range(1, 5))]
        self.body = nn.Sequential(*parts)
        _replace_batch_norm(self.body)

    def look(self, clips: Float[Tensor, "B C 3 H W"]) -> Float[Tensor, "B S E"]:
        return self.body(clips.transpose(1, 2)).mean((-2, -1)).mT


@register(Kind.VIDEO, "transformers-video")
class TransformersClips(ClipEncoder):
    """A video model of ``transformers``, such as VideoMAE; the mean of its patches at each step in time."""

    def __init__(self, field: VideoField, settings: EncoderSettings, width: int) -> None:
        assert settings.config is not None, "pride_mm.student.pretrained fills the config in"
        config = AutoConfig.for_model(**settings.config)
        tubelet = config.tubelet_size
        steps = config.num_frames // (tubelet if isinstance(tubelet, int) else tubelet[0])
        super().__init__(config.hidden_size, width, steps)
        self.steps, self.skipped = steps, TIME_FIRST[config.model_type]
        self.body = AutoModel.from_config(config)
        processor = settings.processor or {}
        self.frames = config.num_frames
        self.size = int(config.image_size if isinstance(config.image_size, int) else config.image_size[0])
        self.mean, self.std = processor.get("image_mean", MEAN), processor.get("image_std", STD)

    def look(self, clips: Float[Tensor, "B C 3 H W"]) -> Float[Tensor, "B S E"]:
        states = self.body(clips).last_hidden_state[:, self.skipped :]
        return states.unflatten(1, (self.steps, -1)).mean(2)


def _replace_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, nn.GroupNorm(gcd(8, child.num_features), child.num_features))
        else:
            _replace_batch_norm(child)
