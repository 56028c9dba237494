"""A real small model behind a real socket, in the form of OpenAI's chat completions and of vLLM's plain ones.

What goes wrong is asked for by the path that the client is given: each stands for something real servers do.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pride_mm.data.conversation import chat_ids
from pride_mm.teacher.scoring import Teacher
from pride_mm.teacher.senses import Question

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
        self._strings = [teacher.tokenizer.decode([token]) for token in range(len(teacher.tokenizer))]
        self._lock = threading.Lock()

    def app(self) -> Starlette:
        def post(path: str, function: Any) -> Route:
            return Route(f"{path}/chat/completions", function, methods=["POST"])

        def plain(path: str, function: Any) -> list[Route]:
            models = Route(f"{path}/models", lambda request: JSONResponse({"data": [{"id": MODEL, "root": "tiny"}]}))
            return [models, Route(f"{path}/completions", function, methods=["POST"])]

        return Starlette(
            routes=[
                *plain("/v1", self.complete),
                *plain("/few", self.few),
                *plain("/openai", self.openai),
                *plain("/busy", self.busy),
                *plain("/broken", self.broken),
                post("/v1", self.complete),
                post("/busy", self.busy),
                post("/strict", self.strict),
                post("/broken", self.broken),
                post("/slow", self.slow),
                post("/first", self.first),
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
        answer = self._answer if "messages" in body else self._go_on
        return JSONResponse(await asyncio.to_thread(answer, body))

    async def few(self, request: Request) -> Response:
        """vLLM as it is started without --max-logprobs."""
        if (await request.json()).get("prompt_logprobs", 0) > 20:
            return JSONResponse({"error": {"message": "Requested prompt logprobs of more than max_logprobs: 20"}}, 400)
        return await self.complete(request)

    async def openai(self, request: Request) -> Response:
        """Another server ignores what only vLLM knows."""
        answer = json.loads((await self.complete(request)).body)
        for choice in answer["choices"]:
            choice.pop("prompt_logprobs", None)
        return JSONResponse(answer)

    def _go_on(self, body: dict[str, Any]) -> dict[str, Any]:
        """A choice for each prompt; the answers come in another order than the questions."""
        with self._lock:
            choices = [self._choice(number, prompt, body) for number, prompt in enumerate(body["prompt"])]
        return {"id": "c", "object": "text_completion", "model": MODEL, "choices": choices[::-1]}

    @torch.inference_mode()
    def _choice(self, number: int, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        tokenizer, model = self.teacher.tokenizer, self.teacher.model
        (ids,) = self.teacher.write([Question(prompt)], body["max_tokens"])
        ended = ids[-1] == tokenizer.eos_token_id
        choice = {"index": number, "text": tokenizer.decode(ids), "finish_reason": "stop" if ended else "length"}
        if body.get("logprobs"):
            assert body["return_tokens_as_token_ids"]
            choice["logprobs"] = {"tokens": [f"token_id:{one}" for one in ids]}
        if wanted := body.get("prompt_logprobs"):
            log_probs = model(input_ids=torch.tensor([prompt])).logits[0].log_softmax(-1)
            choice["prompt_logprobs"] = [None]
            for row, token in zip(log_probs[:-1], prompt[1:], strict=True):
                # the prompt's own token comes first, and once more than was asked for where it is not among the best
                best = row.topk(wanted).indices.tolist()
                ranks = {token: int((row > row[token]).sum()) + 1} | {one: rank for rank, one in enumerate(best, 1)}
                said = {one: {"logprob": float(row[one]), "rank": rank} for one, rank in ranks.items()}
                strings = {one: {"decoded_token": self._strings[one]} for one in said}
                choice["prompt_logprobs"].append({str(one): said[one] | strings[one] for one in said})
        return choice

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        tokenizer = self.teacher.tokenizer
        prompt = chat_ids(tokenizer, body["messages"])
        with self._lock:
            (ids,) = self.teacher.write([Question(prompt)], body.get("max_tokens") or body["max_completion_tokens"])
            (lesson,) = self.teacher.score([Question(prompt)], [ids], [True])
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

    async def first(self, request: Request) -> Response:
        """A judge that names what stands first, whatever it is asked about."""
        self.seen.append(await request.json())
        said = json.dumps(dict.fromkeys(("empathy", "relevance", "fluency", "overall"), "A"))
        return JSONResponse({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]})

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
