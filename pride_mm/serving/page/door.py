"""What stands before every route of the page: who may come in, and to what of all that Gradio can do.

Promise: without the key nothing is read; only what the page itself needs is answered, so nobody has anything fetched,
run or read by a route that it doesn't use; another page in the same browser reaches nothing; the browser loads nothing
from elsewhere.
"""

import base64
import binascii
import hmac
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pride_mm.serving.batching import where
from pride_mm.serving.gate import NOTICE, name_of
from pride_mm.serving.safety import NOT_THERAPY

_log = logging.getLogger("pride.app")
_API = "/gradio_api/"
_READ = re.compile(r"/|/config|/theme\.css|/favicon\.ico|/(assets|static)/[^:]+")
_READ_API = re.compile(r"(heartbeat/\w+|queue/data|upload_progress|startup-events|theme\.css|info)/?")
_WRITTEN_API = re.compile(r"(queue/join|upload|cancel|reset)/?")
_POLICY = (
    "default-src 'self'",
    # Gradio compiles its own events in the browser; nothing comes from elsewhere to be compiled
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' data: blob:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
_HEADERS = {
    NOTICE: NOT_THERAPY,
    "content-security-policy": "; ".join(_POLICY),
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Door:
    """Wraps the page.

    Args:
        app: what answers.
        files: the one folder of which files are shown: what was uploaded and not yet sent.
        key: the password; None where none is asked for.
        hosts: the names by which it may be called, None for any.
        mebibytes: of the largest request.

    ``draining`` refuses what is new; ``at_once`` is how many lines are being answered.
    """

    def __init__(self, app: ASGIApp, files: Path, key: str | None, hosts: Iterable[str] | None, mebibytes: int) -> None:
        self._app, self._key, self._hosts, self._bytes = app, key, hosts, mebibytes << 20
        self._files = f"file={files}/"
        self.draining, self.at_once = False, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        begun, taken = False, 0

        async def tell(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        async def hear() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message if taken <= self._bytes else {"type": "http.disconnect"}

        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, tell)
            return
        try:
            await self._app(scope, hear, tell)
        except Exception as error:  # noqa: BLE001 - whatever it says may hold what was sent
            _log.error("a request failed: %s", where(error))
            if not begun:
                await _said(500, "Something failed here; it is in the log.")(scope, receive, tell)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        """Why a request isn't taken; None where it is."""
        host = headers.get("host", "")
        if self._hosts is not None and name_of(host) not in self._hosts:
            return _said(421, "This page goes by another name.")
        if self._key is not None and not hmac.compare_digest(_password(headers), self._key.encode()):
            asked = {"www-authenticate": 'Basic realm="The password is the key; any name will do", charset="UTF-8"'}
            return _said(401, "The password is the key of whoever runs this page; any name will do.", asked)
        if "origin" in headers and urlsplit(headers["origin"]).netloc != host:
            return _said(403, "Another page may not ask this one.")
        if self.draining:
            return _said(503, "This page is stopping.")
        if not self._is_known(str(scope["method"]), str(scope["path"])):
            return _said(404, "Not found.")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._bytes:
            return _said(413, f"{self._bytes >> 20} MiB are allowed.")
        return None

    def _is_known(self, method: str, path: str) -> bool:
        rest = path.removeprefix(_API)
        if method == "POST":
            return rest != path and _WRITTEN_API.fullmatch(rest) is not None
        if method not in ("GET", "HEAD") or ".." in path:
            return False
        if rest == path:
            return _READ.fullmatch(path) is not None
        return rest.startswith(self._files) or _READ_API.fullmatch(rest) is not None


def _said(status: int, line: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(f"{line}\n", status, headers)


def _password(headers: Headers) -> bytes:
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return b""
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
