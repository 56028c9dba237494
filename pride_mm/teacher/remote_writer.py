"""A model behind an OpenAI-compatible server as a writer of drafts.

What is asked leaves this process: the text of dialogues goes to that server. Notes of experts never do, since
no question holds any. Neither the key nor what the server says about an error is ever shown: servers
repeat parts of both.
"""

import math
import re
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from pride_mm.data.conversation import Message
from pride_mm.errors import UserError
from pride_mm.teacher.drafting import Said, whole_sentences

_TIMEOUT = 300.0  # seconds; a large model on a small machine takes its time
_TRIES = 4
_LONGEST_WAIT = 30.0  # seconds
_CHARACTERS_A_TOKEN = 3  # on the safe side for Latin script; the server's own limit is beyond it
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

# What a server may refuse, left out step by step; the first form it takes is kept.
_FORMS: tuple[Callable[[int], dict[str, Any]], ...] = (
    lambda tokens: {"max_tokens": tokens, "temperature": 0, "logprobs": True},
    lambda tokens: {"max_tokens": tokens, "temperature": 0},
    lambda tokens: {"max_completion_tokens": tokens},
)


class RemoteWriter:
    """Drafts by a server's model.

    Args:
        url: where the server answers, such as ``http://127.0.0.1:8000/v1``.
        model: the name of its model.
        key: sent to that server only; None where it wants none.
        limit: tokens of a question, counted roughly.
        max_tokens: tokens of an answer.
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
        limit: int = 1024,
        max_tokens: int = 96,
        wait: Callable[[float], None] = time.sleep,
        timeout: float = _TIMEOUT,
    ) -> None:
        import httpx

        self.url, self.model, self.limit, self.max_tokens, self.wait = _address(url), model, limit, max_tokens, wait
        self._form = 0
        headers = {"Authorization": f"Bearer {key.strip()}"} if key and key.strip() else {}
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise UserError("The API key holds characters that no key has; copy it anew.")
        # A proxy of the environment must not carry what never leaves the machine; a redirect would take the key along.
        proxies = urllib.parse.urlsplit(self.url).hostname not in _LOOPBACK
        self._http = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False, trust_env=proxies)

    def fits(self, chat: Sequence[Message]) -> bool:
        return sum(len(message["content"]) for message in chat) <= self.limit * _CHARACTERS_A_TOKEN

    def write(self, chat: Sequence[Message]) -> Said:
        """The server's words; what was cut off ends with its last sentence."""
        text, probability, cut = self._ask(chat, self.max_tokens)
        return Said(whole_sentences(text) if cut else text, probability)

    def choose(self, chat: Sequence[Message], options: Sequence[str], blank: Sequence[Message]) -> Said | None:
        """The one option that the answer names; ``blank`` is not needed."""
        text, probability, _ = self._ask(chat, self.max_tokens)
        option = named_option(text, options)
        return None if option is None else Said(option, probability)

    def _ask(self, chat: Sequence[Message], tokens: int) -> tuple[str, float | None, bool]:
        """The answer, the mean probability of its tokens, and whether it was cut off."""
        status = 400
        answer: Any = None
        while status in (400, 422) and self._form < len(_FORMS):
            status, answer = self._post({"model": self.model, "messages": list(chat), **_FORMS[self._form](tokens)})
            self._form += status in (400, 422)
        if status in (400, 422):
            self._form = 0
        if status != 200:
            raise UserError(self._refusal(status))
        try:
            choice = answer["choices"][0]
            text = re.sub(r"(?s)^.*</think>", "", choice["message"]["content"] or "").strip()
            tokens_said = (choice.get("logprobs") or {}).get("content") or []
            probabilities = [math.exp(min(0.0, float(token["logprob"]))) for token in tokens_said]
            cut = choice.get("finish_reason") == "length"
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise UserError(f"What answers at {self.url} is no OpenAI-compatible server.") from None
        return text, sum(probabilities) / len(probabilities) if probabilities else None, cut

    def _post(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and answer; what is busy or stumbles is asked again a few times."""
        import httpx

        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                response = self._http.post(f"{self.url}/chat/completions", json=body)
            except httpx.ConnectError:
                raise UserError(f"No server answers at {self.url}; is --server right, and does it run?") from None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol):
                raise UserError(f"'{self.url}' is not an address; give one like http://127.0.0.1:8000/v1.") from None
            except httpx.HTTPError as error:
                if last:
                    raise UserError(
                        f"The server at {self.url} stopped answering ({type(error).__name__}). Run the same command "
                        "again once it is back: what is drafted stays."
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

    def _refusal(self, status: int) -> str:
        if status in (401, 403):
            return (
                f"The server at {self.url} refuses the key (HTTP {status}). Set PRIDE_OPENAI_API_KEY, or "
                "OPENAI_API_KEY, to one that may use this model."
            )
        if status == 404:
            return f"The server at {self.url} has no model '{self.model}', or no chat completions; see --model."
        if status == 429:
            return f"The server at {self.url} allows no more for now (HTTP 429). Run the same command again later."
        if status in (400, 422):
            return f"The server at {self.url} refuses the question (HTTP {status}); a smaller --max-prompt may help."
        return f"The server at {self.url} failed with HTTP {status}; its own log says why."


def named_option(text: str, options: Sequence[str]) -> str | None:
    """The one option that a text names as a whole; None where it names none or several."""
    by_name = {option.casefold(): option for option in options}
    bare = text.strip().strip("\"'`*.!").casefold()
    if bare in by_name:
        return by_name[bare]
    longest_first = sorted(map(re.escape, by_name), key=len, reverse=True)
    named = set(re.findall(rf"(?<![\w-])(?:{'|'.join(longest_first)})(?!\w)", text.casefold()))
    return by_name[named.pop()] if len(named) == 1 else None


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
