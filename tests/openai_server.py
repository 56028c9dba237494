"""A real small model behind a real socket, in the form of OpenAI's chat completions.

What goes wrong is asked for by the path that the client is given: each stands for something real servers do.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pride_mm.data.conversation import chat_ids
from pride_mm.teacher.scoring import Teacher

KEY = "sk-test-0123456789"
MODEL = "stories"


class OpenAIServer:
    """``url`` is where it answers; ``seen`` what it was asked, with the headers it came with."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._busy = 0
        self._lock = threading.Lock()

    def app(self) -> Starlette:
        def post(path: str, function: Any) -> Route:
            return Route(f"{path}/chat/completions", function, methods=["POST"])

        return Starlette(
            routes=[
                post("/v1", self.complete),
                post("/busy", self.busy),
                post("/strict", self.strict),
                post("/broken", self.broken),
                post("/slow", self.slow),
                post("/page", lambda request: HTMLResponse("<h1>It works!</h1>")),
                post("/other", lambda request: JSONResponse({"choices": [{"text": "not a chat"}]})),
                post("/moved", lambda request: RedirectResponse("/v1/chat/completions", 307)),
            ]
        )

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        if request.headers.get("authorization") != f"Bearer {KEY}":
            given = request.headers.get("authorization", "")
            return JSONResponse({"error": {"message": f"Incorrect API key provided: {given}"}}, 401)
        if body["model"] != MODEL:
            return JSONResponse({"error": {"message": f"The model {body['model']} does not exist"}}, 404)
        return JSONResponse(await asyncio.to_thread(self._answer, body))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        tokenizer = self.teacher.tokenizer
        prompt = chat_ids(tokenizer, body["messages"])
        with self._lock:
            (ids,) = self.teacher.write([prompt], body.get("max_tokens") or body["max_completion_tokens"])
            (lesson,) = self.teacher.score([prompt], [ids], [True])
        ended = ids[-1] == tokenizer.eos_token_id
        words = [{"token": str(i), "logprob": float(p)} for i, p in zip(ids, lesson.gold_log_probs, strict=True)]
        message = {"role": "assistant", "content": tokenizer.decode(ids, skip_special_tokens=True)}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if ended else "length"}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": words}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": MODEL,
            "choices": [choice],
        }

    async def busy(self, request: Request) -> Response:
        """Two of three questions are too many."""
        await request.body()
        self._busy += 1
        if self._busy % 3:
            return JSONResponse({"error": {"message": "slow down"}}, 429, headers={"Retry-After": "0.25"})
        return await self.complete(request)

    async def strict(self, request: Request) -> Response:
        """Newer models refuse what older ones took."""
        if unknown := {"temperature", "logprobs", "max_tokens"} & set(await request.json()):
            return JSONResponse({"error": {"message": f"Unsupported: {sorted(unknown)}"}}, 400)
        return await self.complete(request)

    async def broken(self, request: Request) -> Response:
        await request.body()
        return Response("out of memory", 500)

    async def slow(self, request: Request) -> Response:
        await request.body()
        await asyncio.sleep(2.0)
        return await self.complete(request)


@contextmanager
def openai_server(teacher: Teacher) -> Iterator[OpenAIServer]:
    """The server, on a free port of loopback, for as long as the block lasts."""
    made = OpenAIServer(teacher)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        made.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        server = uvicorn.Server(uvicorn.Config(made.app(), log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield made
        server.should_exit = True
        thread.join(10)
