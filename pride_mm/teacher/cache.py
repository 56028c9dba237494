"""The teacher's cache: one ``.teacher.tar`` beside every shard, and ``teacher.json`` that says whose words they are.

``teacher.json`` is written last: without it the cache is not complete. It names the teacher's
weights, tokenizer, prompt and fields, and the shards it belongs to; all of it is checked at load.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors.torch import load, save

from pride_mm.data.conversation import tokenizer_sha256
from pride_mm.data.manifest import TEACHER, TEACHER_RECORD, ShardRecord, TarRecord, tar_name, tar_path
from pride_mm.data.shards import Sample, ShardSet
from pride_mm.data.tar_writer import write_tar
from pride_mm.data.teaching import MEMBER, Lesson
from pride_mm.data.vocabularies import spellings, spellings_to_bytes
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.files import write_bytes, write_json
from pride_mm.head import Head
from pride_mm.progress import Progress, silent
from pride_mm.schema import Frozen, Role
from pride_mm.teacher.asking import (
    GAIN_SAMPLES,
    Asker,
    Asking,
    Counts,
    Gain,
    NotesRead,
    as_read,
    heard_with_notes,
    lessons_of,
)
from pride_mm.teacher.prompt import Prompt
from pride_mm.teacher.ranks import ALONE, Ranks
from pride_mm.teacher.scoring import AnyTeacher, Served

RECORD = TEACHER_RECORD
HEAD = "teacher_head.safetensors"
VOCABULARY = "teacher_vocabulary.json"
_ROLES = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
HIGH_GAIN = 0.4
"""Nats a token above which reverse KL no longer finds the best student without notes (its optimum is a geometric mean
over the notes; notes/distillation B1)."""


class CacheRecord(Frozen):
    """Whose words a cache holds, and which shards they belong to (SHA-256 of their tars, by shard).

    ``parameters`` is how many weights the teacher has. Of one behind a ``server`` the weights are unknown, and
    ``features`` are 0 wide: there are none. ``shown_fields`` are the clips and sounds that it was shown.
    """

    format: Literal[1] = 1
    teacher: str
    weights_sha256: str | None
    parameters: int | None = None
    server: Served | None = None
    tokenizer_sha256: str
    vocabulary_sha256: str
    prompt_sha256: str
    schema_sha256: str
    privileged_fields: tuple[str, ...]
    shown_fields: tuple[str, ...] = ()
    notes: NotesRead
    gain: Gain | None
    top_k: int
    fp8: bool = False
    head_sha256: str | None
    max_response: int
    features: int
    counts: Counts
    shards: dict[str, str]
    tars: dict[str, TarRecord]

    def shares_tokens(self, tokenizer: Any) -> bool:
        """Whether its ids mean the same strings to this tokenizer."""
        return tokenizer_sha256(tokenizer) == self.tokenizer_sha256


def open_cache(shards: ShardSet, tokenizer: Any = None, max_response: int | None = None) -> CacheRecord:
    """The record of a complete cache that fits the shards and, where given, a student's tokenizer and length.

    A student of another tokenizer learns from the teacher's top-k only, and its length is its own.

    Raises:
        UserError: there is none, it isn't complete, it belongs to other shards or another length, or is of hidden
            states, of which only a student of its tokenizer can learn.
    """
    again = f"Run 'pride teach {shards.place}' again."
    data = shards.storage.read(RECORD)
    if data is None:
        raise UserError(f"No teacher's cache in {shards.place}, or not a complete one. {again}")
    try:
        record = CacheRecord.model_validate_json(data)
    except ValidationError:
        raise UserError(f"{shards.place}/{RECORD} is not the record of a teacher's cache. {again}") from None
    if record.shards != _identities(shards):
        raise UserError(
            f"The teacher's cache in {shards.place} belongs to other shards: they were packed anew. {again}"
        )
    tars = [(tar_name(shard, f".{TEACHER}"), tar) for shard, tar in record.tars.items()]
    for name, _ in shards.storage.missing(tars):
        raise UserError(f"{name} is missing or has another size than it was written with. {again}")
    if tokenizer is not None and not record.shares_tokens(tokenizer):
        if record.top_k:
            return record
        raise UserError(
            f"Teacher '{record.teacher}' and the student have other vocabularies, and hidden states make probabilities "
            f"of the teacher's only. Run 'pride teach' with --top-k 64, or choose a backbone of the teacher's family."
        )
    if max_response is not None and max_response != record.max_response:
        raise UserError(
            f"The cache scored responses of up to {record.max_response} tokens, the run reads up to {max_response}: "
            f"set data.max_response={record.max_response}, or run 'pride teach' with --max-response {max_response}."
        )
    return record


def open_head(shards: ShardSet, record: CacheRecord) -> Head | None:
    """The teacher's head, where its hidden states are cached; None where its top-k is.

    Raises:
        UserError: it is missing or another one.
    """
    if record.head_sha256 is None:
        return None
    data = shards.storage.read(HEAD)
    if data is None or hashlib.sha256(data).hexdigest() != record.head_sha256:
        raise UserError(
            f"{shards.place}/{HEAD}, of which the cached states make logits, is missing or another teacher's. "
            f"Run 'pride teach {shards.place}' again."
        )
    tensors = load(data)
    soft_cap = float(tensors["soft_cap"]) or None
    return Head(tensors["weight"], tensors.get("bias"), scale=float(tensors["scale"]), soft_cap=soft_cap)


def open_vocabulary(shards: ShardSet, record: CacheRecord) -> bytes:
    """What the teacher's ids spell, as ``Translation.of`` takes it.

    Raises:
        UserError: it is missing or another one.
    """
    data = shards.storage.read(VOCABULARY)
    if data is None or hashlib.sha256(data).hexdigest() != record.vocabulary_sha256:
        raise UserError(
            f"{shards.place}/{VOCABULARY}, which says what the teacher's ids spell, is missing or another teacher's. "
            f"Run 'pride teach {shards.place}' again."
        )
    return data


def _write_vocabulary(folder: Path, tokenizer: Any) -> str:
    data = spellings_to_bytes(spellings(tokenizer))
    write_bytes(folder / VOCABULARY, data)
    return hashlib.sha256(data).hexdigest()


def _write_head(folder: Path, head: Head) -> str:
    head = head.constant(torch.bfloat16 if head.weight.dtype == torch.bfloat16 else torch.float32)
    tensors = {"weight": head.weight.cpu().contiguous().clone(), "scale": torch.tensor(head.scale)}
    tensors |= {} if head.bias is None else {"bias": head.bias.cpu().contiguous()}
    data = save(tensors | {"soft_cap": torch.tensor(head.soft_cap or 0.0)})
    write_bytes(folder / HEAD, data)
    return hashlib.sha256(data).hexdigest()


def teach(
    shards: ShardSet,
    teacher: AnyTeacher,
    prompt: Prompt,
    bad: BadSamples,
    name: str,
    max_response: int = 48,
    write_missing: bool = True,
    batch_size: int = 8,
    notes: NotesRead = "given",
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> CacheRecord:
    """Score every response of the shards with a teacher that has read the notes, and cache what it says.

    Args:
        shards: with their ``.privileged.tar``.
        teacher: scores and writes.
        prompt: makes prompts of samples; privileged text is never cut.
        bad: counts samples whose prompt is refused; they get an empty lesson. In the first rank it ends with those of
            all ranks.
        name: what the teacher is called in the record.
        max_response: tokens of a response; the run that reads the cache must have the same.
        write_missing: in the train split, let the teacher write the response of an item that has none.
        batch_size: prompts scored side by side.
        notes: what the teacher reads: the notes of the sample, none, or those of another sample of the shard. The
            latter two are controls: what a student gains from a teacher that was told nothing, or nothing true.
        progress: called after each batch.
        ranks: share the shards among them, in one folder; all of them make this call and get the same record.

    Raises:
        UserError: another rank has ended, or doesn't write into the same folder; or as the teacher.
    """
    for old in (shards.folder / RECORD, shards.folder / HEAD, shards.folder / VOCABULARY):
        old.unlink(missing_ok=True)
    weights = teacher.weights_sha256()
    asker = Asker(
        weights or str(teacher.server), tokenizer_sha256(teacher.tokenizer), teacher.top_k, teacher.fp8, max_response
    )
    mine = ranks.mine(shards.shards())
    work = Asking(
        teacher, prompt, asker, bad, sum(shard.samples for shard in mine), write_missing, batch_size, progress
    )
    tars = _write_tars(shards, {shard.name for shard in mine}, work, notes)
    part = _Part(counts=work.counts(), tars=tars, bad=tuple((one.place, one.field, one.reason) for one in bad))
    parts = [_Part.model_validate(one) for one in ranks.gather(part.model_dump(mode="json"))]
    if ranks.rank:
        return CacheRecord.model_validate(ranks.gather(None)[0])
    tars = {shard: tar for part in parts for shard, tar in part.tars.items()}
    for error in (error for part in parts[1:] for error in part.bad):
        bad.add(SampleError(*error))
    for tar, _ in shards.storage.missing((tar_name(shard, f".{TEACHER}"), record) for shard, record in tars.items()):
        raise UserError(f"Another process wrote {tar} to a folder of its own: give all of them one that they share.")
    record = CacheRecord(
        teacher=name,
        weights_sha256=weights,
        parameters=teacher.parameters,
        server=teacher.server,
        tokenizer_sha256=asker.tokenizer,
        vocabulary_sha256=_write_vocabulary(shards.folder, teacher.tokenizer),
        prompt_sha256=prompt.sha256,
        schema_sha256=shards.schema.sha256,
        privileged_fields=tuple(field.name for field in shards.schema.privileged),
        shown_fields=teacher.shown,
        notes=notes,
        gain=work.gain(_heard(shards, bool(teacher.shown))) if notes == "given" else None,
        top_k=teacher.top_k,
        fp8=teacher.fp8,
        head_sha256=_write_head(shards.folder, teacher.head) if teacher.top_k == 0 and teacher.head else None,
        max_response=max_response,
        features=teacher.width,
        counts=sum((part.counts for part in parts[1:]), parts[0].counts),
        shards=_identities(shards),
        tars={shard.name: tars[shard.name] for shard in shards.shards()},
    )
    write_json(shards.folder / RECORD, record.model_dump(mode="json"))
    ranks.gather(record.model_dump(mode="json"))
    return record


class _Part(Frozen):
    """What one rank has done; ``bad`` is what made each of its errors."""

    counts: Counts
    tars: dict[str, TarRecord]
    bad: tuple[tuple[str, str | None, str], ...]


def _write_tars(shards: ShardSet, mine: Collection[str], work: Asking, notes: NotesRead) -> dict[str, TarRecord]:
    """Ask about all samples of these shards."""
    tars: dict[str, TarRecord] = {}
    for split in shards.splits:
        reader = shards.samples(split, _ROLES, media=bool(work.teacher.shown))
        for shard, places in _places(shards, split):
            if shard.name not in mine:
                continue
            samples = [reader[place] for place in places]
            path = tar_path(shards.folder, shard.name, f".{TEACHER}")
            lessons = work.lessons(as_read(samples, notes), split, lessons_of(path))
            written = write_tar(path, ((s.key, {MEMBER: lessons[s.key].to_bytes()}) for s in samples))
            tars[shard.name] = TarRecord(sha256=written.sha256, size=written.size)
    return tars


def _heard(shards: ShardSet, media: bool) -> list[tuple[Sample, Lesson]]:
    """The first of the train split that tell what notes are worth."""
    if "train" not in shards.splits:
        return []
    reader = shards.samples("train", _ROLES, media=media)
    found = (
        heard_with_notes(tar_path(shards.folder, shard.name, f".{TEACHER}"), (reader[place] for place in places))
        for shard, places in _places(shards, "train")
    )
    return list(islice(chain.from_iterable(found), GAIN_SAMPLES))


def _places(shards: ShardSet, split: str) -> Iterator[tuple[ShardRecord, range]]:
    """The shards of a split, each with the places of its samples."""
    start = 0
    for shard in shards.shards(split):
        yield shard, range(start, start + shard.samples)
        start += shard.samples


def _identities(shards: ShardSet) -> dict[str, str]:
    """What the cache belongs to: the inputs and, where there are some, the notes that the teacher has read."""
    return {shard.name: _identity(shard) for shard in shards.shards()}


def _identity(shard: ShardRecord) -> str:
    return hashlib.sha256("".join(shard.tars[added].sha256 for added in sorted(shard.tars)).encode()).hexdigest()


def carried_over(data: bytes, before: Sequence[ShardRecord], after: Sequence[ShardRecord]) -> bytes:
    """The record of a cache for shards that are other bytes now and say what they said: notes that were encrypted.

    Args:
        data: the record as it is.
        before, after: the shards, as they were and as they are.

    Raises:
        ValueError: it is no record.
    """
    record = CacheRecord.model_validate_json(data)
    now = {was.name: _identity(shard) for was, shard in zip(before, after, strict=True)}
    was = {shard.name: _identity(shard) for shard in before}
    shards = {name: now[name] if old == was.get(name) else old for name, old in record.shards.items()}
    return record.model_copy(update={"shards": shards}).model_dump_json().encode()
