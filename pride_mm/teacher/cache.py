"""The teacher's cache: one ``.teacher.tar`` beside every shard, and ``teacher.json`` that says whose words they are.

``teacher.json`` is written last: without it the cache is not complete. It names the teacher's
weights, tokenizer, prompt and fields, and the shards it belongs to; all of it is checked at load.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from pydantic import ValidationError

from pride_mm.data.conversation import response_ids, tokenizer_sha256
from pride_mm.data.shards import TEACHER, Sample, ShardSet, TarRecord, tar_path
from pride_mm.data.tar import write_tar
from pride_mm.data.teaching import MEMBER, Lesson
from pride_mm.errors import BadSamples, UserError
from pride_mm.files import write_json
from pride_mm.progress import Progress, silent
from pride_mm.schema import Frozen, Role
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.scoring import Teacher

RECORD = "teacher.json"


class Counts(Frozen):
    """What was scored. ``with_notes`` counts samples of which the teacher had read at least one note."""

    samples: int
    scored: int
    written: int
    with_notes: int
    tokens: int
    prompts_shortened: int
    responses_cut: int


class CacheRecord(Frozen):
    """Whose words a cache holds, and which shards they belong to (SHA-256 of their tars, by shard)."""

    format: Literal[1] = 1
    teacher: str
    weights_sha256: str
    tokenizer_sha256: str
    prompt_sha256: str
    schema_sha256: str
    privileged_fields: tuple[str, ...]
    top_k: int
    max_response: int
    features: int
    counts: Counts
    shards: dict[str, str]
    tars: dict[str, TarRecord]


def weights_sha256(model: Any) -> str:
    """Changes when, and only when, a weight does."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def open_cache(shards: ShardSet, tokenizer: Any = None, max_response: int | None = None) -> CacheRecord:
    """The record of a complete cache that fits the shards and, where given, a student's tokenizer.

    Raises:
        UserError: there is none, it isn't complete, or it belongs to other shards, another vocabulary or length.
    """
    path = shards.folder / RECORD
    again = f"Run 'pride teach {shards.folder}' again."
    if not path.is_file():
        raise UserError(f"No teacher's cache in {shards.folder}, or not a complete one. {again}")
    try:
        record = CacheRecord.model_validate_json(path.read_bytes())
    except ValidationError:
        raise UserError(f"{path} is not the record of a teacher's cache. {again}") from None
    if record.shards != _identities(shards):
        raise UserError(
            f"The teacher's cache in {shards.folder} belongs to other shards: they were packed anew. {again}"
        )
    for shard, tar in record.tars.items():
        file = tar_path(shards.folder, shard, f".{TEACHER}")
        if not file.is_file() or file.stat().st_size != tar.size:
            raise UserError(f"{file.name} is missing or has another size than it was written with. {again}")
    if tokenizer is not None and tokenizer_sha256(tokenizer) != record.tokenizer_sha256:
        raise UserError(
            f"Teacher '{record.teacher}' and the student have other vocabularies: their token ids don't mean the same "
            f"strings. Choose a student's backbone of the teacher's family, or teach with a teacher of the student's."
        )
    if max_response is not None and max_response != record.max_response:
        raise UserError(
            f"The cache scored responses of up to {record.max_response} tokens, the run reads up to {max_response}: "
            f"set data.max_response={record.max_response}, or run 'pride teach' with --max-response {max_response}."
        )
    return record


def teach(
    shards: ShardSet,
    teacher: Teacher,
    prompt: Prompt,
    bad: BadSamples,
    name: str,
    max_response: int = 48,
    write_missing: bool = True,
    batch_size: int = 8,
    progress: Progress = silent,
) -> CacheRecord:
    """Score every response of the shards with a teacher that has read the notes, and cache what it says.

    Args:
        shards: with their ``.privileged.tar``.
        teacher: scores and writes.
        prompt: makes prompts of samples; privileged text is never cut.
        bad: counts samples whose prompt is refused; they get an empty lesson.
        name: what the teacher is called in the record.
        max_response: tokens of a response; the run that reads the cache must have the same.
        write_missing: in the train split, let the teacher write the response of an item that has none.
        batch_size: prompts scored side by side.
        progress: called after each batch.
    """
    record_path = shards.folder / RECORD
    record_path.unlink(missing_ok=True)
    work = _Work(shards, teacher, prompt, bad, max_response, write_missing, batch_size, progress)
    tars: dict[str, TarRecord] = {}
    for split in shards.splits:
        reader = shards.samples(split, (Role.INPUT, Role.TARGET, Role.PRIVILEGED))
        start = 0
        for shard in shards.shards(split):
            samples = [reader[place] for place in range(start, start + shard.samples)]
            start += shard.samples
            lessons = work.lessons(samples, split)
            members = ((s.key, {MEMBER: lessons[s.key].to_bytes()}) for s in samples)
            written = write_tar(tar_path(shards.folder, shard.name, f".{TEACHER}"), members)
            tars[shard.name] = TarRecord(sha256=written.sha256, size=written.size)
    record = CacheRecord(
        teacher=name,
        weights_sha256=weights_sha256(teacher.model),
        tokenizer_sha256=tokenizer_sha256(teacher.tokenizer),
        prompt_sha256=prompt.sha256,
        schema_sha256=shards.schema.sha256,
        privileged_fields=tuple(field.name for field in shards.schema.privileged),
        top_k=teacher.top_k,
        max_response=max_response,
        features=work.width,
        counts=work.counts(),
        shards=_identities(shards),
        tars=tars,
    )
    write_json(record_path, record.model_dump(mode="json"))
    return record


class _Work:
    """The samples of one ``teach``, shard by shard."""

    def __init__(
        self,
        shards: ShardSet,
        teacher: Teacher,
        prompt: Prompt,
        bad: BadSamples,
        max_response: int,
        write_missing: bool,
        batch_size: int,
        progress: Progress,
    ) -> None:
        self.teacher, self.prompt, self.bad, self.progress = teacher, prompt, bad, progress
        self.max_response, self.write_missing, self.batch_size = max_response, write_missing, batch_size
        self.response = shards.schema.response.name
        self.total = sum(shards.splits.values())
        self.width = int(teacher.model.config.get_text_config().hidden_size)
        self.done = self.scored = self.written = self.noted = self.tokens = self.cut = 0

    def counts(self) -> Counts:
        return Counts(
            samples=self.total,
            scored=self.scored,
            written=self.written,
            with_notes=self.noted,
            tokens=self.tokens,
            prompts_shortened=self.prompt.shortened,
            responses_cut=self.cut,
        )

    def lessons(self, samples: Sequence[Sample], split: str) -> dict[str, Lesson]:
        """The lesson of every sample; an empty one where there is nothing to score."""
        given: list[_Task] = []
        missing: list[_Task] = []
        lessons = {sample.key: _empty(self.teacher.top_k, self.width) for sample in samples}
        for sample in samples:
            text = sample.targets.get(self.response)
            if text is None and not (self.write_missing and split == "train"):
                continue
            with self.bad.counting():
                prompt = self.prompt.ids(self.teacher.tokenizer, sample)
                (missing if text is None else given).append((sample, prompt, "" if text is None else str(text)))
        self._tick(len(samples) - len(given) - len(missing))
        for batch in _batches(given, self.batch_size):
            self._score(batch, [self._ids(text) for _, _, text in batch], False, lessons)
        # writing waits for the weights, not for arithmetic: more rows side by side cost next to nothing
        for batch in _batches(missing, 4 * self.batch_size):
            responses = self.teacher.write([prompt for _, prompt, _ in batch], self.max_response)
            self._score(batch, responses, True, lessons)
        return lessons

    def _ids(self, text: str) -> list[int]:
        ids, cut = response_ids(self.teacher.tokenizer, text, self.max_response)
        self.cut += cut
        return ids

    def _score(
        self, batch: Sequence["_Task"], responses: Sequence[list[int]], written: bool, lessons: dict[str, Lesson]
    ) -> None:
        scored = self.teacher.score([prompt for _, prompt, _ in batch], responses, [written] * len(batch))
        for (sample, prompt, _), lesson in zip(batch, scored, strict=True):
            lessons[sample.key] = lesson
            self.noted += bool(sample.privileged)
            self.tokens += len(prompt) + len(lesson.response_ids)
        self.scored += len(batch)
        self.written += len(batch) if written else 0
        self._tick(len(batch))

    def _tick(self, samples: int) -> None:
        self.done += samples
        self.progress(self.done, self.total, f"{self.tokens:,} tokens")


_Task = tuple[Sample, list[int], str]


def _batches(tasks: Sequence[_Task], size: int) -> Iterator[Sequence[_Task]]:
    """Tasks of like length side by side, so that little is padding."""
    ordered = sorted(tasks, key=lambda task: (len(task[1]) + len(task[2]) // 4, task[0].key))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _empty(top_k: int, width: int) -> Lesson:
    return Lesson(
        response_ids=torch.zeros(0, dtype=torch.int32),
        written=False,
        ids=torch.zeros(0, top_k, dtype=torch.int32),
        log_probs=torch.zeros(0, top_k),
        log_tail=torch.zeros(0),
        gold_log_probs=torch.zeros(0),
        features=torch.zeros(width),
    )


def _identities(shards: ShardSet) -> dict[str, str]:
    """What the cache belongs to: the inputs and, where there are some, the notes that the teacher has read."""
    return {
        shard.name: hashlib.sha256(
            "".join(shard.tars[added].sha256 for added in sorted(shard.tars)).encode()
        ).hexdigest()
        for shard in shards.shards()
    }
