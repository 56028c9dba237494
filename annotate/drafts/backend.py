"""Drafts on the page, made when an expert opens a task: Label Studio's protocol for models, on loopback only.

Label Studio hands a model the token of the project's owner with every ``/setup``, and the texts of tasks with every
``/predict``. The token is never read. Nothing that arrives is logged, shown or kept but for the drafts themselves.
The webhook that Label Studio makes for each model, which would send it every annotation, is taken away again:
drafts never see an expert's notes.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from annotate.drafts.predictions import draft_results, show_drafts
from annotate.exchange.project import Project
from annotate.page.label_config import FPS, ITEM, MEDIA, Page
from annotate.page.results import Context
from pride_mm.errors import UserError
from pride_mm.progress import Progress, silent
from pride_mm.records import Item
from pride_mm.schema import Field, Schema, Value, parse_value
from pride_mm.teacher.drafting import Drafter

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
_OURS = "Drafts by PRIDE-MM"
_KEPT = 1000  # drafts in memory; Label Studio gives up after 100 s and asks again when the task is opened next
_LARGEST = 64 * 2**20  # bytes of a question
_log = logging.getLogger(__name__)

Answer = dict[str, Any]


class Assistant:
    """A drafter that answers Label Studio, one task at a time.

    Args:
        project: whose tasks are drafted.
        drafter: writes the drafts; what it cannot is counted in its ``bad``, which should have room.
        fields: which fields, in the order of the steps.
        version: what predictions are marked with.
        progress: told how many tasks are drafted.
    """

    def __init__(
        self, project: Project, drafter: Drafter, fields: Sequence[Field], version: str, progress: Progress = silent
    ) -> None:
        self.project, self.drafter, self.fields, self.version = project, drafter, fields, version
        self._pages = project.parts()
        self._progress = progress
        self._kept: dict[str, list[Answer]] = {}
        self._model = threading.Lock()

    def draft(self, task: Mapping[str, Any]) -> list[Answer]:
        """The predictions for a task as Label Studio sends it: one, or none where there is nothing to say."""
        data, page = task.get("data"), self._pages.get(int(task.get("project") or 0))
        if not isinstance(data, dict) or page is None:
            return []
        key = hashlib.sha256(json.dumps([task.get("id"), data], sort_keys=True).encode()).hexdigest()
        with self._model:  # whoever asks twice waits for the first answer
            if key not in self._kept:
                if len(self._kept) >= _KEPT:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = self._draft(data, page)
                self._progress(len(self._kept), None, "tasks drafted")
            return self._kept[key]

    def _draft(self, data: Mapping[str, Any], page: Page) -> list[Answer]:
        item = item_of(page.schema, data)
        if item is None:
            return []
        drafted = self.drafter.draft(item, self.fields)
        if not drafted.values:
            return []
        turns = item.inputs[page.schema.dialogue.name]
        context = Context(page, len(turns) if isinstance(turns, tuple) else 0, float(data.get(FPS) or 0.0))
        with self.drafter.bad.counting():
            result = draft_results(drafted.values, context, f"item {item.id}")
            answer: Answer = {"result": result, "model_version": self.version}
            return [answer if drafted.score is None else {**answer, "score": drafted.score}]
        return []

    def app(self) -> "Starlette":
        """The web application."""
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def health(request: "Request") -> "Response":
            return JSONResponse({"status": "UP", "model_version": self.version})

        async def setup(request: "Request") -> "Response":
            return JSONResponse({"model_version": self.version})  # the body holds a token: it is not even read

        async def versions(request: "Request") -> "Response":
            return JSONResponse({"versions": [self.version]})

        async def webhook(request: "Request") -> "Response":
            return JSONResponse({})  # nothing is learnt from annotations

        async def predict(request: "Request") -> "Response":
            tasks = await _tasks_in(request)
            if tasks is None:
                return JSONResponse({"error": "not what Label Studio asks"}, 400)
            try:
                results = [await _in_thread(functools.partial(self.draft, task)) for task in tasks]
            except UserError as error:  # a server of models that went away; its message holds no text of a task
                _log.warning("no draft: %s", error)
                return JSONResponse({"error": "the model does not answer"}, 502)
            except Exception as error:  # noqa: BLE001  whatever it says may hold a task's text
                _log.warning("no draft: %s", type(error).__name__)
                return JSONResponse({"error": "no draft"}, 500)
            return JSONResponse({"results": results, "model_version": self.version})

        return Starlette(
            routes=[
                Route("/health", health),
                Route("/", health),
                Route("/setup", setup, methods=["POST"]),
                Route("/predict", predict, methods=["POST"]),
                Route("/webhook", webhook, methods=["POST"]),
                Route("/versions", versions),
            ],
            # so that no page in a browser gets at it by a name of its own that leads to loopback
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        )


def item_of(schema: Schema, data: Mapping[str, Any]) -> Item | None:
    """The item in a task's data, as far as its inputs are words; None where it has no turns."""
    inputs: dict[str, Value] = {}
    for field in schema.inputs:
        if field.kind not in MEDIA and data.get(field.name):
            try:
                inputs[field.name] = parse_value(field, data[field.name])
            except ValueError:
                continue  # a list, shown on the page as one line of text
    if schema.dialogue.name not in inputs:
        return None
    name = str(data.get(ITEM) or "task")
    return Item.model_construct(id=name, corpus="", group=name, inputs=inputs, targets={})


class AssistServer:
    """The web server of an assistant, known to Label Studio as the project's model while it runs.

    Args:
        assistant: answers.
        port: of 127.0.0.1; 0 takes any free one.
    """

    def __init__(self, assistant: Assistant, port: int = 9090) -> None:
        self.assistant, self.port = assistant, port
        self._thread: threading.Thread | None = None
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._start()
            self._register()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._unregister()
        finally:
            self._stop()

    def wait(self) -> None:
        """Block until Ctrl-C, which comes through as KeyboardInterrupt."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)
        raise UserError("The server of the drafts stopped by itself.")

    def _start(self) -> None:
        import uvicorn

        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, self.port))
        except (OSError, OverflowError):
            listening.close()
            raise UserError(f"Port {self.port} is taken or needs an administrator; give another with --port.") from None
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self.assistant.app(), access_log=False, log_config=None, timeout_graceful_shutdown=1, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        # a daemon: a draft that is being written when we are stopped is not waited for
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.02)

    def _stop(self) -> None:
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)
            self._thread = None

    def _register(self) -> None:
        self._unregister()  # what a run that was killed left behind
        project, version = self.assistant.project, self.assistant.version
        client, call = project.studio.client, project.studio.call
        for number in project.parts():
            # the pages are filled in by the model whose title the project names
            call(
                "making the drafts known; it must run on this machine and may call 127.0.0.1", client.ml.create,
                project=number, url=self.url, title=version, description=_OURS,
            )  # fmt: skip
            self._forget_webhooks(number, {self.url})
            show_drafts(project, number, version)

    def _unregister(self) -> None:
        project, version = self.assistant.project, self.assistant.version
        client, call = project.studio.client, project.studio.call
        for number in project.parts():
            ours = [one for one in call("listing models", client.ml.list, project=number) if one.description == _OURS]
            for one in ours:
                call("taking a model away", client.ml.delete, one.id)
            if ours:
                self._forget_webhooks(number, {str(one.url) for one in ours})
                # The server forgets with the model which drafts to show. It refuses a version without any.
                with contextlib.suppress(UserError):
                    show_drafts(project, number, version)

    def _forget_webhooks(self, number: int, urls: set[str]) -> None:
        client, call = self.assistant.project.studio.client, self.assistant.project.studio.call
        for hook in call("listing webhooks", client.webhooks.list, project=str(number)):
            if hook.url in {f"{url.rstrip('/')}/webhook" for url in urls}:
                call("taking a webhook away", client.webhooks.delete, hook.id)


async def _tasks_in(request: "Request") -> list[dict[str, Any]] | None:
    """The tasks in a question; None where it is none."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _LARGEST:
            return None
    try:
        asked = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        return None
    tasks = asked.get("tasks") if isinstance(asked, dict) else None
    return tasks if isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks) else None


async def _in_thread(function: Callable[[], list[Answer]]) -> list[Answer]:
    """Run in a thread that nobody waits for at the end of the program."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Answer]] = loop.create_future()

    def done(set_: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_(value)

    def work() -> None:
        try:
            answer = function()
        except Exception as error:  # noqa: BLE001  passed on to whoever waits
            loop.call_soon_threadsafe(done, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(done, future.set_result, answer)

    threading.Thread(target=work, daemon=True).start()
    return await future
