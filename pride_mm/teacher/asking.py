"""What a teacher is asked, and what becomes of its answers.

Each lesson says what was asked for it. Tars that a stopped run left behind, or that stand beside shards that did not
change, are read first: what would be asked in the same words again is not asked.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from pride_mm.data.conversation import response_ids
from pride_mm.data.shards import Sample
from pride_mm.data.tar import index_tar, read_members
from pride_mm.data.teaching import MEMBER, Lesson
from pride_mm.data.vocabularies import token_starts
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.progress import Progress
from pride_mm.schema import Frozen
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import AnyTeacher
from pride_mm.teacher.senses import Question

GAIN_SAMPLES = 32
_SHOWN_AT_ONCE = 32
"""Samples whose clips and sounds are decoded before the first of them is asked about."""
NotesRead = Literal["given", "none", "shuffled"]


class Counts(Frozen):
    """What was scored. ``with_notes`` counts samples of which the teacher had read at least one note; ``kept`` those
    whose lesson was there already; ``response_tokens`` what the lessons are about.
    """

    samples: int
    scored: int
    written: int
    with_notes: int
    kept: int
    tokens: int
    response_tokens: int
    prompts_shortened: int
    responses_cut: int

    def __add__(self, other: "Counts") -> "Counts":
        mine, theirs = self.model_dump(), other.model_dump()
        return Counts(**{name: count + theirs[name] for name, count in mine.items()})


class Gain(Frozen):
    """What the notes are worth to the teacher: nats a token that they make the experts' responses likelier by.

    Measured on the first ``samples`` of the train split that have notes and an expert's response.
    """

    nats: float
    samples: int
    tokens: int


@dataclass(frozen=True)
class Asker:
    """All that is the same in every question of a run. ``weights`` is their SHA-256, or what is known of a server."""

    weights: str
    tokenizer: str
    top_k: int
    fp8: bool
    max_response: int

    def asked(self, question: Question, response: Sequence[int] | None) -> str:
        """SHA-256 of a question: its words, what is shown with them, and either this response or to write one."""
        about = [*vars(self).values(), question.ids, None if response is None else list(response)]
        about += [question.sha256()] if question.shown else []
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()


@dataclass(frozen=True)
class _Task:
    """A sample to be asked about; ``response`` is None where the teacher is to write it."""

    sample: Sample
    question: Question
    response: list[int] | None
    asked: str

    @property
    def length(self) -> int:
        return len(self.question.ids) + len(self.response or ())


class Asking:
    """The samples of one ``teach``, shard by shard."""

    def __init__(
        self,
        teacher: AnyTeacher,
        prompt: Prompt,
        asker: Asker,
        bad: BadSamples,
        total: int,
        write_missing: bool,
        batch_size: int,
        progress: Progress,
    ) -> None:
        self.teacher, self.prompt, self.bad, self.progress = teacher, prompt, bad, progress
        self.asker, self.write_missing, self.batch_size = asker, write_missing, batch_size
        self.response, self.total = prompt.schema.response.name, total
        self.done = self.scored = self.written = self.noted = self.kept = 0
        self.tokens = self.response_tokens = self.cut = 0

    def counts(self) -> Counts:
        """Of what was done so far."""
        return Counts(
            samples=self.total,
            scored=self.scored,
            written=self.written,
            with_notes=self.noted,
            kept=self.kept,
            tokens=self.tokens,
            response_tokens=self.response_tokens,
            prompts_shortened=self.prompt.shortened,
            responses_cut=self.cut,
        )

    def lessons(self, samples: Sequence[Sample], split: str, before: Mapping[str, Lesson]) -> dict[str, Lesson]:
        """The lesson of every sample, as ``before`` where the same was asked; empty where nothing is to score."""
        lessons = {sample.key: _empty(self.teacher.width) for sample in samples}
        size = _SHOWN_AT_ONCE if self.teacher.shown else max(1, len(samples))
        for start in range(0, len(samples), size):
            self._ask(samples[start : start + size], split, before, lessons)
        return lessons

    def _ask(
        self, samples: Sequence[Sample], split: str, before: Mapping[str, Lesson], lessons: dict[str, Lesson]
    ) -> None:
        tasks: list[_Task] = []
        for sample in samples:
            text = sample.targets.get(self.response)
            if text is None and not (self.write_missing and split == "train"):
                continue
            with self.bad.counting():
                question = self.prompt.question(sample, self.teacher.read)
                response = None if text is None else self._ids(str(text))
                task = _Task(sample, question, response, self.asker.asked(question, response))
                old = before.get(sample.key)
                if old is not None and old.asked == task.asked:
                    self.kept += 1
                    self._take(task, old, lessons)
                else:
                    tasks.append(task)
        self._tick(len(samples) - len(tasks))
        for batch in _batches([task for task in tasks if task.response is not None], self.batch_size):
            self._score(batch, [task.response or [] for task in batch], lessons)
        # writing waits for the weights, not for arithmetic: more rows side by side cost next to nothing
        for batch in _batches([task for task in tasks if task.response is None], 4 * self.batch_size):
            responses = self.teacher.write([task.question for task in batch], self.asker.max_response)
            self._score(batch, responses, lessons)

    def _ids(self, text: str) -> list[int]:
        ids, cut = response_ids(self.teacher.tokenizer, text, self.asker.max_response)
        self.cut += cut
        return ids

    def _score(self, batch: Sequence[_Task], responses: Sequence[list[int]], lessons: dict[str, Lesson]) -> None:
        written = [task.response is None for task in batch]
        scored = self.teacher.score([task.question for task in batch], responses, written)
        for task, lesson in zip(batch, scored, strict=True):
            self.tokens += len(task.question.ids) + len(lesson.response_ids)
            self._take(task, replace(lesson, asked=task.asked), lessons)
        self._tick(len(batch))

    def _take(self, task: _Task, lesson: Lesson, lessons: dict[str, Lesson]) -> None:
        lessons[task.sample.key] = self._spelt(task, lesson)
        self.scored += 1
        self.written += lesson.written
        self.noted += bool(task.sample.privileged)
        self.response_tokens += len(lesson.response_ids)

    def _spelt(self, task: _Task, lesson: Lesson) -> Lesson:
        """With what a student of another tokenizer needs: where the tokens begin, and the text that was written."""
        tokenizer, ids = self.teacher.tokenizer, lesson.response_ids.tolist()
        text = tokenizer.decode(ids, skip_special_tokens=True).strip() if lesson.written else ""
        starts = token_starts(tokenizer, ids, text or str(task.sample.targets.get(self.response, "")))
        return replace(lesson, starts=torch.tensor(starts), text=text)

    def gain(self, heard: Sequence[tuple[Sample, Lesson]]) -> Gain | None:
        """What the notes of these samples were worth to these lessons; None where there is none."""
        blind = [
            _Task(
                sample,
                self.prompt.question(replace(sample, privileged={}), self.teacher.read),
                lesson.response_ids.tolist(),
                "",
            )
            for sample, lesson in heard
        ]
        if not blind:
            return None
        with_notes = {sample.key: lesson for sample, lesson in heard}
        nats, tokens = 0.0, 0
        for batch in _batches(blind, self.batch_size):
            scored = self.teacher.score(
                [task.question for task in batch], [task.response or [] for task in batch], [False] * len(batch)
            )
            for task, lesson in zip(batch, scored, strict=True):
                nats += float((with_notes[task.sample.key].gold_log_probs - lesson.gold_log_probs).double().sum())
                tokens += len(lesson.response_ids)
        return Gain(nats=nats / tokens, samples=len(blind), tokens=tokens)

    def _tick(self, samples: int) -> None:
        self.done += samples
        self.progress(self.done, self.total, f"{self.tokens:,} tokens")


def as_read(samples: Sequence[Sample], notes: NotesRead) -> list[Sample]:
    """The samples with the notes that the teacher shall read."""
    if notes == "given":
        return list(samples)
    if notes == "none":
        return [replace(sample, privileged={}) for sample in samples]
    noted = [place for place, sample in enumerate(samples) if sample.privileged]
    if len(noted) == 1:
        raise UserError(
            f"Notes cannot be shuffled: '{samples[noted[0]].key}' is the only sample of its shard that has some. "
            "Pack larger shards."
        )
    shuffled = list(samples)
    for place, other in zip(noted, [*noted[1:], *noted[:1]], strict=True):
        shuffled[place] = replace(samples[place], privileged=samples[other].privileged)
    return shuffled


def lessons_of(path: Path) -> dict[str, Lesson]:
    """What an earlier run left in a tar; nothing where it left none, or one that cannot be read."""
    try:
        index = index_tar(path, [MEMBER])
        return {key: Lesson.from_bytes(read_members(path, key, index[key])[MEMBER]) for key in index}
    except (OSError, SampleError, ValueError, KeyError):
        return {}


def heard_with_notes(path: Path, samples: Iterable[Sample]) -> Iterator[tuple[Sample, Lesson]]:
    """Those of a shard's samples that have notes and an expert's response, with their lessons in its tar."""
    index = index_tar(path, [MEMBER])
    for sample in samples:
        if sample.privileged:
            lesson = Lesson.from_bytes(read_members(path, sample.key, index[sample.key])[MEMBER])
            if len(lesson.response_ids) and not lesson.written:
                yield sample, lesson


def _batches(tasks: Sequence[_Task], size: int) -> Iterator[Sequence[_Task]]:
    """Tasks of like length side by side, so that little is padding."""
    ordered = sorted(tasks, key=lambda task: (task.length, task.sample.key))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _empty(width: int) -> Lesson:
    return Lesson(torch.zeros(0, dtype=torch.int32), False, torch.zeros(0), torch.zeros(width))
