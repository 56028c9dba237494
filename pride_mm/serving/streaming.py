"""Text while it is made: ``generate`` runs in a thread, and hands over what its tokens spell so far.

Promise: the pieces joined are what the whole answer would be; a character of several tokens comes when it is whole. Who
stops reading, stops the generation; what it raises, the reader gets. Limit: bytes that are no UTF-8 may
change how a text before them is spelt, and what was said stays.
"""

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any

from transformers.generation.streamers import BaseStreamer

_HALF = "\ufffd"  # what the first bytes of a character are spelt as, until its last comes


class _Stopped(Exception):
    """Nobody reads any more."""


class Spelling:
    """Tokens in, pieces of text out. transformers' own gives words, and drops what the next token makes of a space."""

    def __init__(self, tokenizer: Any) -> None:
        self.text = ""
        self._tokenizer, self._ids = tokenizer, list[int]()

    def add(self, token: int) -> str:
        """What one token more makes certain; often nothing."""
        self._ids.append(token)
        return self._more(self._spelt().rstrip(_HALF).rstrip())  # spaces wait: an answer ends with none

    def end(self) -> str:
        """What is left when nothing comes any more."""
        return self._more(self._spelt())

    def _spelt(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True)).strip()

    def _more(self, text: str) -> str:
        if len(text) <= len(self.text):
            return ""
        piece, self.text = text[len(self.text) :], text
        return piece


class _Pieces(BaseStreamer):
    """What ``generate`` tells of a single row, to a queue."""

    def __init__(self, tokenizer: Any) -> None:
        self.queue: SimpleQueue[str | BaseException | None] = SimpleQueue()
        self.stopped = False
        self._spelling, self._in_prompt = Spelling(tokenizer), True

    def put(self, value: Any) -> None:
        """One token more; the first call brings the prompt."""
        if self.stopped:
            raise _Stopped
        if not self._in_prompt:
            for token in value.flatten().tolist():
                self._say(self._spelling.add(token))
        self._in_prompt = False

    def end(self) -> None:
        """Nothing comes any more."""
        self._say(self._spelling.end())

    def _say(self, piece: str) -> None:
        if piece:
            self.queue.put(piece)


def pieces(generate: Callable[[BaseStreamer], Any], tokenizer: Any) -> Iterator[str]:
    """What ``generate`` makes with the streamer that it is given, piece by piece."""
    made = _Pieces(tokenizer)

    def work() -> None:
        try:
            generate(made)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised where the text is read
            made.queue.put(error)
        finally:
            made.queue.put(None)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while (piece := made.queue.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        made.stopped = True
        thread.join()
