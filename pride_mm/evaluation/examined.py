"""What one student says of a split, kept while it is said: an examination that is killed goes on where it was.

The file is JSON lines. The first says what was asked of whom (``Identity``); a file that says else is begun anew. Then
comes a line for each sample that was scored, and one for each that was answered, appended a batch at a time, so that
a kill costs one batch. A last line that a kill has cut is dropped. What a student says is rounded before it
is used, not only before it is kept: the figures are the same whether they were made at one go or in ten.

Batches are cut at the same places every time, and what is computed again is computed in the same company. An
examination that asks for more answers than the last one keeps those that are there.
No note is in it: keys, numbers, and what the student answered.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pride_mm.data.shards import ShardReader, ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.gold import Gold, read_gold, spread
from pride_mm.evaluation.metrics import Likelihood
from pride_mm.evaluation.predictions import Decoding, Examinee, Said, read_samples
from pride_mm.evaluation.settings import read_settings
from pride_mm.files import write_jsonl
from pride_mm.progress import Progress, silent
from pride_mm.student import load_student
from pride_mm.training.checkpoint import student_folder

FORMAT = 1
SCORED, ANSWERED = 16, 8
"""Samples of a batch."""


@dataclass(frozen=True)
class Identity:
    """What was asked of whom: what is kept counts only where all of it is the same.

    Attributes:
        student: SHA-256 of the student's weights, settings and tokenizer.
        shards: SHA-256 of the manifest.
        split: of the shards.
        decoding: how answers are chosen.
        max_response: tokens of a response.
    """

    student: str
    shards: str
    split: str
    decoding: Decoding
    max_response: int
    format: int = FORMAT


@dataclass(frozen=True)
class Predictions:
    """What one student says of a split.

    Attributes:
        likelihood: of the gold responses.
        probabilities: of each class, by head and key.
        attention: for each source the mean share of attention, over the samples that have it.
        answers: what it generated, by key.
        seen: the keys of all samples that could be read.
    """

    likelihood: Likelihood
    probabilities: dict[str, dict[str, tuple[float, ...]]]
    attention: dict[str, float]
    answers: dict[str, str]
    seen: frozenset[str]

    @property
    def read(self) -> dict[str, dict[str, int]]:
        """The likeliest class, by head and key."""
        return {
            head: {key: max(range(len(each)), key=each.__getitem__) for key, each in rows.items()}
            for head, rows in self.probabilities.items()
        }


@dataclass
class _Kept:
    """What has been said so far, in memory and, where there is a path, in the file."""

    path: Path | None
    identity: Identity
    said: dict[str, Said] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        lines, size = _whole_lines(self.path)
        if lines and lines[0] == json.loads(json.dumps(asdict(self.identity))):
            os.truncate(self.path, size)
            for line in lines[1:]:
                self._take(line)
        else:
            write_jsonl(self.path, [asdict(self.identity)])

    def _take(self, line: dict[str, Any]) -> None:
        if "answer" in line:
            self.answers[line["key"]] = line["answer"]
        else:
            heads = {name: tuple(each) for name, each in line["heads"].items()}
            self.said[line["key"]] = Said(**{**line, "heads": heads})

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Keep what a batch said, in one write."""
        for line in lines:
            self._take(line)
        if self.path is not None:
            with self.path.open("ab") as file:
                file.write(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines up to the first that isn't whole, and how many bytes they are."""
    lines, size = [], 0
    for text in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not text.endswith(b"\n") or not isinstance(line, dict):
            break
        lines.append(line)
        size += len(text)
    return lines, size


def load_examinee(run: Path, shards: ShardSet, device: torch.device | str = "cpu") -> Examinee:
    """The student of a run's best checkpoint; raises UserError where it was trained with another schema."""
    settings = read_settings(run)
    student, tokenizer, served = load_student(student_folder(run))
    if served.sha256 != shards.schema.served().sha256:
        raise UserError(
            f"The student of {run} was trained with another schema ('{served.name}', version {served.version}) "
            f"than {shards.place} holds: give the shards it was trained on, or train again."
        )
    longest = int(settings.get("data.max_response", 64))
    return Examinee(student, tokenizer, shards.schema, longest, device, _weights(student_folder(run)))


def examine_run(
    run: Path,
    shards: ShardSet,
    split: str,
    samples: int = 100,
    path: Path | None = None,
    bad: BadSamples | None = None,
    decoding: Decoding = "greedy",
    progress: Progress = silent,
    device: torch.device | str = "cpu",
) -> Predictions:
    """Examine the best checkpoint of a run on a split.

    Args:
        run: the folder ``runs/NAME``.
        shards: those it was trained on, or others of the same schema.
        split: what to examine it on.
        samples: how many answers it gives, to samples that are spread evenly over those with a gold response.
        path: where what it says is kept, and found again; None keeps it nowhere.
        bad: counts samples that cannot be read.
        decoding: how answers are chosen.
        progress: told "scoring" and "answering".
        device: where the student runs.

    Raises:
        UserError: not a run, a run of another schema, or an unknown split.
    """
    counted = bad if bad is not None else BadSamples()
    gold = read_gold(shards, split, counted)
    known = BadSamples(len(gold.keys))  # what lacks its targets was counted just now
    examinee = load_examinee(run, shards, device)
    found = examine(examinee, shards, split, gold, asked(gold, samples), path, known, decoding, progress)
    for error in known:
        if error.place not in {before.place for before in counted}:
            counted.add(error)
    return found


def asked(gold: Gold, samples: int) -> list[str]:
    """The keys that are answered: evenly spread over those with a gold response, or over all where none has one."""
    return spread([key for key in gold.keys if key in gold.responses] or list(gold.keys), samples)


def examine(
    examinee: Examinee,
    shards: ShardSet,
    split: str,
    gold: Gold,
    asked: Sequence[str],
    path: Path | None = None,
    bad: BadSamples | None = None,
    decoding: Decoding = "greedy",
    progress: Progress = silent,
) -> Predictions:
    """``examine_run`` where student and gold are at hand; ``asked`` are the keys that are answered.

    Answers to samples that cannot be read are left out, and so is whatever the file has beyond what is asked.
    """
    assert path is None or examinee.sha256, "who is not known cannot be told from another"
    reader = shards.samples(split)
    identity = Identity(examinee.sha256, _manifest(shards), split, decoding, examinee.max_response)
    kept = _Kept(path, identity)
    _score(kept, examinee, reader, gold, bad if bad is not None else BadSamples(), progress)
    seen = [key for key in reader.keys if key in kept.said]
    wanted = [key for key in asked if key in kept.said]
    _answer(kept, examinee, reader, wanted, decoding, progress)
    said = [kept.said[key] for key in seen]
    return Predictions(
        likelihood=_likelihood([one for one in said if one.tokens and one.key in gold.responses], gold),
        probabilities={
            head.name: {one.key: one.heads[head.name] for one in said if head.name in one.heads}
            for head in shards.schema.heads
        },
        attention=_shares(said),
        answers={key: kept.answers[key] for key in wanted},
        seen=frozenset(seen),
    )


def _weights(folder: Path) -> str:
    """One hash of all that makes a student answer as it does."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".json", ".jinja"):
            digest.update(file.name.encode())
            with file.open("rb") as data:
                digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()


def _manifest(shards: ShardSet) -> str:
    return hashlib.sha256(shards.manifest.model_dump_json(by_alias=True).encode()).hexdigest()


def _score(
    kept: _Kept, examinee: Examinee, reader: ShardReader, gold: Gold, bad: BadSamples, progress: Progress
) -> None:
    for start in range(0, len(reader), SCORED):
        places = range(start, min(start + SCORED, len(reader)))
        missing = [place for place in places if reader.keys[place] not in kept.said]
        if missing:
            # A broken sample is missing every time: it is tried again, and named again, at no great cost.
            new = read_samples(reader, missing, bad)
            if missing != list(places) or not examinee.fine(new):
                new = [one for one in new if examinee.fine([one], bad)]
            if new:
                found = {one.key: one for one in new}
                others = [place for place in places if reader.keys[place] in kept.said]
                found |= {one.key: one for one in read_samples(reader, others, BadSamples(len(others)))}
                batch = [found[reader.keys[place]] for place in places if reader.keys[place] in found]
                kept.add([asdict(said) for said in examinee.score(batch, gold)])
        progress(places.stop, len(reader), "scoring")


def _answer(
    kept: _Kept, examinee: Examinee, reader: ShardReader, wanted: Sequence[str], decoding: Decoding, progress: Progress
) -> None:
    place = {key: number for number, key in enumerate(reader.keys)}
    for start in range(0, len(wanted), ANSWERED):
        keys = wanted[start : start + ANSWERED]
        if any(key not in kept.answers for key in keys):
            samples = read_samples(reader, [place[key] for key in keys], BadSamples(len(keys)))
            answers = examinee.answer(samples, decoding)
            kept.add([{"key": key, "answer": answer} for key, answer in answers.items()])
        progress(start + len(keys), len(wanted), "answering")


def _likelihood(said: Sequence[Said], gold: Gold) -> Likelihood:
    keys = tuple(one.key for one in said)
    column: Callable[[str], Any] = lambda name: tuple(getattr(one, name) for one in said)  # noqa: E731
    return Likelihood(keys, tuple(gold.group_of(keys)), column("nats"), column("tokens"), column("bytes"))


def _shares(said: Sequence[Said]) -> dict[str, float]:
    """Mean attention on each source over the samples that have it."""
    names = dict.fromkeys(name for one in said for name in one.attention)
    given = {name: [one.attention[name] for one in said if name in one.attention] for name in names}
    return {name: math.fsum(masses) / len(masses) for name, masses in given.items()}
