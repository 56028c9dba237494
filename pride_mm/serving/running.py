"""A server from its start to its end: where it listens, and how it stops.

Promise: it doesn't listen beyond this machine without a key, unless that is asked for. At SIGTERM, or Ctrl-C, what is
being answered is, what is new is refused, and the program ends with 0; a second signal ends it at once.
"""

import asyncio
import ipaddress
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Protocol

import uvicorn

from pride_mm.errors import UserError
from pride_mm.serving.answerer import Limits

KEY = "PRIDE_API_KEY"


class Door(Protocol):
    """An ASGI application that refuses what is new while it is ``draining``, and counts what is ``at_once``."""

    draining: bool
    at_once: int

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""


class Service(Protocol):
    """What is served: its application, what it takes, and its end."""

    @property
    def app(self) -> Door:
        """What answers."""

    @property
    def limits(self) -> Limits:
        """What it takes."""

    def hang_up(self) -> None:
        """End connections that wait for nothing; called when all that was begun is answered."""

    def close(self) -> None:
        """End its processes and threads."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_key(host: str, key: str | None, insecure: bool) -> None:
    """Refuse to listen to everybody.

    Raises:
        UserError: no key, and others reach this address.
    """
    if not (is_loopback(host) or key or insecure):
        raise UserError(
            f"Others reach {host}, and no key is asked of them: put one in the environment as {KEY}, listen on "
            f"127.0.0.1, or say --insecure."
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: the port is taken, or the address is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        why = f"Nothing can listen at {host}, port {port} ({error.strerror})"
        raise UserError(f"{why}: give another --host or --port.") from None
    return listening


@dataclass(frozen=True)
class Entrance:
    """Where a program listens, and who may come in.

    Attributes:
        listening: a socket that listens.
        url: of what is there, without a slash at its end.
        key: what has to be given; None where nothing is asked for.
        hosts: the names by which it may be called; None for any.
    """

    listening: socket.socket
    url: str
    key: str | None
    hosts: tuple[str, ...] | None


@contextmanager
def entrance(host: str, port: int, insecure: bool) -> Iterator[Entrance]:
    """Listen, with the key that is in the environment; without one, on loopback, only to loopback's own names.

    Raises:
        UserError: as ``check_key`` and ``listen``.
    """
    key = os.environ.get(KEY, "").strip() or None
    check_key(host, key, insecure)
    hosts = ("127.0.0.1", "localhost", "[::1]", host) if key is None and is_loopback(host) else None
    with listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        yield Entrance(listening, f"http://{shown}:{listening.getsockname()[1]}", key, hosts)


class _Program(uvicorn.Server):
    """Uvicorn, which finishes what it has begun before it stops listening."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._gate, self._grace, self._hang_up = service.app, service.limits.seconds, service.hang_up
        self._until = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gate.draining:
            self.force_exit = self.should_exit = True
        self._gate.draining = True
        self._until = time.monotonic() + self._grace

    async def on_tick(self, counter: int) -> bool:
        over = self._gate.draining and (self._gate.at_once == 0 or time.monotonic() > self._until)
        if over:
            self._hang_up()
        return over or await super().on_tick(counter)


def run(
    service: Service, listening: socket.socket, ready: Callable[[], None], lifespan: Literal["on", "off"] = "off"
) -> None:
    """Serve until a signal comes; ``ready`` is called when requests are taken."""
    config = uvicorn.Config(
        service.app,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan=lifespan,
        timeout_graceful_shutdown=5,
    )
    program = _Program(config, service)

    async def serve() -> None:
        serving = asyncio.ensure_future(program.serve(sockets=[listening]))
        while not program.started and not serving.done():
            await asyncio.sleep(0.01)
        ready()
        await serving

    try:
        asyncio.run(serve())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # its processes are ended in peace
        service.close()
