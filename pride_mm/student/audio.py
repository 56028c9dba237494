"""Audio encoders: a waveform to tokens. A row's tokens don't depend on how far the batch pads it.

Letters: ``B`` batch, ``N`` samples, ``L`` frames of the spectrogram, ``S`` tokens, ``E`` features, ``D`` width.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from pride_mm.schema import AudioField, Kind
from pride_mm.student.config import EncoderSettings
from pride_mm.student.encoders import BodyEncoder, Features, Tokens, register

BANDS, WINDOW, HOP = 64, 0.025, 0.010


@lru_cache
def _mel(rate: int, device: torch.device) -> Any:
    """The spectrogram's fixed numbers: no weights, so they are kept out of the student and its files."""
    from torchaudio.transforms import MelSpectrogram

    with torch.device("cpu"):
        window, hop = round(rate * WINDOW), round(rate * HOP)
        mel = MelSpectrogram(
            rate, n_fft=512 if window <= 512 else 2048, win_length=window, hop_length=hop, n_mels=BANDS, center=False
        )
    return mel.to(device)


@register(Kind.AUDIO, "logmel")
class LogMelAudio(nn.Module):
    """Log-mel spectrogram, normalised over the real frames of a row, and strided convolutions: 16 frames a token."""

    def __init__(self, field: AudioField, settings: EncoderSettings, width: int) -> None:
        super().__init__()
        self.rate = field.rate
        hidden = 128
        self.convolutions = nn.ModuleList(
            nn.Conv1d(BANDS if layer == 0 else hidden, hidden, kernel_size=3, stride=2, padding=1) for layer in range(4)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(4))
        self.projection = nn.Linear(hidden, width)
        # 10 ms a frame and 16 frames a token.
        self.place = nn.Parameter(torch.empty(int(field.seconds / (HOP * 16)) + 2, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set what belongs to this module itself; its parts do so for themselves."""
        nn.init.normal_(self.place, std=0.02)

    def forward(self, values: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Tokens:
        frames, real = self._spectrogram(values, mask)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # Zero after the last real frame is what the convolution itself pads with.
            frames = convolution(torch.where(real[:, None], frames, 0.0))
            frames = F.gelu(norm(frames.mT)).mT
            real = real[:, ::2]
        tokens = self.projection(frames.mT)
        assert tokens.shape[1] <= len(self.place), "more sound than the schema says"
        return tokens + self.place[: tokens.shape[1]], real

    @torch.no_grad()
    def _spectrogram(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel frames ``(B, bands, L)`` and which are made of real sound alone."""
        mel = _mel(self.rate, values.device)
        with torch.autocast(values.device.type, enabled=False):
            sound = torch.where(mask, values.float(), 0.0)
            sound = F.pad(sound, (0, max(0, mel.n_fft - sound.shape[1])))
            frames = (mel(sound) + 1e-6).log()
        count = ((mask.sum(1) - mel.n_fft).div(mel.hop_length, rounding_mode="floor") + 1).clamp(min=1)
        real = torch.arange(frames.shape[-1], device=values.device) < count[:, None]
        kept = real[:, None].expand_as(frames)
        amount = kept.sum((1, 2), keepdim=True)
        mean = torch.where(kept, frames, 0.0).sum((1, 2), keepdim=True) / amount
        spread = torch.where(kept, (frames - mean).square(), 0.0).sum((1, 2), keepdim=True) / amount
        # Silence has no spread.
        frames = (frames - mean) / (spread + 1e-4).sqrt()
        return frames.to(self.projection.weight.dtype), real


@register(Kind.AUDIO, "transformers")
class TransformersAudio(BodyEncoder):
    """The encoder of a Whisper, wav2vec2 or HuBERT model.

    Rows go through it side by side where no padding would show: Whisper's always, others' of the same length.
    """

    def __init__(self, field: AudioField, settings: EncoderSettings, width: int) -> None:
        assert settings.config is not None, "pride_mm.student.pretrained fills the config in"
        config = AutoConfig.for_model(**settings.config)
        super().__init__(config.hidden_size, width)
        body = AutoModel.from_config(config)
        self.whisper = config.model_type == "whisper"
        self.body = body.get_encoder() if self.whisper else body
        self.rate = field.rate
        self.extractor = _extractor(dict(settings.processor or {}), self.whisper)

    def features(self, values: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> Features:
        sounds = [row[kept] for row, kept in zip(values, mask, strict=True)]
        alike: dict[int, list[int]] = {}
        for number, sound in enumerate(sounds):
            alike.setdefault(0 if self.whisper else len(sound), []).append(number)
        rows: list[Tensor] = [values] * len(sounds)
        for numbers in alike.values():
            for number, states in zip(numbers, self._states([sounds[number] for number in numbers]), strict=True):
                rows[number] = states
        real = [states.new_ones(len(states), dtype=torch.bool) for states in rows]
        pad = nn.utils.rnn.pad_sequence
        return pad(rows, batch_first=True), pad(real, batch_first=True)

    def _states(self, sounds: Sequence[Float[Tensor, " _"]]) -> list[Float[Tensor, "_ E"]]:
        """Of each sound; without Whisper they are of one length."""
        # Below 25 ms there is not one frame.
        shortest = round(self.rate * WINDOW)
        heard = [F.pad(sound, (0, max(0, shortest - len(sound)))) for sound in sounds]
        given = [sound.float().cpu().numpy() for sound in heard]
        made = self.extractor(given, sampling_rate=self.rate, return_tensors="pt")
        ready = next(made[name] for name in ("input_features", "input_values") if name in made)
        states = self.body(ready.to(heard[0].device, self.projection.weight.dtype)).last_hidden_state
        if not self.whisper:
            return list(states)
        # Whisper reads 30 seconds whatever there is; only the part with sound is kept.
        total = states.shape[1]
        shares = [round(len(sound) / self.extractor.n_samples * total) for sound in heard]
        return [row[: max(1, min(total, share))] for row, share in zip(states, shares, strict=True)]


def _extractor(processor: dict[str, Any], whisper: bool) -> Any:
    name = processor.pop("feature_extractor_type", "WhisperFeatureExtractor" if whisper else "Wav2Vec2FeatureExtractor")
    return getattr(transformers, name)(**processor)
