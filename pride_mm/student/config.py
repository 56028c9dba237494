"""What a student is made of, as a Hugging Face config: enough to build it again without any download."""

from typing import Any, Literal, get_args

from pydantic import ValidationError
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from pride_mm.config import mistakes
from pride_mm.errors import UserError
from pride_mm.schema import AudioField, Frozen, Kind, Role, Schema, VideoField

# The source that is read off the dialogue and all that is seen and heard, which a run may teach to predict the notes
# (``loss.prior``); the space keeps it apart from any field's name.
PREDICTED = "dialogue summary"


Fusion = Literal["multi_source", "joint", "hierarchical", "concat"]
"""How the text gets to see the sources; all but the first are there to be compared with.

``multi_source``: one softmax over what can be observed, another over the notes while training, each behind a gate.
``joint``: while training, the notes are one more source in the one softmax. ``hierarchical``: a softmax within each
source and one over sources, the notes one more of them. ``concat``: latents are tokens before the text, the notes' too.
"""


ENCODERS = {
    Kind.VIDEO: ("torchvision", "torchvision-video", "transformers", "none"),
    Kind.AUDIO: ("logmel", "transformers", "none"),
}
"""The encoders of each kind of media; the first needs nothing and is the default. With ``none`` it isn't looked at."""
CLIP_MODELS = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
"""What ``torchvision-video`` takes as its ``model``; the first is the default."""


class EncoderSettings(Frozen):
    """How a media input becomes tokens.

    ``name`` is one of ``ENCODERS``; ``model`` a folder or hub name for ``transformers``, one of ``CLIP_MODELS`` for
    ``torchvision-video``. ``config`` is filled in from that model, so that the student never needs it again.
    """

    name: Literal["torchvision", "torchvision-video", "logmel", "transformers", "none"]
    model: str | None = None
    trained: bool = True
    config: dict[str, Any] | None = None
    processor: dict[str, Any] | None = None


class StudentConfig(PreTrainedConfig):
    """The config of a student.

    Args:
        text_config: the backbone's config (a dict with its ``model_type``, or the object).
        served_schema: the schema without privileged fields, as ``Schema.served().model_dump(mode="json")``.
        encoders: settings of the encoder of each video and audio input, by field; the rest get their kind's default.
        latents: K, tokens that each source is resampled to.
        fusion: how the text gets to see the sources; see ``Fusion``.
        attended_layers: layers of the backbone before which the text attends to the sources again.
        attention_width: inner width of the attentions; at most the backbone's width.
        attention_heads: heads of the attentions.
        system: what the student is told before every dialogue.
        max_context: tokens of a dialogue; the oldest turns are left out past that.

    Raises:
        UserError: a schema with privileged fields, or encoder settings that don't fit.
    """

    model_type = "pride_student"
    sub_configs_defaults = {"text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")}

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    served_schema: dict[str, Any] | None = None
    encoders: dict[str, Any] | None = None
    latents: int = 8
    fusion: str = "multi_source"
    attended_layers: tuple[int, ...] | list[int] = ()
    attention_width: int = 256
    attention_heads: int = 4
    system: str = ""
    max_context: int = 192
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.fusion not in get_args(Fusion):
            raise UserError(f"No fusion '{self.fusion}': choose one of {', '.join(get_args(Fusion))}.")
        self.encoders = self.encoders or {}
        if self.served_schema is not None:
            self.encoders = {name: _encoder(name, self.schema, given) for name, given in self._encoders_given().items()}

    @property
    def schema(self) -> Schema:
        """The served schema, parsed."""
        try:
            schema = Schema.model_validate(self.served_schema)
        except ValidationError as error:
            raise UserError(f"The student's schema is broken: {'; '.join(mistakes(error))}") from None
        if schema.of(Role.PRIVILEGED):
            raise UserError("A student's schema has no privileged fields: give Schema.served().")
        return schema

    @property
    def width(self) -> int:
        """D, the backbone's width."""
        width: int = self.get_text_config().hidden_size
        return width

    def encoder_settings(self, name: str) -> EncoderSettings:
        """The encoder's settings of a media input."""
        return EncoderSettings.model_validate((self.encoders or {})[name])

    def _encoders_given(self) -> dict[str, Any]:
        media = {field.name: field for field in self.schema.inputs if isinstance(field, VideoField | AudioField)}
        given = dict(self.encoders or {})
        unknown = sorted(set(given) - set(media))
        if unknown:
            raise UserError(
                f"Encoders for {', '.join(unknown)}, but the video and audio inputs of schema '{self.schema.name}' "
                f"are: {', '.join(media) or 'none'}."
            )
        return {name: given.get(name, {"name": ENCODERS[field.kind][0]}) for name, field in media.items()}


def _encoder(name: str, schema: Schema, given: Any) -> dict[str, Any]:
    try:
        settings = given if isinstance(given, EncoderSettings) else EncoderSettings.model_validate(given)
    except ValidationError as error:
        raise UserError(f"The encoder of '{name}': {'; '.join(mistakes(error))}") from None
    allowed = ENCODERS[schema.get(name).kind]
    if settings.name not in allowed:
        raise UserError(f"Encoder '{settings.name}' does not fit '{name}': choose one of {', '.join(allowed)}.")
    if settings.name == "transformers" and not (settings.model or settings.config):
        raise UserError(f"The encoder of '{name}' needs a 'model': a Hugging Face folder or hub name.")
    if settings.name == "torchvision-video" and settings.model not in (None, *CLIP_MODELS):
        raise UserError(f"No video model '{settings.model}' for '{name}': choose one of {', '.join(CLIP_MODELS)}.")
    return settings.model_dump(mode="json")
