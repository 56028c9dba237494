"""What a field of a schema may be, by kind, and what its values are.

A value comes from JSON by ``parse_value`` and goes back by ``jsonable``. No message here shows a
privileged value.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, TypeAdapter, ValidationError, model_validator
from pydantic import Field as Setting

from pride_mm.config import mistakes


class Role(StrEnum):
    """Where a field may go."""

    INPUT = "input"
    TARGET = "target"
    PRIVILEGED = "privileged"


class Kind(StrEnum):
    """What a field is."""

    VIDEO = "video"
    AUDIO = "audio"
    DIALOGUE = "dialogue"
    TEXT = "text"
    CHOICE = "choice"
    CHOICES = "choices"
    SCALE = "scale"
    TURN_CHOICE = "turn_choice"
    SPANS = "spans"


class Frozen(BaseModel):
    """A value that cannot change and refuses unknown keys, and numbers that are none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Media(Frozen):
    """A video or audio file, or a part of it. Times in seconds."""

    path: str
    start: Annotated[float, Setting(ge=0)] | None = None
    end: Annotated[float, Setting(gt=0)] | None = None


class Turn(Frozen):
    """One utterance. Times in seconds from the start of the clip; None where the corpus has none."""

    speaker: str
    text: str
    start: float | None = None
    end: float | None = None


class Span(Frozen):
    """A labelled part of the clip. Times in seconds."""

    start: Annotated[float, Setting(ge=0)]
    end: Annotated[float, Setting(ge=0)]
    label: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError("a span ends before it starts")
        return self


Value = str | int | tuple[str, ...] | tuple[str | None, ...] | tuple[Turn, ...] | tuple[Span, ...] | Media


@dataclass(frozen=True)
class StoredFile:
    """The bytes of a file as it was when it was looked at: too many to be handed around, and the very ones to be kept.

    ``changed`` is its time of change in nanoseconds: a file that is another one by then isn't this.
    """

    path: str
    size: int
    changed: int

    def __len__(self) -> int:
        return self.size


# Media as they lie in a shard: a stream, or a clip as single pictures in order.
MediaData = bytes | tuple[bytes, ...]
Loaded = Value | MediaData

Options = Annotated[tuple[str, ...], Setting(min_length=2)]


class FieldBase(Frozen):
    """What every field has.

    ``guideline`` is what the expert reads beside the control; ``step`` is the step of the
    empathy-reasoning prompt that the field feeds.
    """

    name: Annotated[str, Setting(pattern=r"^[a-z][a-z0-9_]*$", max_length=32)]
    role: Role
    title: str = ""
    guideline: str = ""
    required: bool = False
    step: Literal["feelings", "situation", "response"] | None = None

    @property
    def label(self) -> str:
        """The field's name as people read it."""
        return self.title or self.name.replace("_", " ").capitalize()

    @property
    def allowed(self) -> str:
        """What a value may be, for messages."""
        return "see the schema"


class VideoField(FieldBase):
    """A clip. ``frames`` are sampled evenly and resized to ``size`` x ``size`` pixels."""

    kind: Literal[Kind.VIDEO]
    frames: Annotated[int, Setting(ge=1, le=256)] = 8
    size: Annotated[int, Setting(ge=16, le=1024)] = 96

    @property
    def allowed(self) -> str:
        return '{"path": FILE, "start": SECONDS, "end": SECONDS}'


class AudioField(FieldBase):
    """Sound, mono at ``rate`` Hz, at most ``seconds`` long for the student."""

    kind: Literal[Kind.AUDIO]
    rate: Annotated[int, Setting(ge=8000, le=48000)] = 16000
    seconds: Annotated[float, Setting(gt=0, le=600)] = 8.0

    @property
    def allowed(self) -> str:
        return '{"path": FILE, "start": SECONDS, "end": SECONDS}'


class DialogueField(FieldBase):
    """The turns so far, oldest first."""

    kind: Literal[Kind.DIALOGUE]

    @property
    def allowed(self) -> str:
        return '[{"speaker": NAME, "text": WORDS, "start": SECONDS, "end": SECONDS}, ...]'


class TextField(FieldBase):
    """Free text."""

    kind: Literal[Kind.TEXT]
    rows: Annotated[int, Setting(ge=2, le=20)] = 3

    @property
    def allowed(self) -> str:
        return "text that is not empty"


class OptionsField(FieldBase):
    """A field whose values come from a list."""

    options: Options

    @property
    def allowed(self) -> str:
        return "one of: " + ", ".join(self.options)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.options)) != len(self.options):
            raise ValueError("an option is given twice")
        return self


class ChoiceField(OptionsField):
    """One option for the whole item."""

    kind: Literal[Kind.CHOICE]


class ChoicesField(OptionsField):
    """Any number of options for the whole item."""

    kind: Literal[Kind.CHOICES]

    @property
    def allowed(self) -> str:
        return "a list out of: " + ", ".join(self.options)


class TurnChoiceField(OptionsField):
    """One option, or none, for each turn."""

    kind: Literal[Kind.TURN_CHOICE]

    @property
    def allowed(self) -> str:
        return "a list with one entry a turn, null or one of: " + ", ".join(self.options)


class SpansField(OptionsField):
    """Labelled time segments of the clip."""

    kind: Literal[Kind.SPANS]

    @property
    def allowed(self) -> str:
        return 'a list of {"start": SECONDS, "end": SECONDS, "label": L}, L one of: ' + ", ".join(self.options)


class ScaleField(FieldBase):
    """A whole number from ``low`` to ``high``, in order."""

    kind: Literal[Kind.SCALE]
    low: int = 0
    high: int = 2

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high <= self.low:
            raise ValueError("'high' must be above 'low'")
        return self


Field = Annotated[
    VideoField
    | AudioField
    | DialogueField
    | TextField
    | ChoiceField
    | ChoicesField
    | ScaleField
    | TurnChoiceField
    | SpansField,
    Discriminator("kind"),
]

_SHAPES: dict[Kind, TypeAdapter[Any]] = {
    Kind.VIDEO: TypeAdapter(Media),
    Kind.AUDIO: TypeAdapter(Media),
    Kind.DIALOGUE: TypeAdapter(Annotated[tuple[Turn, ...], Setting(min_length=1)]),
    Kind.TEXT: TypeAdapter(str),
    Kind.CHOICE: TypeAdapter(str),
    Kind.CHOICES: TypeAdapter(tuple[str, ...]),
    Kind.SCALE: TypeAdapter(Annotated[int, Setting(strict=True)]),
    Kind.TURN_CHOICE: TypeAdapter(tuple[str | None, ...]),
    Kind.SPANS: TypeAdapter(tuple[Span, ...]),
}


def parse_value(field: Field, raw: Any, turns: int | None = None) -> Value:
    """Turn JSON into the field's value.

    Args:
        field: the field that the value belongs to.
        raw: what ``json.loads`` gave.
        turns: how many turns the item's dialogue has, where that is known.

    Raises:
        ValueError: says what was given and what is allowed; never shows a privileged value.
    """
    try:
        value: Value = _SHAPES[field.kind].validate_python(raw)
    except ValidationError as error:
        # a path may hold a key that was given, which in a note may be its text
        found = error.errors()[0]["msg"] if field.role is Role.PRIVILEGED else mistakes(error, "value")[0]
        raise ValueError(f"{_shown(field.role, raw)} is not {field.allowed} ({found})") from None
    _check_unicode(value)
    if field.kind is Kind.TEXT and not str(value).strip():
        raise ValueError("empty text")
    if isinstance(field, OptionsField):
        _check_options(field, value, raw, turns)
    if isinstance(field, ScaleField) and not field.low <= int(value) <= field.high:  # type: ignore[arg-type]
        raise ValueError(f"{_shown(field.role, raw)} is not {field.allowed}")
    return value


def _shown(role: Role, raw: Any) -> str:
    return "the given value" if role is Role.PRIVILEGED else _short(raw)


def _check_unicode(value: Value) -> None:
    try:
        for text in _texts(value):
            text.encode()
    except UnicodeEncodeError:
        raise ValueError("text that is not Unicode: a byte that is not UTF-8, or half of a surrogate pair") from None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, BaseModel):
        yield from (part for part in vars(value).values() if isinstance(part, str))


def _check_options(field: OptionsField, value: Any, raw: Any, turns: int | None) -> None:
    labels = [value] if isinstance(value, str) else [v.label if isinstance(v, Span) else v for v in value]
    if any(label not in field.options for label in labels if label is not None):
        raise ValueError(f"{_shown(field.role, raw)} is not {field.allowed}")
    if isinstance(field, ChoicesField) and len(set(labels)) != len(labels):
        raise ValueError("an option is given twice")
    if isinstance(field, TurnChoiceField) and turns is not None and len(labels) != turns:
        raise ValueError(f"{len(labels)} entries for {turns} turns")


def _short(raw: Any, limit: int = 60) -> str:
    text = repr(raw)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def jsonable(value: Value) -> Any:
    """The JSON form of a value; ``parse_value`` reads it back."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, tuple):
        return [v.model_dump() if isinstance(v, BaseModel) else v for v in value]
    return value
