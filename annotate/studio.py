"""A connection to a Label Studio server, whose failures are said in one line.

Nothing here repeats what the server sends back: its error texts echo task data, and its headers hold
a session. Writes are never retried by the library: what a failed write left behind is found out by
listing, so that nothing arrives twice.
"""

import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pride_mm.errors import UserError

Answer = TypeVar("Answer")
TIMEOUT = 300.0  # seconds; a bulk of tasks with annotations takes a few, a busy machine some more
_CONNECTING = 15.0  # seconds; a wrong address may answer nothing at all
_GREETING = "connecting"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unanswered(UserError):
    """No answer came to what was sent, so that it may have arrived or not: find out by listing before sending again."""


@dataclass(frozen=True)
class Studio:
    """A server that knows our token. ``client`` is the SDK's."""

    url: str
    client: Any

    def call(self, doing: str, function: Callable[..., Answer], *args: Any, **given: Any) -> Answer:
        """Call the SDK; a failure becomes a UserError that says what was being done."""
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        try:
            return function(*args, **given)
        except ApiError as error:
            raise self._refused(doing, error.status_code) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise UserError(f"'{self.url}' is not an address; give one like http://127.0.0.1:8080.") from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise UserError(
                f"No Label Studio answers at {self.url} ({doing}). Start one with 'pride label serve', or set "
                "LABEL_STUDIO_URL to where yours is."
            ) from None
        except httpx.HTTPError as error:
            raise Unanswered(
                f"Label Studio at {self.url} stopped answering ({doing}: {type(error).__name__}). Run the same command "
                "again once it is back: what has arrived is not sent twice."
            ) from None

    def read(self, doing: str, path: str, **params: Any) -> Any:
        """GET an object of the API as JSON, past the SDK's models, which take longer to build than to send."""

        return self._json(doing, path, method="GET", params=params)

    def send(self, doing: str, path: str, body: Any, **params: Any) -> Any:
        """POST JSON, once; raises Unanswered where it may have arrived all the same."""
        content, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        return self._json(doing, path, method="POST", params=params, content=content, headers=headers)

    def _json(self, doing: str, path: str, **request: Any) -> Any:
        def answer() -> Any:
            response = self.client._client_wrapper.httpx_client.request(path, **request)
            if response.status_code >= 400:
                raise self._refused(doing, response.status_code)
            try:
                return json.loads(response.content)
            except ValueError:
                raise self._refused(doing, None) from None

        return self.call(doing, answer)

    def _refused(self, doing: str, status: int | None) -> UserError:
        """A proxy may give up on what the server still does, and the server may fail after it has done it."""
        return (Unanswered if (status or 0) >= 500 else UserError)(self._refusal(doing, status))

    def _refusal(self, doing: str, status: int | None) -> str:
        if status == 401:
            return (
                f"Label Studio at {self.url} refuses the token. Copy it anew from Account & Settings into "
                "LABEL_STUDIO_API_KEY, or use --data-dir of the server that 'pride label serve' started."
            )
        if status == 403:
            return f"The owner of the token may not do this at {self.url} ({doing})."
        if status is None or status < 400 or (status == 404 and doing == _GREETING):
            return f"What answers at {self.url} is not Label Studio ({doing})."
        if status == 404:
            return f"Label Studio at {self.url} has not what was asked for ({doing}); was the project deleted?"
        return f"Label Studio at {self.url} failed with HTTP {status} ({doing}); its own log says why."


def connect(url: str, api_key: str, timeout: float | None = None) -> Studio:
    """Connect and make sure that the server is Label Studio and knows the token.

    Args:
        url: where it answers, such as ``http://127.0.0.1:8080``.
        api_key: a legacy token or a personal access token.
        timeout: seconds that an answer may take; by default ``TIMEOUT``.

    Raises:
        UserError: nobody answers, it is another program, or the token is refused.
    """
    import httpx
    from label_studio_sdk.client import LabelStudio

    address = url.strip().rstrip("/")
    try:
        parts = urllib.parse.urlsplit(address)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        named = False
    if not named:
        raise UserError(f"'{url}' is not an address; give one like http://127.0.0.1:8080.")
    # A proxy of the environment must not carry what never leaves the machine.
    timeout = timeout or TIMEOUT
    patience = httpx.Timeout(timeout, connect=min(timeout, _CONNECTING))
    http = httpx.Client(timeout=patience, follow_redirects=True, trust_env=parts.hostname not in LOOPBACK)
    studio = Studio(address, None)

    def greet() -> Studio:
        client = LabelStudio(
            base_url=address, api_key=api_key.strip(), timeout=patience, max_retries=0, httpx_client=http
        )
        return Studio(address, client) if getattr(client.users.whoami(), "email", None) else studio

    try:
        greeted = studio.call(_GREETING, greet)
    except UnicodeEncodeError:
        raise UserError("The token holds characters that no token has; copy it anew.") from None
    if greeted.client is None:
        raise UserError(f"What answers at {address} is not Label Studio.")
    return greeted
