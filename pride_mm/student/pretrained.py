"""Encoders with weights from ``transformers``: their config into the student's, their weights into its modules."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoModel

from pride_mm.errors import UserError
from pride_mm.schema import AudioField, Field
from pride_mm.student.clips import TIME_FIRST
from pride_mm.student.config import EncoderSettings


def resolve_encoder(field: Field, settings: EncoderSettings) -> tuple[EncoderSettings, Any | None]:
    """Settings that hold all there is to build the encoder again, and the model that has its weights.

    Raises:
        UserError: no such model here or on the hub, or one that gives no fitting states.
    """
    if settings.name != "transformers" or settings.config is not None:
        return settings, None
    name = str(settings.model)
    try:
        whole = AutoConfig.from_pretrained(name)
        config = whole if isinstance(field, AudioField) else getattr(whole, "vision_config", whole)
        with torch.device("meta"):
            kind = type(AutoModel.from_config(config))
        model = kind.from_pretrained(name, config=config, dtype=torch.float32)
    except Exception as error:  # noqa: BLE001  the hub, the parsers and safetensors raise a dozen kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The encoder of '{field.name}': '{name}' cannot be loaded ({reason}). Give a folder with a Hugging Face "
            "model, or a hub name that this machine can reach."
        ) from None
    wanted = ("hidden_size",) if isinstance(field, AudioField) else ("hidden_size", "image_size")
    missing = [key for key in wanted if getattr(config, key, None) is None]
    if missing:
        raise UserError(f"The encoder of '{field.name}': '{name}' does not say its {', '.join(missing)}.")
    if "num_frames" in config.to_dict() and config.model_type not in TIME_FIRST:
        raise UserError(
            f"The encoder of '{field.name}': '{name}' is a video model '{config.model_type}'; of these, "
            f"{', '.join(TIME_FIRST)} are known. An image model is used on each frame."
        )
    processor = _processor(name, isinstance(field, AudioField))
    return settings.model_copy(update={"config": config.to_dict(), "processor": processor}), model


def copy_weights(encoder: nn.Module, model: Any) -> None:
    """Put a model's weights into an encoder made from its config."""
    source = model.get_encoder() if getattr(encoder, "whisper", False) else model
    encoder.get_submodule("body").load_state_dict(source.state_dict())


def _processor(name: str, audio: bool) -> dict[str, Any] | None:
    """What the model's preparation of its input says, where it comes with one; else its defaults hold."""
    if Path(name).is_dir() and not any(Path(name).glob("*processor_config.json")):
        return None
    loader = AutoFeatureExtractor if audio else AutoImageProcessor
    said = loader.from_pretrained(name).to_dict()
    return {key: value for key, value in said.items() if isinstance(value, str | int | float | bool | list | tuple)}
