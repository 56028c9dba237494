"""The privileged path: how the student reads the notes while it is trained. It is never exported.

Letters: ``B`` batch, ``L`` text tokens, ``N`` tokens of a note, ``K`` latents, ``D`` width.

Where the notes are read: ``beside`` the sources, in a softmax *of its own* (in a joint one, taking the notes away would
renormalise all other sources), added through a gate that starts at zero; ``among`` them, as one more of the joint
softmax; or ``instead`` of the predicted latents, so that what reads the notes in training reads their prediction
afterwards, as a variational model's prior stands in for its posterior (Sohn et al., NeurIPS 2015).

Fields and rows are dropped by chances of their own, so that the random numbers of the deploy pass do not depend on
whether there are notes. A row that is dropped is left to the deploy pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pride_mm.data.batch import Padded
from pride_mm.precision import wide
from pride_mm.student.attention import MultiSourceAttention, Resampler
from pride_mm.student.sources import Read, Sources
from pride_mm.training.chances import Chances

NOTES = "notes"
Place = Literal["beside", "among", "instead"]
ANNEAL_FROM = 0.8
"""From this part of training on, row dropout rises to one, so that training ends as deployment begins."""


@dataclass(frozen=True)
class NoteLatents:
    """The notes of a batch, resampled: z_q, and which rows have any."""

    values: Float[Tensor, "B K D"]
    present: Bool[Tensor, " B"]

    def rows(self, index: Int[Tensor, " R"]) -> "NoteLatents":
        """The chosen rows."""
        return NoteLatents(self.values[index], self.present[index])


class PrivilegedPath(nn.Module):
    """Notes to latents, and text that reads them.

    Args:
        fields: names of the privileged fields; each has an embedding that is added to its tokens.
        width: D.
        latents: K, the same as the student's, which predicts them.
        field_dropout: chance that a field of a row is not shown, in training.
        row_dropout: chance that a row reads nothing, in training.
        seed: of its start.
        place: where the notes are read; see the module.
    """

    def __init__(
        self,
        fields: Sequence[str],
        width: int,
        latents: int,
        field_dropout: float = 0.3,
        row_dropout: float = 0.3,
        seed: int = 0,
        inner: int = 256,
        heads: int = 4,
        place: Place = "beside",
    ) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.field_dropout, self.row_dropout = field_dropout, row_dropout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.field = nn.Parameter(torch.randn(len(self.fields), width) * 0.02)
            self.resampler = Resampler(width, latents, min(width, inner), heads)
            beside = place == "beside"
            self.attention = MultiSourceAttention(width, 1, min(width, inner), heads, latents) if beside else None
            self.mark = nn.Parameter(torch.randn(width) * 0.02) if place == "among" else None
            self.predict = None if place == "instead" else nn.Linear(width, width, bias=False)

    def shown(self, notes: Mapping[str, Padded], chances: Chances | None = None) -> dict[str, Bool[Tensor, "B N"]]:
        """Which tokens of each field are shown; all of them where there are no chances."""
        fields = [name for name in self.fields if name in notes]
        if not fields:
            raise ValueError(f"none of the privileged fields {', '.join(self.fields)} is in the batch")
        masks = {name: notes[name].mask for name in fields}
        if chances is None or self.field_dropout == 0:
            return masks
        kept = {name: chances.of(f"field {name}") >= self.field_dropout for name in fields}
        return {name: mask & kept[name].to(mask.device)[:, None] for name, mask in masks.items()}

    def encode(self, notes: Mapping[str, Padded], embedding: nn.Module, chances: Chances | None = None) -> NoteLatents:
        """The latents of the notes.

        Args:
            notes: token ids ``(B, N)`` by field; a field that is missing counts as absent.
            embedding: the student's, by which the notes are read.
            chances: in training, by which fields are dropped.
        """
        shown = self.shown(notes, chances)
        tokens = [embedding(notes[name].values) + self.field[self.fields.index(name)] for name in shown]
        mask = torch.cat(list(shown.values()), 1)
        return NoteLatents(self.resampler(torch.cat(tokens, 1), mask), mask.any(1))

    def prior_loss(
        self, predicted: Float[Tensor, "B K D"], notes: NoteLatents, count: float | None = None
    ) -> Float[Tensor, ""]:
        """``1 - cos(W z_p, z_q)`` over the rows with notes, no gradient into the notes; zero with a path where none.

        Where ``z_p`` stands in for ``z_q``, it has to be it: ``|z_p - z_q|^2 / |z_q|^2``.
        ``count`` is what to divide by instead of the rows with notes: theirs of the whole batch, of which this is a
        part.
        """
        target = notes.values.detach()
        if self.predict is None:
            kind = wide(predicted)
            away = (predicted.to(kind) - target.to(kind)).square().sum(-1)
            apart = away / target.to(kind).square().sum(-1).clamp(min=1e-6)
        else:
            kind = wide(predicted, self.predict.weight)
            apart = 1 - F.cosine_similarity(self.predict(predicted.to(kind)), target.to(kind), dim=-1)
        rows = notes.present.to(apart.dtype)
        return (apart.mean(1) * rows).sum() / max(float(rows.sum()) if count is None else count, 1e-9)

    def choose(
        self, present: Bool[Tensor, " B"], progress: float = 0.0, chances: Chances | None = None
    ) -> Int[Tensor, " R"]:
        """The rows that read their notes now; ``progress`` is the part of training that is done."""
        rising = min(1.0, max(0.0, (progress - ANNEAL_FROM) / (1 - ANNEAL_FROM)))
        chance = self.row_dropout + (1 - self.row_dropout) * rising
        if chances is not None and chance > 0:
            present = present & (chances.of("row") >= chance).to(present.device)
        return present.nonzero().flatten()

    def join(self, notes: NoteLatents, sources: Sources) -> tuple[Read | None, Sources]:
        """How ``Student.respond`` gets to see the notes: what to read beside the sources, or these with the notes."""
        if self.attention is not None:
            return self.read(notes), sources
        if self.mark is not None:
            return None, sources.with_notes(notes.values + self.mark, notes.present, NOTES)
        return None, sources.with_predicted(
            torch.where(notes.present[:, None, None], notes.values.to(sources.latents.dtype), sources.predicted)
        )

    def read(self, notes: NoteLatents) -> Read:
        """What ``Student.respond`` adds to its embeddings: exactly nothing in rows without notes."""
        assert self.attention is not None
        attention = self.attention
        mask = notes.present[:, None].expand(-1, notes.values.shape[1])

        def added(text: Tensor) -> Tensor:
            read, _ = attention(text, notes.values.to(text.dtype), mask)
            # a row without notes would still read the null token
            return torch.where(notes.present[:, None, None], read, 0.0)

        return added
