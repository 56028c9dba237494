"""A student behind HTTP, as OpenAI's chat completions. What may be asked is in ``chat``, who may in ``gate``.

Promise: every upload is decoded in a process that may die; who is in danger by what they write is answered with the
referral, and by no student; nothing of a request is kept, and nothing of it logged.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response, StreamingResponse

from pride_mm.errors import UserError
from pride_mm.serving import chat
from pride_mm.serving.answerer import LIMITS, Answerer, Asking, Decoders, Limits
from pride_mm.serving.artifact import RECORD
from pride_mm.serving.batching import Event, Failed, Late, Said
from pride_mm.serving.gate import CHAT, FAILED, HEALTH, METRICS, MODELS, Gate, Refusal
from pride_mm.serving.meters import Meters
from pride_mm.serving.predictor import Predictor, Reading
from pride_mm.serving.safety import NOT_THERAPY
from pride_mm.serving.sampling import Choice

Got = TypeVar("Got")
_NOBODY = Response(status_code=499)  # the client has gone


@dataclass(frozen=True)
class _Ticket:
    """A request that has been taken: what its reply begins with, the answer on its way, and what is known of it."""

    head: dict[str, Any]
    body: chat.ChatRequest
    asking: Asking
    extra: dict[str, Any]


class Server:
    """A student and all that serves it; ``app`` is the ASGI application.

    Args:
        artifact: the folder of the student.
        limits: what it takes.
        key: the bearer token; None asks for none.
        hosts: the names by which it may be called; None for any.
        device: where the student answers.
        safety: for ``load_safety``.

    Raises:
        UserError: the artifact is none, or the safety isn't.
    """

    def __init__(
        self,
        artifact: Path,
        limits: Limits = LIMITS,
        key: str | None = None,
        hosts: tuple[str, ...] | None = ("127.0.0.1", "localhost", "[::1]"),
        device: str = "cpu",
        safety: str | Path = "crisis",
    ) -> None:
        self.predictor = Predictor.open(artifact, device, safety)
        self.name, self.limits, self.meters = artifact.resolve().name, limits, Meters()
        self.created = int((artifact / RECORD).stat().st_mtime)
        self.decoders = Decoders(limits, self.meters)
        self.answerer = Answerer(self.predictor, self.decoders, self.meters)
        self.app = Gate(self._routes(), key, hosts, limits.concurrent, self.meters)

    def hang_up(self) -> None:
        """Nobody waits for nothing here."""

    def close(self) -> None:
        """End its processes and threads."""
        self.decoders.close()
        self.answerer.close()

    def _routes(self) -> FastAPI:
        app = FastAPI(title="PRIDE-MM", openapi_url=None)
        card = chat.model_card(self.name, self.created, NOT_THERAPY, self.predictor.schema)

        @app.get(HEALTH)
        async def health() -> dict[str, Any]:
            return {"status": "ok", "model": self.name}

        @app.get(METRICS)
        async def metrics() -> Response:
            return Response(self.meters.page(), media_type="text/plain; version=0.0.4")

        @app.get(MODELS)
        async def models() -> dict[str, Any]:
            return chat.listed([card])

        @app.get(MODELS + "/{name}")
        async def model(name: str) -> dict[str, Any]:
            self._know(name)
            return card

        @app.post(CHAT)
        async def complete(request: Request) -> Response:
            return await self._complete(request)

        @app.exception_handler(Refusal)
        async def refused(_: Request, refusal: Refusal) -> Response:
            return refusal.response

        @app.exception_handler(UserError)
        async def mistaken(_: Request, error: UserError) -> Response:
            return Refusal(400, str(error)).response

        @app.exception_handler(Exception)
        async def failed(_: Request, __: Exception) -> Response:
            return FAILED.response

        @app.exception_handler(HTTPException)
        async def not_found(_: Request, error: HTTPException) -> Response:
            return Refusal(error.status_code, f"{error.detail}.").response

        return app

    def _know(self, name: str) -> None:
        if name != self.name:
            raise Refusal(404, f"There is no such model here; there is '{self.name}'.", "model_not_found")

    async def _complete(self, request: Request) -> Response:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.limits.seconds):
                body = await self._body(request)
        except TimeoutError:
            raise Refusal(408, f"The request took longer than {self.limits.seconds:g} s to arrive.") from None
        except ClientDisconnect:
            return _NOBODY
        try:
            async with asyncio.timeout(self.limits.seconds - (time.monotonic() - begun)):
                ticket = await self._take(body, begun + self.limits.seconds)
        except TimeoutError:
            raise _late(self.limits) from None
        gone = asyncio.ensure_future(_gone(request))
        try:
            return await self._answer(ticket, begun, gone)
        finally:
            gone.cancel()

    async def _answer(self, ticket: _Ticket, begun: float, gone: "asyncio.Future[None]") -> Response:
        """The reply; its status waits for the first words. Where nobody waits for it, the student stops."""
        first = await _unless(gone, ticket.asking.events.get())
        if first is None:
            ticket.asking.job.gone = True
            return _NOBODY
        self.meters.first.observe(time.monotonic() - begun)
        events = self._until_said(ticket, _raised(first, self.limits))
        if ticket.body.stream:
            headers = {"Cache-Control": "no-cache"}
            return StreamingResponse(self._lines(ticket, events), headers=headers, media_type="text/event-stream")
        end = await _unless(gone, _end(events))
        if end is None:
            ticket.asking.job.gone = True
            return _NOBODY
        used = chat.usage(len(ticket.asking.job.context), end.tokens)
        return JSONResponse(chat.completion(ticket.head, end.text, end.finish, used, _extra(ticket, end.reading)))

    async def _body(self, request: Request) -> bytes:
        """The body, no more of it than is allowed."""
        allowed = self.limits.mebibytes << 20
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(415, "The body of a request is application/json.")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "The body of a request is sent as it is, not compressed.")
        length = request.headers.get("content-length", "")
        too_large = Refusal(
            413, f"The request is larger than the {self.limits.mebibytes} MiB that are allowed.", Connection="close"
        )
        if length.isdigit() and int(length) > allowed:
            raise too_large
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > allowed:
                raise too_large
        return bytes(body)

    async def _take(self, body: bytes, until: float) -> _Ticket:
        """Read a request and its uploads, and give it to the student."""
        predictor, limits = self.predictor, self.limits
        asked = await asyncio.to_thread(chat.read_body, body, predictor.schema, predictor.request, limits.characters)
        self._know(asked.body.model)
        tokens = asked.tokens or limits.tokens
        if tokens > limits.tokens:
            raise Refusal(400, f"An answer has at most {limits.tokens} tokens here, not {tokens}.")
        wish = asked.body
        choice = Choice(wish.temperature or 0.0, 1.0 if wish.top_p is None else wish.top_p, wish.seed)
        heard = await self.answerer.hear(asked.request, asked.uploads)
        asking = await self.answerer.ask(heard, until, tokens, choice, asked.system)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.name}
        told = {"concern": heard.concern, "media": sorted(heard.media)}
        extra = {**told, "shortened": asking.shortened, "notice": NOT_THERAPY}
        return _Ticket(head, wish, asking, extra)

    async def _until_said(self, ticket: _Ticket, first: str | Said) -> AsyncIterator[str | Said]:
        """The events of an answer, its end the last of them; who stops reading it stops the student."""
        event = first
        try:
            while not isinstance(event, Said):
                yield event
                event = _raised(await ticket.asking.events.get(), self.limits)
            self.meters.tokens.labels("written").inc(event.tokens)
            yield event
        finally:
            ticket.asking.job.gone = True

    async def _lines(self, ticket: _Ticket, events: AsyncIterator[str | Said]) -> AsyncIterator[str]:
        """Server-sent events, as OpenAI's clients read them."""
        counts = bool(ticket.body.stream_options and ticket.body.stream_options.include_usage)
        usage: dict[str, Any] = {"usage": None} if counts else {}
        head, text = ticket.head, False
        yield _line(chat.chunk(head, {"role": "assistant", "content": "", "refusal": None}, **usage))
        try:
            async for event in events:
                if isinstance(event, str):
                    text = True
                    yield _line(chat.chunk(head, {"content": event}, **usage))
                    continue
                if not text and event.text:
                    yield _line(chat.chunk(head, {"content": event.text}, **usage))
                yield _line(chat.chunk(head, {}, event.finish, **usage, pride=_extra(ticket, event.reading)))
                if counts:
                    used = chat.usage(len(ticket.asking.job.context), event.tokens)
                    yield _line(chat.chunk(head, None, usage=used))
        except Refusal as refusal:  # the status is sent already
            yield _line(chat.error(refusal.status, refusal.message))
            return
        yield "data: [DONE]\n\n"


def _line(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _late(limits: Limits) -> Refusal:
    return Refusal(504, f"The answer took longer than {limits.seconds:g} s.")


def _raised(event: Event, limits: Limits) -> str | Said:
    if isinstance(event, Late):
        raise _late(limits)
    if isinstance(event, Failed):
        raise Refusal(500, "The student could not answer; why is in the log.")
    return event


def _extra(ticket: _Ticket, reading: Reading) -> dict[str, Any]:
    """What a reply has beyond OpenAI's."""
    targets = {
        head: {label: round(share, 6) for label, share in shares.items()} for head, shares in reading.targets.items()
    }
    sources = {name: round(share, 6) for name, share in reading.sources.items()}
    return {"targets": targets, "sources": sources, **ticket.extra}


async def _gone(request: Request) -> None:
    """Returns when the client has."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unless(gone: "asyncio.Future[None]", wanted: Coroutine[Any, Any, Got]) -> Got | None:
    """What is waited for, or None when the client has gone before."""
    waiting = asyncio.ensure_future(wanted)
    await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        return waiting.result()
    waiting.cancel()
    return None


async def _end(events: AsyncIterator[str | Said]) -> Said:
    async for event in events:
        if isinstance(event, Said):
            return event
    raise AssertionError("an answer ends with all of it")
