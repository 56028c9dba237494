"""Video encoders that look at one frame at a time: a token each. Those of whole clips are in ``clips.py``.

Letters: ``B`` batch, ``F`` frames, ``N`` frames of all rows, ``H W`` pixels, ``E`` features.
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from pride_mm.schema import Kind, VideoField
from pride_mm.student.config import EncoderSettings
from pride_mm.student.encoders import BodyEncoder, Features, register

# The statistics of natural images that torchvision's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FrameEncoder(BodyEncoder):
    """Each frame to one token, plus a learned embedding of the frame's place."""

    def look(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N E"]:
        """One vector a frame, from pixels between 0 and 1."""
        raise NotImplementedError

    def features(self, values: UInt8[Tensor, "B F 3 H W"], mask: Bool[Tensor, "B F"]) -> Features:
        weight = self.projection.weight
        # Padded frames are not looked at.
        seen = self.look(values[mask].to(weight.dtype) / 255)
        return seen.new_zeros(*mask.shape, seen.shape[-1]).masked_scatter(mask[..., None], seen), mask


@register(Kind.VIDEO, "torchvision")
class TorchvisionVideo(FrameEncoder):
    """MobileNetV3-small on each frame, pooled over space.

    Group norm stands in for batch norm: a student must not answer one row differently for what else is in the batch.
    """

    def __init__(self, field: VideoField, settings: EncoderSettings, width: int) -> None:
        from torchvision.models import mobilenet_v3_small

        super().__init__(576, width, field.frames)
        self.body = mobilenet_v3_small(weights=None, norm_layer=partial(nn.GroupNorm, 8)).features

    def look(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N E"]:
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        return self.body((pixels - mean) / std).mean((-2, -1))


@register(Kind.VIDEO, "transformers")
class TransformersVideo(FrameEncoder):
    """Any image model of ``transformers`` on each frame; the mean of its patches."""

    def __init__(self, field: VideoField, settings: EncoderSettings, width: int) -> None:
        assert settings.config is not None, "pride_mm.student.pretrained fills the config in"
        config = AutoConfig.for_model(**settings.config)
        super().__init__(config.hidden_size, width, field.frames)
        self.body = AutoModel.from_config(config)
        processor = settings.processor or {}
        self.size = int(config.image_size if isinstance(config.image_size, int) else config.image_size[0])
        self.mean, self.std = processor.get("image_mean", MEAN), processor.get("image_std", STD)

    def look(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N E"]:
        return self.body(fitted(pixels, self.size, self.mean, self.std)).last_hidden_state.mean(1)


def fitted(
    pixels: Float[Tensor, "N 3 _ _"], size: int, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "N 3 H W"]:
    """Pixels between 0 and 1 as a model wants them."""
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    centre, spread = (pixels.new_tensor(v).view(3, 1, 1) for v in (mean, std))
    return (pixels - centre) / spread
