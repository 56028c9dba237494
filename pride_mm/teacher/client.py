"""What all questions to an OpenAI-compatible server share: address, key, patience, and one line where it fails.

Neither the key nor what the server says about an error is ever shown: servers repeat parts of both.
"""

import os
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from pride_mm.errors import UserError

_TIMEOUT = 300.0  # seconds; a large model on a small machine takes its time
_TRIES = 4
_LONGEST_WAIT = 30.0  # seconds
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Client:
    """One model of one server.

    Args:
        url: where the server answers, such as ``http://127.0.0.1:8000/v1``.
        model: the name of its model.
        key: sent to that server only; None where it wants none.
        wait: called with the seconds to wait before trying again.
        timeout: seconds without a word after which the server is asked again.

    Raises:
        UserError: the address or the key is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        wait: Callable[[float], None] = time.sleep,
        timeout: float = _TIMEOUT,
    ) -> None:
        import httpx

        self.url, self.model, self.wait = _address(url), model, wait
        headers = {"Authorization": f"Bearer {key.strip()}"} if key and key.strip() else {}
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise UserError("The API key holds characters that no key has; copy it anew.")
        # A proxy of the environment must not carry what never leaves the machine; a redirect would take the key along.
        self._http = httpx.Client(
            timeout=timeout, headers=headers, follow_redirects=False, trust_env=not self._loopback
        )

    @property
    def _loopback(self) -> bool:
        return urllib.parse.urlsplit(self.url).hostname in _LOOPBACK

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read what is said: it stays on this machine, or is encrypted."""
        return self._loopback or urllib.parse.urlsplit(self.url).scheme == "https"

    def get(self, path: str) -> tuple[int, Any]:
        """Status and answer; what is busy or stumbles is asked again a few times."""
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The same, of the question ``body``, to which the model's name is added."""
        return self._request("POST", path, {"model": self.model, **body})

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        import httpx

        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                response = self._http.request(method, f"{self.url}/{path}", json=body)
            except httpx.ConnectError:
                raise UserError(f"No server answers at {self.url}; is --server right, and does it run?") from None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol):
                raise UserError(f"'{self.url}' is not an address; give one like http://127.0.0.1:8000/v1.") from None
            except httpx.HTTPError as error:
                if last:
                    raise UserError(
                        f"The server at {self.url} stopped answering ({type(error).__name__}). Run the same command "
                        "again once it is back: what is done stays."
                    ) from None
                self.wait(2.0**attempt)
                continue
            if last or not (response.status_code == 429 or response.status_code >= 500):
                break
            self.wait(_pause(response.headers.get("retry-after", ""), attempt))
        try:
            return response.status_code, response.json()
        except ValueError:
            return response.status_code, None

    def refusal(self, status: int, path: str) -> UserError:
        """What a status other than 200 means to whoever gave the command."""
        if status in (401, 403):
            return UserError(
                f"The server at {self.url} refuses the key (HTTP {status}). Set PRIDE_OPENAI_API_KEY, or "
                "OPENAI_API_KEY, to one that may use this model."
            )
        if status == 404:
            missing = path.replace("/", " ")
            return UserError(f"The server at {self.url} has no model '{self.model}', or no {missing}; see --model.")
        if status == 429:
            return UserError(
                f"The server at {self.url} allows no more for now (HTTP 429). Run the same command again later."
            )
        if status in (400, 422):
            return UserError(
                f"The server at {self.url} refuses the question (HTTP {status}); a smaller --max-prompt may help."
            )
        return UserError(f"The server at {self.url} failed with HTTP {status}; its own log says why.")

    def stranger(self) -> UserError:
        """What answers in another form means."""
        return UserError(f"What answers at {self.url} is no OpenAI-compatible server.")


def key_of_environment() -> str | None:
    """The key to whatever server is asked; None where there is none."""
    return os.environ.get("PRIDE_OPENAI_API_KEY") or os.environ.get("OPENAI_API_KEY")


def _address(url: str) -> str:
    given = url.strip().rstrip("/")
    try:
        parts = urllib.parse.urlsplit(given)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.password
    except ValueError:
        good = False
    if not good:
        raise UserError("The server's address is none; give one like http://127.0.0.1:8000/v1, without a password.")
    return given if parts.path else f"{given}/v1"


def _pause(asked: str, attempt: int) -> float:
    try:
        return min(_LONGEST_WAIT, max(0.0, float(asked)))
    except ValueError:
        return float(2.0**attempt)
