"""A talk with a student: the turns so far, and the clip shown with the next line."""

from collections.abc import Iterator
from pathlib import Path

from pride_mm.errors import UserError
from pride_mm.media import MediaError, probe
from pride_mm.schema import Kind, Media, Role, Turn, Value
from pride_mm.serving.predictor import Answer, Predictor, Reading
from pride_mm.serving.request import Request

USER, STUDENT = "you", "student"


class Conversation:
    """Keeps what was said; nothing is written anywhere.

    Args:
        predictor: answers.
        max_new_tokens: the longest answer.
    """

    def __init__(self, predictor: Predictor, max_new_tokens: int = 64) -> None:
        self.predictor, self.max_new_tokens = predictor, max_new_tokens
        self.turns: tuple[Turn, ...] = ()
        self._media: dict[str, Value] = {}
        self._asked: Request | None = None

    def reset(self) -> None:
        """Forget everything."""
        self.turns, self._media, self._asked = (), {}, None

    def attach(self, path: Path) -> list[str]:
        """Show a clip or a sound with the next line; returns the inputs it serves.

        Raises:
            UserError: no such file, not media, or media that this student takes no notice of.
        """
        if not path.is_file():
            raise UserError(f"No file at {path}.")
        try:
            info = probe(path)
        except MediaError as error:
            raise UserError(f"{path.name} cannot be read: {error}.") from None
        has = {Kind.VIDEO: info.video is not None, Kind.AUDIO: info.audio is not None}
        fields = [field for field in self.predictor.schema.of(Role.INPUT, *has) if has[field.kind]]
        if not fields:
            taken = ", ".join(field.label for field in self.predictor.schema.of(Role.INPUT, *has)) or "words only"
            raise UserError(f"{path.name} has nothing that this student takes in (it takes: {taken}).")
        self._media = {field.name: Media(path=str(path)) for field in fields}
        return [field.label for field in fields]

    def say(self, line: str) -> Answer:
        """Say one line; line and answer become part of the talk, the clip does not."""
        request, turns = self._ask(line)
        answer = self.predictor.answer(request, self.max_new_tokens)
        self._keep(turns, answer.text)
        return answer

    def stream(self, line: str) -> Iterator[str]:
        """As ``say``, the answer in pieces as it is made. What was made of it is kept where it is broken off."""
        request, turns = self._ask(line)
        said = ""
        try:
            for piece in self.predictor.stream(request, self.max_new_tokens):
                said += piece
                yield piece
        finally:
            self._keep(turns, said)

    def read(self) -> Reading | None:
        """What the student reads in the last line, with what was before it and its clip; None before the first."""
        return None if self._asked is None else self.predictor.read(self._asked)

    def _ask(self, line: str) -> tuple[Request, tuple[Turn, ...]]:
        turns = (*self.turns, Turn(speaker=USER, text=line))
        values = {self.predictor.schema.dialogue.name: turns, **self._media}
        self._media = {}  # also where it cannot be read: the next line must not fail for it
        request = self.predictor.request.model_validate(values)
        self._asked = request
        return request, turns

    def _keep(self, turns: tuple[Turn, ...], text: str) -> None:
        self.turns = (*turns, Turn(speaker=STUDENT, text=text)) if text else turns
