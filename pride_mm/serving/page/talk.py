"""A conversation on the page: what is said goes to one student, or to two, each of whom hears its own answers only.

Promise: which of two students stands on the left is drawn anew for each conversation, by the system's entropy. A line
that fails for one of them was said to none. Nothing is kept but in memory.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pride_mm.errors import UserError
from pride_mm.schema import Kind, Turn
from pride_mm.serving.answerer import Answerer, Asking
from pride_mm.serving.batching import Failed, Late, Said
from pride_mm.serving.conversation import STUDENT, USER
from pride_mm.serving.page.votes import Vote
from pride_mm.serving.predictor import Reading
from pride_mm.serving.request import Request, read_request
from pride_mm.serving.uploads import Upload

_chance = random.SystemRandom()


@dataclass(frozen=True)
class Partner:
    """Whom one talks to: a student, the name of its artifact, and the SHA-256 of each file of weights."""

    name: str
    weights: Mapping[str, str]
    answerer: Answerer


@dataclass
class Side:
    """One partner's side of a conversation.

    Attributes:
        turns: what was said, by both.
        saying: what it is saying, as far as it has come.
        reading: what it read in the last line; None before the first.
    """

    partner: Partner
    turns: tuple[Turn, ...] = ()
    saying: str = ""
    reading: Reading | None = None


@dataclass
class Talk:
    """One conversation.

    Attributes:
        sides: as they are shown, from left to right.
        shown: what each line of the person came with, such as ``a clip``; empty for nothing.
        saying: the line that is being answered.
        vote: what was preferred; nothing can be said after it.
    """

    sides: tuple[Side, ...]
    shown: list[str] = field(default_factory=list)
    saying: str | None = None
    vote: Vote | None = None

    @classmethod
    def between(cls, partners: Sequence[Partner]) -> "Talk":
        """A new conversation, its partners in an order of chance."""
        return cls(tuple(Side(partner) for partner in _chance.sample(partners, len(partners))))

    async def say(
        self, line: str, uploads: Mapping[Kind, Upload], values: Mapping[str, Any]
    ) -> AsyncGenerator[None, None]:
        """Say one line; yields whenever a side has said more, and at last when each has said all.

        Args:
            line: words; may be empty where there are uploads.
            uploads: a clip or a sound.
            values: other inputs; each student is given those that it takes.

        Raises:
            UserError: what cannot be read, or that the answer came too late; the line was not said then.
        """
        self._check(line, uploads)
        self.saying = line
        self.shown.append(_named(uploads))
        askings: list[Asking] = []
        try:
            yield
            askings = await self._ask(line, uploads, values)
            readings: dict[int, Reading] = {}
            async for number, event in _merged(askings):
                if isinstance(event, Said):
                    self.sides[number].saying, readings[number] = event.text, event.reading
                else:
                    self.sides[number].saying += event
                yield
            for number, side in enumerate(self.sides):
                said = (Turn(speaker=USER, text=line), Turn(speaker=STUDENT, text=side.saying))
                # a turn without a word is none: the student has learnt from no such
                side.turns = (*side.turns, *(turn for turn in said if turn.text or turn.speaker == USER))
                side.reading = readings[number]
            self.saying = None
        finally:
            if self.saying is not None:
                self.saying = None
                self.shown.pop()
            for asking in askings:
                asking.job.gone = True
            for side in self.sides:
                side.saying = ""
        yield

    def _check(self, line: str, uploads: Mapping[Kind, Upload]) -> None:
        if self.vote is not None:
            raise UserError("This conversation has your vote: begin a new one.")
        if self.saying is not None:
            raise UserError("Your last line is being answered: wait for the end.")
        if not (line.strip() or uploads):
            raise UserError("Say something first.")
        for side in self.sides:
            given = sum(len(turn.text) for turn in side.turns) + len(line)
            allowed = side.partner.answerer.decoders.limits.characters
            if given > allowed:
                raise UserError(f"The conversation has {given:,} characters; {allowed:,} are allowed. Begin a new one.")

    async def _ask(self, line: str, uploads: Mapping[Kind, Upload], values: Mapping[str, Any]) -> list[Asking]:
        until = time.monotonic() + self.sides[0].partner.answerer.decoders.limits.seconds
        requests = [_request(side, line, values) for side in self.sides]
        answerers = [side.partner.answerer for side in self.sides]
        hearing = [one.hear(request, uploads, any_part=True) for one, request in zip(answerers, requests, strict=True)]
        heard = await asyncio.gather(*hearing)
        if uploads and not any(one.media or one.referral for one in heard):
            raise UserError(f"There is nothing in {_named(uploads)} that is taken here.")
        return [await one.ask(what, until) for one, what in zip(answerers, heard, strict=True)]


def _request(side: Side, line: str, values: Mapping[str, Any]) -> Request:
    predictor = side.partner.answerer.predictor
    turns = (*side.turns, Turn(speaker=USER, text=line))
    given = {name: value for name, value in values.items() if name in {one.name for one in predictor.schema.inputs}}
    dialogue = [turn.model_dump() for turn in turns]
    return read_request(predictor.request, {**given, predictor.schema.dialogue.name: dialogue})


def _named(uploads: Mapping[Kind, Upload]) -> str:
    return "a clip" if Kind.VIDEO in uploads else "a sound" if uploads else ""


async def _merged(askings: Sequence[Asking]) -> AsyncIterator[tuple[int, str | Said]]:
    """The events of all answers as they come, each with the number of its answer."""
    waiting = {asyncio.ensure_future(asking.events.get()): number for number, asking in enumerate(askings)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                number, event = waiting.pop(future), future.result()
                if isinstance(event, Late):
                    raise UserError("The answer took too long: try again.")
                if isinstance(event, Failed):
                    raise UserError("The student could not answer; why is in the program's log.")
                if not isinstance(event, Said):
                    waiting[asyncio.ensure_future(askings[number].events.get())] = number
                yield number, event
    finally:
        for future in waiting:
            future.cancel()
