"""What a run reads: sets of shards, each by its weight, and what their teacher said."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pride_mm.data.corpora import Corpora
from pride_mm.data.shards import ShardReader, ShardSet
from pride_mm.data.vocabularies import Translation
from pride_mm.errors import UserError
from pride_mm.head import Head
from pride_mm.losses.alignment import NOTE_TERMS, POOLED
from pride_mm.schema import Role, Schema
from pride_mm.teacher.cache import CacheRecord, open_cache, open_head, open_vocabulary
from pride_mm.training.settings import RunSettings


@dataclass(frozen=True)
class Material:
    """The sets of a run; with notes, and with what the teacher said, only where a term of the loss wants them.

    Attributes:
        caches: of each set, all the same teacher's; none where no term wants one.
        head: makes logits of the teacher's states, where these are cached.
        translation: of what a teacher with another tokenizer said.
    """

    sets: tuple[ShardSet, ...]
    weights: tuple[float, ...]
    roles: tuple[Role, ...]
    caches: tuple[CacheRecord, ...]
    head: Head | None
    translation: Translation | None

    @classmethod
    def gather(cls, settings: RunSettings, sets: Sequence[ShardSet], tokenizer: Any) -> "Material":
        """See that the sets fit the run and each other.

        Raises:
            UserError: weights that don't fit, two schemas or two teachers, or a cache that is missing or doesn't fit.
        """
        loss, weights = settings.loss, settings.data.weights or (1.0,) * len(sets)
        if len(weights) != len(sets):
            raise UserError(
                f"data.weights has {len(weights)} numbers and there are {len(sets)} sets of shards: give one for each, "
                "in the order of --shards."
            )
        caches: list[CacheRecord] = []
        head = translation = None
        if settings.teacher is None and loss.uses("kd", *POOLED):
            caches = [open_cache(shards, tokenizer, settings.data.max_response) for shards in sets]
            for shards, other in zip(sets, caches, strict=True):
                if _teacher(other) != _teacher(caches[0]):
                    raise UserError(
                        f"{sets[0].place} was taught by '{caches[0].teacher}' and {shards.place} by '{other.teacher}', "
                        "or with other options: run 'pride teach' alike on all of them."
                    )
            if caches[0].features == 0 and loss.uses(*POOLED):
                used = ", ".join(f"loss.{name}=0" for name in POOLED if loss.uses(name))
                raise UserError(
                    f"Teacher '{caches[0].teacher}' answered from a server, which gives no features to compare: set "
                    f"{used}, or run 'pride teach' without --server."
                )
            head = open_head(sets[0], caches[0])
            sorted_only = loss.divergence == "universal"
            if not caches[0].shares_tokens(tokenizer):
                spelt = None if sorted_only else open_vocabulary(sets[0], caches[0])
                translation = Translation.of(tokenizer, spelt)
            if sorted_only and loss.uses("kd") and head is not None:
                raise UserError(
                    "loss.divergence=universal compares the likeliest tokens, and hidden states are cached: choose "
                    "another divergence, or run 'pride teach' with --top-k 64."
                )
            if loss.uses("kd") and loss.temperature != 1.0 and head is None:
                raise UserError(
                    f"loss.temperature={loss.temperature} does not fit a top-k cache, whose log-probabilities are at "
                    "temperature 1: set it to 1, or run 'pride teach --top-k 0', which caches hidden states."
                )
        told = settings.teacher is not None and settings.teacher.notes == "given"
        notes = [Role.PRIVILEGED] if loss.uses(*NOTE_TERMS) or told else []
        roles = (Role.INPUT, Role.TARGET, *notes)
        return cls(tuple(sets), tuple(weights), roles, tuple(caches), head, translation)

    @property
    def schema(self) -> Schema:
        """The schema of all sets."""
        return self.sets[0].schema

    @property
    def cache(self) -> CacheRecord | None:
        """Of the first set: what all of them have in common can be read of it."""
        return self.caches[0] if self.caches else None

    @property
    def taught_sha256(self) -> str:
        """Changes when what the teacher said does, such as the responses that it wrote."""
        tars = [[tar.sha256 for _, tar in sorted(cache.tars.items())] for cache in self.caches]
        return hashlib.sha256(json.dumps(tars).encode()).hexdigest()

    def train(self, media: bool = True) -> Corpora:
        """The train splits, each by its weight; raises UserError where schemas differ."""
        teacher = bool(self.caches)
        readers = [shards.samples("train", self.roles, teacher=teacher, media=media) for shards in self.sets]
        return Corpora(list(zip(readers, self.weights, strict=True)))

    def valid(self, media: bool = True) -> list[ShardReader]:
        """The validation splits, of those that have one: every sample counts once, whatever the weights are."""
        return [shards.samples("valid", self.roles, media=media) for shards in self.sets if "valid" in shards.splits]


def _teacher(record: CacheRecord) -> tuple[Any, ...]:
    """What must be the same for one student to learn from several caches."""
    whose = record.weights_sha256 or record.server
    return (
        whose,
        record.tokenizer_sha256,
        record.prompt_sha256,
        record.notes,
        record.top_k,
        record.fp8,
        record.head_sha256,
    )
