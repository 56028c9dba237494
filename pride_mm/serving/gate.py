"""What stands before every route: who may come in, how many at once, and what gets out when something fails.

Promise: without the key nothing is read; past the limits a request is refused before its body is; an error that nobody
expected becomes a 500 without a word of what was sent, in the reply and in the log.
"""

import hmac
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pride_mm.serving import chat
from pride_mm.serving.batching import where
from pride_mm.serving.meters import Meters
from pride_mm.serving.safety import NOT_THERAPY

_log = logging.getLogger("pride.serve")
CHAT, HEALTH, METRICS, MODELS = "/v1/chat/completions", "/health", "/metrics", "/v1/models"
NOTICE = "pride-notice"
_ROUTES = (CHAT, HEALTH, METRICS, MODELS)


class Refusal(Exception):
    """A request that is answered with an error: its status, one line, and headers."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def response(self) -> JSONResponse:
        return JSONResponse(chat.error(self.status, self.message, self.code), self.status, self.headers)


FAILED = Refusal(500, "Something failed here; it is in the log.")


@dataclass
class Gate:
    """Wraps the application.

    Args:
        app: what answers.
        key: the bearer token, None where none is asked for.
        hosts: the names by which it may be called, None for any: a page in a browser could reach loopback by its own.
        concurrent: conversations at once; more are told to come again.
        meters: counts requests.

    ``draining`` refuses what is new; ``at_once`` is how many conversations there are.
    """

    app: ASGIApp
    key: str | None
    hosts: Iterable[str] | None
    concurrent: int
    meters: Meters
    draining: bool = False
    at_once: int = field(default=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, begun, status = str(scope["path"]), time.perf_counter(), ""
        route = next((known for known in _ROUTES if path == known or path.startswith(f"{known}/")), "other")

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message["headers"], (NOTICE.encode(), NOT_THERAPY.encode())]
            await send(message)

        counted = 0
        try:
            self._admit(route, Headers(scope=scope))
            counted = int(route == CHAT)
            self._count(counted)
            await self.app(scope, receive, tell)
        except Refusal as refusal:
            await refusal.response(scope, receive, tell)
        except Exception as error:  # noqa: BLE001 - whatever it says may hold what was sent
            _log.error("%s failed: %s", route, where(error))
            if not status:
                await FAILED.response(scope, receive, tell)
        finally:
            self._count(-counted)
            self.meters.requests.labels(route, status or "none").inc()
            self.meters.seconds.labels(route).observe(time.perf_counter() - begun)

    def _count(self, more: int) -> None:
        self.at_once += more
        self.meters.at_once.set(self.at_once)

    def _admit(self, route: str, headers: Headers) -> None:
        if self.hosts is not None and name_of(headers.get("host", "")) not in self.hosts:
            raise Refusal(421, "This server goes by another name.")
        if self.key is not None and route != HEALTH:
            given = headers.get("authorization", "")
            expected = f"Bearer {self.key}"
            if not hmac.compare_digest(given.encode(), expected.encode()):
                raise Refusal(
                    401,
                    "Give the server's key: Authorization: Bearer KEY.",
                    "invalid_api_key",
                    WWW_Authenticate="Bearer",
                )
        if self.draining and route != METRICS:
            raise Refusal(503, "This server is stopping.", Retry_After="5", Connection="close")
        if route == CHAT and self.at_once >= self.concurrent:
            raise Refusal(429, f"{self.concurrent} conversations at once are served: come again.", Retry_After="1")


def name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
