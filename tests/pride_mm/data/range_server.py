"""A real HTTP server of a folder that knows ranges, and that fails where a test wants it to."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send


class CutError(Exception):
    """Raised in the middle of an answer, whereupon the server hangs up."""


class _Shortened(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def half(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "body": message["body"][: len(message["body"]) // 2], "more_body": True})
                raise CutError
            await send(message)

        await super().__call__(scope, receive, half)


@dataclass
class RangeServer:
    """The server as a test sees it.

    ``asked`` lists each request: file, and its range or None. ``cuts`` answers are broken off in the middle,
    ``refusals`` are a status each; ``pause`` is seconds before each answer; without ``ranges`` all files come whole.
    """

    folder: Path
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    cuts: int = 0
    refusals: list[int] = field(default_factory=list)
    pause: float = 0.0
    ranges: bool = True

    def tars(self) -> list[str]:
        """The tars that were asked for, as often as they were."""
        return [name for name, _ in self.asked if name.endswith(".tar")]

    def bytes_of(self, name: str) -> int:
        """How many bytes of a file were asked for."""
        spans = [span.removeprefix("bytes=").split("-") for asked, span in self.asked if asked == name and span]
        return sum(int(last) + 1 - int(first) for first, last in spans)

    async def answer(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked.append((name, request.headers.get("range")))
        await asyncio.sleep(self.pause)
        if self.refusals:
            return PlainTextResponse("secret of the server", self.refusals.pop(0))
        if not (self.folder / name).is_file():
            return PlainTextResponse("", 404)
        if self.cuts:
            self.cuts -= 1
            return _Shortened(self.folder / name)
        if not self.ranges:
            return Response((self.folder / name).read_bytes())
        return FileResponse(self.folder / name)


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    """Serve a folder on loopback."""
    state = RangeServer(folder)
    app = Starlette(routes=[Route("/shards/{name}", state.answer)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level=60, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/shards"
    try:
        yield state
    finally:
        server.should_exit = True
        thread.join()
