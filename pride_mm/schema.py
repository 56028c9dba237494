"""The contract: which fields a dialogue item has, what they are, and who may see them.

A schema is a TOML file in ``configs/schema``. Each field has a name, a *kind* (what it is) and a
*role* (where it may go): inputs go everywhere, targets to training and evaluation, privileged
fields to the teacher and to training only. Everything else (label page, parser, members of a
tar, batch, prompt, heads, request model) is derived from here and written nowhere else: no other
file names a field. What a field may be is in ``fields``, and is imported from here.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field as Setting
from pydantic import ValidationError, model_validator

from pride_mm.config import find_config, mistakes, read_config
from pride_mm.errors import UserError
from pride_mm.fields import (
    AudioField,
    ChoiceField,
    ChoicesField,
    Field,
    FieldBase,
    Frozen,
    Kind,
    Loaded,
    Media,
    MediaData,
    OptionsField,
    Role,
    ScaleField,
    Span,
    StoredFile,
    TextField,
    Turn,
    Value,
    VideoField,
    jsonable,
    parse_value,
)

__all__ = [
    "AudioField",
    "ChoiceField",
    "ChoicesField",
    "Field",
    "FieldBase",
    "Frozen",
    "Kind",
    "Loaded",
    "Media",
    "MediaData",
    "OptionsField",
    "Role",
    "ScaleField",
    "Schema",
    "Span",
    "StoredFile",
    "TextField",
    "Turn",
    "Value",
    "VideoField",
    "classes",
    "jsonable",
    "load_schema",
    "parse_value",
    "parse_values",
]


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
        return Schema.model_validate(tomllib.loads(read_config(path)))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in mistakes(error))
        raise UserError(f"{path} is not a schema:\n{lines}") from None
