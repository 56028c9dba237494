"""Requests of many people answered side by side: one thread has the student, and takes what waits.

Promise: an answer is what it would be alone, up to the rounding of another batch; who has gone away, or is late, costs
no further token; whatever fails, fails for its batch, and the thread goes on. Limits: who comes while a batch runs
waits for its end.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal

import torch
from torch import Tensor

from pride_mm.data.batch import move
from pride_mm.data.collate import InputCollator
from pride_mm.schema import Kind, Role
from pride_mm.serving.meters import Meters
from pride_mm.serving.predictor import Predictor, Reading
from pride_mm.serving.request import Request, values_of
from pride_mm.serving.sampling import Choice, Listening, Sampling
from pride_mm.serving.streaming import Spelling

_log = logging.getLogger("pride.serve")
Finish = Literal["stop", "length"]
_LAST = 5.0  # seconds that the end waits for


@dataclass(frozen=True)
class Said:
    """The end of an answer: all of it, why it ended, its tokens, and what the student read in the request."""

    text: str
    finish: Finish
    tokens: int
    reading: Reading


class Late(Exception):
    """The time of a request was over before its answer was."""


class Failed(Exception):
    """The student could not answer; why is in the log."""


Event = str | Said | Late | Failed


@dataclass
class Job:
    """A request on its way.

    Attributes:
        context: token ids of the dialogue.
        media: arrays by field, None where there are none.
        tokens: of the longest answer.
        until: when its time is over, by ``time.monotonic``.
        tell: called in the student's thread with each piece of the answer, and at last with its end.
        gone: set by whoever no longer wants it.
    """

    context: Sequence[int]
    media: Mapping[str, Tensor | None]
    choice: Choice
    tokens: int
    until: float
    tell: Callable[[Event], None]
    gone: bool = field(default=False)


class Batcher:
    """The student's thread, and the queue before it.

    Args:
        predictor: its student answers; nobody else may use it meanwhile.
        batch: how many are answered side by side at most.
        meters: counts batches and those who wait.
    """

    def __init__(self, predictor: Predictor, batch: int, meters: Meters) -> None:
        student = predictor.student
        self.predictor, self.batch, self._meters = predictor, batch, meters
        self._collate = InputCollator(
            predictor.schema, predictor.tokenizer, student.config.system, student.config.max_context
        )
        self._media = predictor.schema.of(Role.INPUT, Kind.VIDEO, Kind.AUDIO)
        ends = student.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends]) - {None}
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="student", daemon=True)
        self._thread.start()

    def context(self, request: Request, system: str) -> tuple[list[int], bool]:
        """The token ids of a request's words, and whether its oldest turns had to be left out."""
        told = "\n".join(part for part in (self._collate.system, system) if part)
        collate = replace(self._collate, system=told, shortened=0)
        ids = collate.context(values_of(request))  # type: ignore[arg-type]
        return ids, bool(collate.shortened)

    def media(self, read: Mapping[str, Any]) -> dict[str, Tensor | None]:
        """What came of uploads, by field, as a job takes it."""
        there = {name: torch.from_numpy(array) for name, array in read.items()}
        return {field.name: there.get(field.name) for field in self._media}

    def put(self, job: Job) -> None:
        """Take a job; its ``tell`` hears the rest."""
        self._queue.put(job)
        self._meters.queue.set(self._queue.qsize())

    def close(self) -> None:
        """End the thread, when it has answered what waits; not for ever."""
        self._queue.put(None)
        self._thread.join(_LAST)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            jobs, last = [first], False
            while len(jobs) < self.batch and not self._queue.empty() and not last:
                job = self._queue.get()
                jobs, last = (jobs, True) if job is None else ([*jobs, job], False)
            self._meters.queue.set(self._queue.qsize())
            self._answer(jobs)
            if last:
                return

    def _answer(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.until <= time.monotonic():
                job.tell(Late())
        jobs = [job for job in jobs if not job.gone and job.until > time.monotonic()]
        if not jobs:
            return
        self._meters.batch.observe(len(jobs))
        try:
            with torch.inference_mode():
                self._generate(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it says may hold what was sent
            _log.error("a batch of %d failed: %s", len(jobs), where(error))
            for job in jobs:
                job.tell(Failed())

    def _generate(self, jobs: Sequence[Job]) -> None:
        joined = self._collate.join([job.context for job in jobs], [job.media for job in jobs])
        inputs: Any = move(joined, self.predictor.device)
        sources = self.predictor.student.encode(inputs)
        readings: list[Reading] = []

        def reading(row: int) -> Reading:
            # when the first answer ends: until then everybody's first words are on their way
            if not readings:
                readings.extend(self.predictor.readings(inputs, sources))
            return readings[row]

        rows = [_Row(job, number, self.predictor.tokenizer, self._ends, reading) for number, job in enumerate(jobs)]
        self.predictor.student.answer(
            inputs,
            max(job.tokens for job in jobs),
            sources,
            logits_processor=[Sampling([job.choice for job in jobs])],
            stopping_criteria=[Listening([row.hear for row in rows])],
        )
        for row in rows:
            row.finish("length")


class _Row:
    """One job in a batch: it hears each of its tokens, and says when there are enough."""

    def __init__(self, job: Job, row: int, tokenizer: Any, ends: set[int], reading: Callable[[int], Reading]) -> None:
        self.job, self.row, self.ends, self.reading = job, row, ends, reading
        self.spelling, self.tokens, self.over = Spelling(tokenizer), 0, False

    def hear(self, token: int) -> bool:
        self.tokens += 1
        if self.job.gone:
            self.over = True
        elif token in self.ends:
            self.finish("stop")
        elif self.job.until <= time.monotonic():
            self.over = True
            self.job.tell(Late())
        else:
            if piece := self.spelling.add(token):
                self.job.tell(piece)
            if self.tokens >= self.job.tokens:
                self.finish("length")
        return self.over

    def finish(self, why: Finish) -> None:
        if self.over:
            return
        self.over = True
        if piece := self.spelling.end():
            self.job.tell(piece)
        self.job.tell(Said(self.spelling.text, why, self.tokens, self.reading(self.row)))


def where(error: BaseException) -> str:
    """An error's kind and where it came from, without what it says: that may be what somebody has sent."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join([type(error).__name__, *(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))])
