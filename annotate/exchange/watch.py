"""Annotations kept current in a file while experts work.

Label Studio's webhooks are hints: sent once, never again, given up after a second. So a hint is answered at
once and pulled after, and a pull every now and then finds what no hint told. Hints come to 127.0.0.1 with
a secret; a server on another machine cannot reach that and is only asked now and then.
"""

import hashlib
import hmac
import json
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from annotate.server.local import HOST, answers, free_port
from annotate.studio import LOOPBACK, Studio
from pride_mm.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette

PATH = "/pride-watch"
HEADER = "X-Pride-Secret"
EVERY = 60.0  # seconds between pulls without a hint
_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_DELETED")
_SETTLE = 0.3  # seconds; the hint is sent from within the request, and several often come together
_AGAIN = 2.0  # seconds; a hint that came before the server had written everything

Tell = Callable[[str], None]
Known = dict[tuple[str, str, str], frozenset[bytes]]
"""What was said, as a digest, by item, origin and annotator."""


class Hints:
    """Where hints arrive: a small web server on loopback, as a context manager."""

    def __init__(self) -> None:
        self.secret = secrets.token_urlsafe(24)
        self.port = free_port()
        self.arrived = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}{PATH}"

    def app(self) -> "Starlette":
        """Takes POSTs with the secret; reads no body, so that nothing of a note is ever here."""
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

        async def hint(request: Request) -> Response:
            if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), self.secret.encode()):
                return Response(status_code=403)
            self.arrived.set()
            return Response(status_code=204)

        return Starlette(routes=[Route(PATH, hint, methods=["POST"])])

    @contextmanager
    def served(self) -> Iterator[None]:
        """Answer hints in a thread until the block ends."""
        import uvicorn

        config = uvicorn.Config(
            self.app(), host=HOST, port=self.port, log_config=None, access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="hints", daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise UserError(f"Port {self.port} was taken before hints could come there; run it again.")
                time.sleep(0.02)
            yield
        finally:
            server.should_exit = True
            thread.join(5)


class Watch:
    """Keeps a file of annotations current.

    Args:
        studio: the server.
        numbers: the server's numbers of the projects to be told of; asked again, since parts appear later.
        pull: brings ``out`` up to date, replacing it whole.
        out: the file, JSON lines.
        tell: called with a line for each change: the item, the annotator's pseudonym, no note's text.
        every: seconds between pulls without a hint.
    """

    def __init__(
        self,
        studio: Studio,
        numbers: Callable[[], Sequence[int]],
        pull: Callable[[], object],
        out: Path,
        tell: Tell,
        every: float = EVERY,
    ) -> None:
        self._studio, self._numbers, self._pull = studio, numbers, pull
        self._out, self._tell, self._every = out, tell, every
        self._hints = Hints()
        self._hooks: dict[int, int] = {}
        self._known: Known = {}
        self._lost = False

    def run(self, stop: threading.Event | None = None) -> None:
        """Pull, then pull on every hint and every now and then, until ``stop`` is set or Ctrl-C.

        Raises:
            UserError: the first pull failed; later failures are told, and tried again.
        """
        stop = stop or threading.Event()
        self._pull()
        self._known = _known(self._out)
        self._tell(f"{sum(map(len, self._known.values()))} annotations -> {self._out}")
        if urllib.parse.urlsplit(self._studio.url).hostname not in LOOPBACK:
            self._tell(
                f"{self._studio.url} is another machine, which cannot send hints here: asked every {self._every:.0f} s"
            )
            self._loop(stop)
            return
        with self._hints.served():
            try:
                self._loop(stop)
            finally:
                self._forget()

    def _loop(self, stop: threading.Event) -> None:
        here = urllib.parse.urlsplit(self._studio.url).hostname in LOOPBACK
        due = 0.0
        while not stop.is_set():
            hinted = self._hints.arrived.wait(min(0.5, max(0.0, due - time.monotonic())))
            if not hinted and time.monotonic() < due:
                continue
            if hinted:
                time.sleep(_SETTLE)
                self._hints.arrived.clear()
            try:
                if here:
                    self._register()
                self._pull()
                self._say_what_changed()
            except UserError as error:
                if not self._lost:
                    self._tell(f"{error} Trying again.")
                self._lost = True
            else:
                if self._lost:
                    self._tell("Label Studio answers again")
                self._lost = False
            due = time.monotonic() + (_AGAIN if hinted or self._lost else self._every)

    def _say_what_changed(self) -> None:
        before, self._known = self._known, _known(self._out)
        for key in sorted(before.keys() | self._known.keys()):
            if before.get(key) != self._known.get(key):
                what = "added" if key not in before else "changed" if key in self._known else "gone"
                self._tell(f"{key[0]}  {key[2]}  {what}")

    def _register(self) -> None:
        """Ask to be told of the parts we aren't told of yet, and clear away what a killed watch left behind."""
        client = self._studio.client
        hooks = self._studio.call("listing webhooks", client.webhooks.list)
        there = {hook.id for hook in hooks}
        self._hooks = {part: hook for part, hook in self._hooks.items() if hook in there}
        for hook in hooks:
            parts = urllib.parse.urlsplit(str(hook.url))
            if parts.path == PATH and hook.id not in self._hooks.values() and not answers(parts.port or 0):
                self._studio.call("removing a webhook", client.webhooks.delete, id=hook.id)
        for part in self._numbers():
            if part not in self._hooks:
                made = self._studio.call(
                    "adding a webhook", client.webhooks.create, project=part, url=self._hints.url, send_payload=False,
                    send_for_all_actions=False, actions=list(_ACTIONS), headers={HEADER: self._hints.secret},
                )  # fmt: skip
                self._hooks[part] = made.id

    def _forget(self) -> None:
        for hook in self._hooks.values():
            with suppress(UserError):  # the server is gone: the next watch clears it away
                self._studio.call("removing a webhook", self._studio.client.webhooks.delete, id=hook)
        self._hooks = {}


def _known(path: Path) -> Known:
    found: dict[tuple[str, str, str], set[bytes]] = {}
    with path.open("rb") as file:
        for line in file:
            record = json.loads(line)
            key = (record["item"], record["origin"], record["annotator"])
            found.setdefault(key, set()).add(hashlib.sha256(line).digest())
    return {key: frozenset(digests) for key, digests in found.items()}
