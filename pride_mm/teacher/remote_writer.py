"""A model behind an OpenAI-compatible server as a writer of drafts.

What is asked leaves this process: the text of dialogues goes to that server. Notes of experts never do, since
no question holds any.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from pride_mm.data.conversation import Message
from pride_mm.teacher.client import Client
from pride_mm.teacher.drafting import Said, whole_sentences

_CHARACTERS_A_TOKEN = 3  # on the safe side for Latin script; the server's own limit is beyond it
_PATH = "chat/completions"

# What a server may refuse, left out step by step; the first form it takes is kept.
_FORMS: tuple[Callable[[int], dict[str, Any]], ...] = (
    lambda tokens: {"max_tokens": tokens, "temperature": 0, "logprobs": True},
    lambda tokens: {"max_tokens": tokens, "temperature": 0},
    lambda tokens: {"max_completion_tokens": tokens},
)


class RemoteWriter:
    """Drafts by a server's model.

    Args:
        client: the server and its model.
        limit: tokens of a question, counted roughly.
        max_tokens: tokens of an answer.
    """

    def __init__(self, client: Client, limit: int = 1024, max_tokens: int = 96) -> None:
        self.client, self.limit, self.max_tokens = client, limit, max_tokens
        self._form = 0

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
            status, answer = self.client.post(_PATH, {"messages": list(chat), **_FORMS[self._form](tokens)})
            self._form += status in (400, 422)
        if status in (400, 422):
            self._form = 0
        if status != 200:
            raise self.client.refusal(status, _PATH)
        try:
            choice = answer["choices"][0]
            text = re.sub(r"(?s)^.*</think>", "", choice["message"]["content"] or "").strip()
            tokens_said = (choice.get("logprobs") or {}).get("content") or []
            probabilities = [math.exp(min(0.0, float(token["logprob"]))) for token in tokens_said]
            cut = choice.get("finish_reason") == "length"
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self.client.stranger() from None
        return text, sum(probabilities) / len(probabilities) if probabilities else None, cut


def named_option(text: str, options: Sequence[str]) -> str | None:
    """The one option that a text names as a whole; None where it names none or several."""
    by_name = {option.casefold(): option for option in options}
    bare = text.strip().strip("\"'`*.!").casefold()
    if bare in by_name:
        return by_name[bare]
    longest_first = sorted(map(re.escape, by_name), key=len, reverse=True)
    named = set(re.findall(rf"(?<![\w-])(?:{'|'.join(longest_first)})(?!\w)", text.casefold()))
    return by_name[named.pop()] if len(named) == 1 else None
