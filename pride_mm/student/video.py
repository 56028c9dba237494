"""Video encoders: each frame to one token, plus the frame's place.

Letters: ``B`` batch, ``F`` frames, ``H W`` pixels, ``D`` width.
"""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from pride_mm.schema import Kind, VideoField
from pride_mm.student.config import EncoderSettings
from pride_mm.student.encoders import Tokens, register

# The statistics of natural images that torchvision's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FrameEncoder(nn.Module):
    """Each frame to one token by ``features``, projected, plus a learned embedding of the frame's place."""

    def __init__(self, frames: int, features_width: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(features_width, width)
        self.place = nn.Parameter(torch.empty(frames, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set what belongs to this module itself; its parts do so for themselves."""
        nn.init.normal_(self.place, std=0.02)

    def features(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N features"]:
        """One vector a frame, from pixels between 0 and 1."""
        raise NotImplementedError

    def forward(self, values: UInt8[Tensor, "B F 3 H W"], mask: Bool[Tensor, "B F"]) -> Tokens:
        assert values.shape[1] <= len(self.place), "more frames than the schema says"
        tokens = self.projection.weight.new_zeros(*mask.shape, self.projection.out_features)
        # Padded frames are not looked at.
        real = self.projection(self.features(values[mask].to(self.projection.weight.dtype) / 255))
        tokens = tokens.masked_scatter(mask[..., None], real) + self.place[: values.shape[1]]
        return tokens, mask


@register(Kind.VIDEO, "torchvision")
class TorchvisionVideo(FrameEncoder):
    """MobileNetV3-small on each frame, pooled over space.

    Group norm stands in for batch norm: a student must not answer one row differently for what else is in the batch.
    """

    def __init__(self, field: VideoField, settings: EncoderSettings, width: int) -> None:
        from torchvision.models import mobilenet_v3_small

        super().__init__(field.frames, 576, width)
        self.body = mobilenet_v3_small(weights=None, norm_layer=partial(nn.GroupNorm, 8)).features

    def features(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N features"]:
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        return self.body((pixels - mean) / std).mean((-2, -1))


@register(Kind.VIDEO, "transformers")
class TransformersVideo(FrameEncoder):
    """Any vision model of ``transformers`` on each frame; the mean of its patches."""

    def __init__(self, field: VideoField, settings: EncoderSettings, width: int) -> None:
        assert settings.config is not None, "pride_mm.student.pretrained fills the config in"
        config = AutoConfig.for_model(**settings.config)
        super().__init__(field.frames, config.hidden_size, width)
        self.body = AutoModel.from_config(config)
        processor = settings.processor or {}
        self.size = int(config.image_size if isinstance(config.image_size, int) else config.image_size[0])
        self.mean, self.std = processor.get("image_mean", MEAN), processor.get("image_std", STD)

    def features(self, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N features"]:
        pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return self.body((pixels - mean) / std).last_hidden_state.mean(1)
