"""OpenAI's chat completions, as far as a student can do what they ask: requests in, replies and errors out.

Promise: whatever is asked for and cannot be done is refused by its name, never left out in silence; no message repeats
what was sent. Of the messages, those of the user and the assistant are the dialogue; what a system message says is put
behind what the student was always told. A clip or a sound belongs to the last message: earlier ones are not looked at
again, as in ``pride chat``.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pride_mm.errors import UserError
from pride_mm.schema import Kind, Schema, Turn
from pride_mm.serving.request import Request, read_request
from pride_mm.serving.uploads import Upload, of_base64, of_data_url

MESSAGES = 128
EXTRA = "pride"
"""The name of what a request or a reply has beyond OpenAI's: other inputs of the schema; what the student read."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class TextPart(_Wire):
    type: Literal["text"]
    text: str


class Sound(_Wire):
    data: str
    format: str


class SoundPart(_Wire):
    type: Literal["input_audio"]
    input_audio: Sound


class Address(_Wire):
    url: str


class ClipPart(_Wire):
    type: Literal["video_url"]
    video_url: Address


Part = Annotated[TextPart | SoundPart | ClipPart, Field(discriminator="type")]


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Message(_Wire):
    """One message; ``name`` is read by nobody."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_as_parts)]
    name: str | None = None
    refusal: None = None

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))


class StreamOptions(_Wire):
    include_usage: bool = False
    include_obfuscation: bool = False


class TextFormat(_Wire):
    type: Literal["text"] = "text"


class ChatRequest(_Wire):
    """The body of a request. Of what a student cannot do, only the value that asks for nothing is taken.

    Without a ``temperature`` it answers greedily. ``user``, ``store``, ``metadata``, ``service_tier`` and the keys of
    caches are taken and used for nothing.
    """

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    pride: dict[str, Any] = Field(default_factory=dict)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Literal[1] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    stop: None = None
    tools: None = None
    tool_choice: None = None
    logit_bias: None = None
    top_logprobs: None = None
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class Asked(BaseModel):
    """What is asked of the student.

    Attributes:
        request: the inputs that are words, checked against the schema.
        system: what system messages say.
        uploads: for each kind of media what came with the last message.
        tokens: of the longest answer; None leaves it to the server.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    body: ChatRequest
    request: Request
    system: str
    uploads: dict[Kind, Upload]

    @property
    def tokens(self) -> int | None:
        return self.body.max_completion_tokens or self.body.max_tokens


def read_body(body: bytes, schema: Schema, model: type[Request], characters: int) -> Asked:
    """Read the body of a request.

    Args:
        body: JSON.
        schema: the served one.
        model: of the requests to the student.
        characters: allowed in all messages together.

    Raises:
        UserError: every mistake by its place; no value of the request.
    """
    try:
        chat = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise UserError(_mistakes(error, schema)) from None
    given = sum(len(message.text) for message in chat.messages)
    if given > characters:
        raise UserError(f"The messages have {given:,} characters; {characters:,} are allowed.")
    said = [message for message in chat.messages if message.role in ("user", "assistant")]
    if not said or said[-1].role != "user":
        raise UserError("The last message must be one of the user: it is what is answered.")
    uploads = _uploads(said[-1], schema)
    if not said[-1].text.strip() and not uploads:
        raise UserError("The last message is empty.")
    turns = [Turn(speaker=message.role, text=message.text) for message in said]
    media = {field.name for field in schema.inputs if field.kind in (Kind.VIDEO, Kind.AUDIO)}
    if odd := sorted(media & set(chat.pride)) or sorted({schema.dialogue.name} & set(chat.pride)):
        raise UserError(f"{EXTRA}.{odd[0]}: it comes in the messages.")
    request = read_request(model, {**chat.pride, schema.dialogue.name: [turn.model_dump() for turn in turns]})
    system = "\n".join(message.text for message in chat.messages if message.role in ("system", "developer"))
    return Asked(body=chat, request=request, system=system, uploads=uploads)


def _uploads(message: Message, schema: Schema) -> dict[Kind, Upload]:
    uploads: dict[Kind, Upload] = {}
    takes = {field.kind for field in schema.inputs}
    for part in message.content:
        if isinstance(part, TextPart):
            continue
        kind = Kind.AUDIO if isinstance(part, SoundPart) else Kind.VIDEO
        if kind in uploads:
            raise UserError(f"The last message has more than one {part.type}; one is taken.")
        if kind not in takes and not (kind is Kind.VIDEO and Kind.AUDIO in takes):
            raise UserError(f"This student takes no {kind.value}: leave the {part.type} out.")
        if isinstance(part, SoundPart):
            uploads[kind] = of_base64(part.input_audio.data, part.input_audio.format, kind)
        else:
            uploads[kind] = of_data_url(part.video_url.url, kind)
    return uploads


def _mistakes(error: ValidationError, schema: Schema) -> str:
    """Each mistake with its place, in one line; a place may hold a key that was sent, shortened."""
    lines: list[str] = []
    for found in error.errors(include_input=False, include_url=False, include_context=False):
        place = ".".join(str(step)[:40] for step in found["loc"])
        if found["type"] == "json_invalid":
            return "The body is no JSON."
        if found["type"] == "extra_forbidden":
            inputs = ", ".join(field.name for field in schema.inputs)
            lines.append(
                f"'{place.rpartition('.')[2]}' is not supported, and is no input of this student (inputs: {inputs}). "
                f"What experts note exists in training only"
            )
        elif found["type"] == "none_required":
            lines.append(f"'{place}' is not supported")
        elif found["type"] == "union_tag_invalid":
            lines.append(f"{place}: a part is text, input_audio or video_url; image_url and others are not taken")
        else:
            lines.append(f"{place or 'the body'}: {found['msg']}")
    return "; ".join(dict.fromkeys(lines[:5])) + "."


def usage(prompt: int, completion: int) -> dict[str, int]:
    """OpenAI's count of tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def completion(head: dict[str, Any], text: str, finish: str, used: dict[str, int], read: Any) -> dict[str, Any]:
    """A whole reply; ``head`` has id, time and model."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": used, EXTRA: read}


def chunk(head: dict[str, Any], delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One piece of a streamed reply; without a ``delta`` it has no choice, as the one that brings the usage."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {**head, "object": "chat.completion.chunk", "choices": choices, **more}


_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def error(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """OpenAI's form of an error; the message is one line."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": " ".join(message.split()), "type": kind, "param": None, "code": code}}


def model_card(name: str, created: int, notice: str, schema: Schema) -> dict[str, Any]:
    """The student in the list of models."""
    inputs = {field.name: field.kind.value for field in schema.inputs}
    heads = [field.name for field in schema.heads]
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "pride-mm",
        EXTRA: {"notice": notice, "inputs": inputs, "reads": heads},
    }


def listed(cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": list(cards)}
