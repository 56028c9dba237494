"""Files behind a URL, read by fsspec: in ranges, again where a request fails, with errors that say what to do.

Which credentials are used is fsspec's business and the environment's; none is shown here, nor is a server's own
message, which may hold some.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pride_mm.errors import UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from pride_mm.data.storage import ReadSettings

Range = tuple[int, int]
_AT_ONCE = 32
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_S3 = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a bucket that is open to all "
    "FSSPEC_S3_ANON=true; for a server that isn't Amazon's AWS_ENDPOINT_URL"
)
_GS = "set GOOGLE_APPLICATION_CREDENTIALS; for a bucket that is open to all FSSPEC_GS_TOKEN=anon"
_CREDENTIALS = {"s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS}


class NoRangesError(Exception):
    """The server gave a whole file where a part was asked for; ``data`` is that file."""

    def __init__(self, data: bytes) -> None:
        super().__init__("the server knows no ranges")
        self.data = data


class Remote:
    """A folder behind a URL.

    Threads may share it, and a forked process may go on with it: each process has its own connections.

    Args:
        url: ``s3://``, ``gs://``, ``http://``, ``https://`` or what else fsspec knows.
        settings: time-outs and retries.

    ``ranged`` says whether the server gives parts of files; None before anything is known.

    Raises:
        UserError: the URL is none that can be read here.
    """

    def __init__(self, url: str, settings: "ReadSettings") -> None:
        parts = urlsplit(url)
        self.place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        if parts.query or parts.fragment:
            raise UserError(f"{self.place}: give the URL of the folder of shards, without '?' and '#'.")
        self._url, self._settings = url.rstrip("/"), settings
        self._systems: dict[int, AbstractFileSystem] = {}
        self.ranged: bool | None = None
        self._system()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_systems": {}}

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file, None where there is none; raises UserError where it cannot be read."""
        try:
            return self._fetch(name, [None])[0]
        except FileNotFoundError:
            return None

    def ranges(self, name: str, ranges: Sequence[Range]) -> list[bytes]:
        """Parts of a file, each from its first byte to before its second.

        Raises:
            FileNotFoundError: there is no such file.
            NoRangesError: the server gives only whole files.
            UserError: it cannot be read, or is shorter.
        """
        if self.ranged is None and len(ranges) > 1:
            return [*self.ranges(name, ranges[:1]), *self.ranges(name, ranges[1:])]
        try:
            found = self._fetch(name, ranges)
        except NoRangesError:
            self.ranged = False
            raise
        self.ranged = True
        return found

    def _fetch(self, name: str, ranges: Sequence[Range | None]) -> list[bytes]:
        got: dict[int, bytes] = {}
        failures = 0
        while left := [number for number in range(len(ranges)) if number not in got]:
            trouble: Exception | None = None
            for number, answer in zip(left, self._ask(name, [ranges[n] for n in left]), strict=True):
                found = _whole(answer, ranges[number])
                if isinstance(found, bytes):
                    got[number], failures = found, 0
                else:
                    trouble = found
            if trouble is not None:
                failures += 1
                self._judge(name, trouble, failures)
        return [got[number] for number in range(len(ranges))]

    def _ask(self, name: str, ranges: Sequence[Range | None]) -> list[bytes | Exception]:
        starts, ends = zip(*(span or (None, None) for span in ranges), strict=True)
        try:
            path = [f"{self._url}/{name}"] * len(ranges)
            answers: list[bytes | Exception] = self._system().cat_ranges(path, list(starts), list(ends))
        except _passing() as error:
            return [error] * len(ranges)
        return answers

    def _judge(self, name: str, trouble: Exception, failures: int) -> None:
        """Wait before another try, or raise what cannot be mended by one."""
        status, kind = getattr(trouble, "status", None), type(trouble).__name__
        file, scheme = f"{self.place}/{name}", self.place.partition(":")[0]
        if isinstance(trouble, FileNotFoundError):
            if _code(trouble) == "NoSuchBucket":
                bucket = urlsplit(self.place).netloc
                raise UserError(f"There is no bucket '{bucket}' ({self.place}): check the name, or where {_S3}.")
            raise trouble
        if isinstance(trouble, PermissionError) or status in (401, 403) or "Credentials" in kind:
            how = _CREDENTIALS.get(scheme, "ask whoever runs the server")
            raise UserError(f"{file} may not be read, the server refuses it: {how}.") from None
        if not isinstance(trouble, _passing()):
            raise trouble
        if failures > self._settings.retries:
            why = str(trouble) if isinstance(trouble, _ShortAnswerError) else kind
            raise UserError(
                f"{file} could not be read, tried {failures} times ({why}): check the network and the address, then "
                f"run the same again; what has already come is kept."
            ) from None
        time.sleep(min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE))

    def _system(self) -> "AbstractFileSystem":
        # connections don't live through a fork, and the parent's must not be closed by the child: they are kept
        system = self._systems.get(os.getpid())
        if system is None:
            system = self._systems[os.getpid()] = self._connect()
        return system

    def _connect(self) -> "AbstractFileSystem":
        from fsspec import filesystem

        scheme = urlsplit(self._url).scheme
        try:
            system = filesystem(scheme, skip_instance_cache=True, **_options(scheme, self._settings.timeout))
        except ImportError:
            raise UserError(
                f"{self.place}: reading {scheme}:// needs a package: pip install {_package(scheme)}"
            ) from None
        except ValueError:
            raise UserError(f"{self.place}: nothing here reads {scheme}://; give a folder or a URL.") from None
        system.retries = 1  # one place counts the tries: this one
        system.batch_size = _AT_ONCE
        return system


class _ShortAnswerError(OSError):
    """Fewer bytes came than were asked for."""


def _whole(answer: bytes | Exception, span: Range | None) -> bytes | Exception:
    if isinstance(answer, Exception) or span is None or len(answer) == span[1] - span[0]:
        return answer
    if len(answer) > span[1] - span[0]:
        raise NoRangesError(answer)
    return _ShortAnswerError(f"{len(answer):,} bytes came where {span[1] - span[0]:,} were asked for")


def _options(scheme: str, timeout: float) -> dict[str, Any]:
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        wait = ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        # a compressed answer has no ranges of the file
        return {"client_kwargs": {"timeout": wait, "trust_env": True}, "headers": {"Accept-Encoding": "identity"}}
    if scheme in ("s3", "s3a"):
        once = {"total_max_attempts": 1}
        waits = {"connect_timeout": timeout, "read_timeout": timeout}
        return {"config_kwargs": {**waits, "retries": once, "max_pool_connections": _AT_ONCE}}
    if scheme in ("gs", "gcs"):
        return {"timeout": timeout}
    return {}


def _package(scheme: str) -> str:
    return {"s3": "'pride-mm[s3]'", "s3a": "'pride-mm[s3]'", "gs": "gcsfs", "gcs": "gcsfs"}.get(scheme, f"{scheme}fs")


def _code(error: Exception) -> str:
    response = getattr(error.__cause__, "response", None)
    return str(response["Error"].get("Code", "")) if response else ""


def _passing() -> tuple[type[Exception], ...]:
    """What may go away by itself: errors of the network and of servers. Everything else is a bug of ours."""
    named = (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "HTTPClientError"),
        ("gcsfs.retry", "HttpError"),
    )
    # what isn't imported has raised nothing
    return OSError, EOFError, *(getattr(sys.modules[module], name) for module, name in named if module in sys.modules)
