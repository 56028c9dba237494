"""What a student may be asked: the inputs of its schema, and nothing else.

There is no place in a request for what experts noted: such fields exist while training only, and a
request that carries one, or any other field that is no input, is refused by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from pride_mm.config import mistakes
from pride_mm.errors import UserError
from pride_mm.media import MediaError, VideoPacking, convert_audio, convert_video
from pride_mm.schema import AudioField, Kind, Loaded, Media, MediaData, Role, Schema, Value, VideoField, parse_value

_AS_IT_IS = VideoPacking(mode="copy")  # one clip that is decoded once


class Request(BaseModel):
    """The inputs of one item, checked against the schema; made by ``request_model``."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def values_of(request: Request) -> dict[str, Value]:
    """The inputs that are there, by field name."""
    given = {name: getattr(request, name) for name in type(request).model_fields}
    return {name: value for name, value in given.items() if value is not None}


def request_model(schema: Schema) -> type[Request]:
    """The request model of a schema: one attribute an input; the dialogue is required.

    Media are given by path: as a string, or as an object with ``path``, ``start`` and ``end``.
    """
    fields = {field.name: field for field in schema.inputs}

    def refuse_others(cls: type, given: Any) -> Any:
        others = [str(name) for name in given if name not in fields] if isinstance(given, Mapping) else []
        if others:
            raise ValueError(
                f"{_listed(others)} is no input of this student (inputs: {', '.join(fields)}). "
                f"What experts note exists in training only; leave it out"
            )
        return given

    def parse(cls: type, given: Any, info: Any) -> Any:
        field = fields[info.field_name]
        if given is None:
            return None
        is_media = field.kind in (Kind.VIDEO, Kind.AUDIO)
        return parse_value(field, {"path": given} if is_media and isinstance(given, str) else given)

    before, each = cast(Any, classmethod(refuse_others)), cast(Any, classmethod(parse))
    validators: dict[str, Any] = {
        "refuse_others": model_validator(mode="before")(before),
        "parse": field_validator(*fields, mode="before")(each),
    }
    attributes: dict[str, Any] = {
        name: (Any, Field(title=field.label, description=field.allowed))
        if name == schema.dialogue.name
        else (Any, Field(default=None, title=field.label, description=field.allowed))
        for name, field in fields.items()
    }
    return cast(
        type[Request], create_model("StudentRequest", __base__=Request, __validators__=validators, **attributes)
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name[:40]}'" for name in names[:5])


def read_request(model: type[Request], given: Any, folder: Path = Path()) -> Request:
    """Check one request; a relative media path is looked up in ``folder``.

    Raises:
        UserError: every mistake, each with its field.
    """
    if not isinstance(given, Mapping):
        raise UserError("A request is a JSON object with the inputs of one item.")
    try:
        request = model.model_validate(given)
    except ValidationError as error:
        lines = "; ".join(line.replace("Value error, ", "") for line in mistakes(error))
        raise UserError(f"Not a request: {lines}.") from None
    changes = {
        name: value.model_copy(update={"path": str(folder / value.path)})
        for name, value in values_of(request).items()
        if isinstance(value, Media)
    }
    return request.model_copy(update=changes)


def load_inputs(schema: Schema, request: Request) -> dict[str, Loaded]:
    """The inputs with their media read and cut, as they would lie in a shard.

    Raises:
        UserError: names the field whose media cannot be read, and why.
    """
    inputs: dict[str, Loaded] = {}
    allowed = {field.name: field for field in schema.of(Role.INPUT)}
    for name, value in values_of(request).items():
        field = allowed[name]
        inputs[name] = _read(field, value) if isinstance(value, Media) else value
    return inputs


def _read(field: Any, media: Media) -> MediaData:
    path = Path(media.path)
    if not path.is_file():
        raise UserError(f"{field.label}: no file at {media.path}.")
    try:
        if isinstance(field, VideoField):
            return convert_video(path, _AS_IT_IS, start=media.start, end=media.end).loaded
        assert isinstance(field, AudioField)
        return convert_audio(path, field.rate, start=media.start, end=media.end).loaded
    except MediaError as error:
        raise UserError(f"{field.label}: {path.name} cannot be read: {error}.") from None
