"""The contract: which fields a dialogue item has, what they are, and who may see them.

A schema is a TOML file in ``configs/schema``. Each field has a name, a *kind* (what it is) and a
*role* (where it may go): inputs go everywhere, targets to training and evaluation, privileged
fields to the teacher and to training only. Everything else (label page, parser, members of a
tar, batch, prompt, heads, request model) is derived from here and written nowhere else: no other
file names a field.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, TypeAdapter, ValidationError, model_validator
from pydantic import Field as Setting

from pride_mm.config import find_config, mistakes
from pride_mm.errors import UserError


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
    """A value that cannot change and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    shown = "the given value" if field.role is Role.PRIVILEGED else _short(raw)
    try:
        value: Value = _SHAPES[field.kind].validate_python(raw)
    except ValidationError as error:
        raise ValueError(f"{shown} is not {field.allowed} ({mistakes(error, 'value')[0]})") from None
    if field.kind is Kind.TEXT and not str(value).strip():
        raise ValueError("empty text")
    if isinstance(field, OptionsField):
        _check_options(field, value, shown, turns)
    if isinstance(field, ScaleField) and not field.low <= int(value) <= field.high:  # type: ignore[arg-type]
        raise ValueError(f"{shown} is not {field.allowed}")
    return value


def _check_options(field: OptionsField, value: Any, shown: str, turns: int | None) -> None:
    labels = [value] if isinstance(value, str) else [v.label if isinstance(v, Span) else v for v in value]
    if any(label not in field.options for label in labels if label is not None):
        raise ValueError(f"{shown} is not {field.allowed}")
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


class Schema(Frozen):
    """A set of fields: exactly one input dialogue and exactly one target text, the response."""

    name: Annotated[str, Setting(pattern=r"^[a-z][a-z0-9_]*$")]
    version: Annotated[int, Setting(ge=1)] = 1
    description: str = ""
    field: tuple[Field, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [field.name for field in self.field]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"fields given twice: {', '.join(twice)}")
        observed = (Kind.VIDEO, Kind.AUDIO, Kind.DIALOGUE)
        astray = [f.name for f in self.field if f.kind in observed and f.role is not Role.INPUT]
        if astray:
            raise ValueError(f"video, audio and dialogue are always inputs, not {', '.join(astray)}")
        if len(self.of(Role.INPUT, Kind.DIALOGUE)) != 1:
            raise ValueError("exactly one input of kind 'dialogue' is needed")
        if len(self.of(Role.TARGET, Kind.TEXT)) != 1:
            raise ValueError("exactly one target of kind 'text' is needed: the response to learn")
        return self

    def of(self, role: Role | None = None, *kinds: Kind) -> tuple[Field, ...]:
        """The fields of a role and of some kinds, in the schema's order."""
        return tuple(f for f in self.field if (role is None or f.role is role) and (not kinds or f.kind in kinds))

    @property
    def inputs(self) -> tuple[Field, ...]:
        return self.of(Role.INPUT)

    @property
    def targets(self) -> tuple[Field, ...]:
        return self.of(Role.TARGET)

    @property
    def privileged(self) -> tuple[Field, ...]:
        return self.of(Role.PRIVILEGED)

    @property
    def dialogue(self) -> Field:
        """The input that holds the turns so far."""
        return self.of(Role.INPUT, Kind.DIALOGUE)[0]

    @property
    def response(self) -> Field:
        """The target text that the student learns to generate."""
        return self.of(Role.TARGET, Kind.TEXT)[0]

    @property
    def heads(self) -> tuple[ChoiceField | ScaleField, ...]:
        """The targets that the student predicts with a head each."""
        return tuple(f for f in self.targets if isinstance(f, ChoiceField | ScaleField))

    @cached_property
    def by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.field}

    def get(self, name: str) -> Field:
        """The field called ``name``; raises UserError that lists the names."""
        if name not in self.by_name:
            near = difflib.get_close_matches(name, self.by_name, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UserError(f"No field '{name}' in schema '{self.name}' ({', '.join(self.by_name)}).{hint}")
        return self.by_name[name]

    def served(self) -> "Schema":
        """The schema without its privileged fields: what an artifact may know."""
        return self.model_copy(update={"field": self.inputs + self.targets})

    @property
    def sha256(self) -> str:
        """Changes when, and only when, the schema does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def classes(field: ChoiceField | ScaleField) -> tuple[str, ...]:
    """The classes of a head, in the order of its logits."""
    if isinstance(field, ScaleField):
        return tuple(str(level) for level in range(field.low, field.high + 1))
    return field.options


def parse_values(
    fields: Iterable[Field], raw: dict[str, Any], turns: int | None = None
) -> tuple[dict[str, Value], list[tuple[str, str]]]:
    """Parse a JSON object by fields.

    Null and a missing key both mean absent. Returns the values, and the refused ones as (field, reason).
    """
    known = {field.name: field for field in fields}
    values: dict[str, Value] = {}
    refused: list[tuple[str, str]] = []
    for name, given in raw.items():
        if name not in known:
            refused.append((name, f"not a field of this record (allowed: {', '.join(known)})"))
        elif given is not None:
            try:
                values[name] = parse_value(known[name], given, turns)
            except ValueError as error:
                refused.append((name, str(error)))
    return values, refused


def load_schema(name: str | Path) -> Schema:
    """Read a schema by name (``pride``) or by path to its TOML; raises UserError with every mistake."""
    path = find_config("schema", name)
    try:
        return Schema.model_validate(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in mistakes(error))
        raise UserError(f"{path} is not a schema:\n{lines}") from None
