"""What a teacher sees and hears beside the words: a sample's clip and sound, made its own by its processor.

Letters: ``F`` frames of a clip, ``S`` their side, ``L`` samples of a sound.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pride_mm.data.conversation import Message
from pride_mm.data.shards import Sample
from pride_mm.errors import SampleError, UserError
from pride_mm.media import MediaError, read_audio, read_frames
from pride_mm.schema import AudioField, Role, Schema, VideoField
from pride_mm.student.backbone import SMOLLM2, readable, settle

Part = dict[str, Any]
"""Of a message, as chat templates take it."""


@dataclass(frozen=True)
class Question:
    """What a teacher reads before it answers.

    Attributes:
        ids: the tokens up to where the answer begins, those that stand for what is shown included.
        shown: what the model takes beside its tokens, by name.
    """

    ids: list[int]
    shown: Mapping[str, Tensor] = field(default_factory=dict)

    def sha256(self) -> str:
        """Changes when what is shown does."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.shown.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def before(self, length: int) -> dict[str, Tensor]:
        """What is shown, for a row of ``length`` tokens that begins with these: what is told of each token goes on."""
        told = {name for name, tensor in self.shown.items() if tuple(tensor.shape) == (1, len(self.ids))}
        more = length - len(self.ids)
        return {
            name: torch.nn.functional.pad(tensor, (0, more)) if name in told else tensor
            for name, tensor in self.shown.items()
        }


class Senses:
    """Which of a schema's clips and sounds a model takes, and how they enter its prompt: before the last turn.

    A model that sees pictures but no clips is shown the clip's frames; they are those that the student looks at.

    Args:
        processor: the model's own, of Hugging Face.
        schema: names the fields.
        dtype: of the model's weights.
    """

    def __init__(self, processor: Any, schema: Schema, dtype: torch.dtype = torch.float32) -> None:
        self.processor, self.dtype = processor, dtype
        self._clips = hasattr(processor, "video_processor")
        ears = getattr(processor, "feature_extractor", None)
        self._rate = None if ears is None else int(ears.sampling_rate)
        eyes = self._clips or hasattr(processor, "image_processor")
        self.fields: tuple[VideoField | AudioField, ...] = tuple(
            one
            for one in schema.of(Role.INPUT)
            if (isinstance(one, VideoField) and eyes) or (isinstance(one, AudioField) and ears is not None)
        )

    def read(self, chat: Sequence[Message], sample: Sample) -> Question:
        """The question that a chat and what the sample shows make; raises SampleError where media cannot be read."""
        parts, frames = self._parts(sample)
        said: list[dict[str, Any]] = [
            {"role": one["role"], "content": [{"type": "text", "text": one["content"]}]} for one in chat
        ]
        said[-1]["content"] = [*parts, *said[-1]["content"]]
        options: dict[str, Any] = {}
        if frames:
            # the frames are chosen; of when they are, a model that asks is told that they are evenly spaced
            about = [{"total_num_frames": count, "fps": 1.0, "frames_indices": list(range(count))} for count in frames]
            options |= {"do_sample_frames": False, "video_metadata": [about]}
        read = self.processor.apply_chat_template(
            said,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            sanitize_control_tokens=True,  # what people have written stands for no picture
            processor_kwargs=options,
        )
        ids = read.pop("input_ids")[0].tolist()
        read.pop("attention_mask", None)
        return Question(ids, {name: self._cast(tensor) for name, tensor in read.items() if isinstance(tensor, Tensor)})

    def _parts(self, sample: Sample) -> tuple[list[Part], list[int]]:
        """Of the message; and how many frames each clip has that is shown as one."""
        parts: list[Part] = []
        frames: list[int] = []
        for one in self.fields:
            given: Any = sample.inputs.get(one.name)
            if given is None:
                continue
            try:
                if isinstance(one, AudioField):
                    assert self._rate is not None
                    sound = read_audio(given, self._rate, one.seconds)  # (L,)
                    parts.append({"type": "audio", "audio": sound.numpy()})
                    continue
                clip = read_frames(given, one.frames, one.size)  # (F, 3, S, S)
            except MediaError as error:
                raise SampleError(sample.key, one.name, str(error)) from None
            if self._clips:
                parts.append({"type": "video", "video": clip})
                frames.append(len(clip))
            else:
                parts += [{"type": "image", "image": frame} for frame in clip]
        return parts, frames

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


def load_seeing(
    name: str | Path, schema: Schema, dtype: torch.dtype = torch.float32, device_map: str | None = None
) -> tuple[Any, Any, Senses] | None:
    """A model that sees or hears, its tokenizer and its senses; None where the model only reads.

    Args:
        name: a Hugging Face folder or hub name.
        schema: names what there is to see and to hear.
        dtype: of its weights.
        device_map: as ``load_backbone`` takes it.

    Raises:
        UserError: files that cannot be read, or no chat template.
    """
    from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING

    if str(name) == SMOLLM2:
        return None
    with readable("Language model", name):
        if type(AutoConfig.from_pretrained(str(name))) not in MODEL_FOR_MULTIMODAL_LM_MAPPING:
            return None
        processor = AutoProcessor.from_pretrained(str(name))
        model = AutoModelForMultimodalLM.from_pretrained(str(name), dtype=dtype, device_map=device_map)
    if not getattr(processor, "chat_template", None):
        raise UserError(f"'{name}' has no chat template, which says where a clip or a sound stands in its prompt.")
    model, tokenizer = settle(model, processor.tokenizer)
    return model, tokenizer, Senses(processor, schema, dtype)
