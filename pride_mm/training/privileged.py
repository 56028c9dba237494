"""The privileged path: how the student reads the notes while it is trained. It is never exported.

Letters: ``B`` batch, ``L`` text tokens, ``N`` tokens of a note, ``K`` latents, ``D`` width.

The text attends to the notes in a softmax *of its own* (in a joint one, taking the notes away would
renormalise all other sources), added through a gate that starts at zero. Fields and rows are dropped
at random by a generator of this path's own, so that the random numbers of the deploy pass do not depend
on whether there are notes. A row that is dropped is left to the deploy pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pride_mm.data.batch import Padded
from pride_mm.student.attention import MultiSourceAttention, Resampler
from pride_mm.student.network import Read

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
        seed: of this path's own generator, and of its start.
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
    ) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.field_dropout, self.row_dropout = field_dropout, row_dropout
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.field = nn.Parameter(torch.randn(len(self.fields), width) * 0.02)
            self.resampler = Resampler(width, latents, min(width, inner), heads)
            self.attention = MultiSourceAttention(width, 1, min(width, inner), heads)
            self.predict = nn.Linear(width, width, bias=False)

    def encode(self, notes: Mapping[str, Padded], embedding: nn.Module) -> NoteLatents:
        """The latents of the notes.

        Args:
            notes: token ids ``(B, N)`` by field; a field that is missing counts as absent.
            embedding: the student's, by which the notes are read.
        """
        tokens, masks = [], []
        for number, name in enumerate(self.fields):
            if name not in notes:
                continue
            note = notes[name]
            shown = note.mask & self._kept(len(note.values), self.field_dropout).to(note.mask.device)[:, None]
            tokens.append(embedding(note.values) + self.field[number])
            masks.append(shown)
        if not tokens:
            raise ValueError(f"none of the privileged fields {', '.join(self.fields)} is in the batch")
        mask = torch.cat(masks, 1)
        return NoteLatents(self.resampler(torch.cat(tokens, 1), mask), mask.any(1))

    def prior_loss(self, predicted: Float[Tensor, "B K D"], notes: NoteLatents) -> Float[Tensor, ""]:
        """``1 - cos(W z_p, z_q)`` over the rows with notes, no gradient into the notes; zero with a path where none."""
        target = notes.values.detach()
        apart = 1 - F.cosine_similarity(self.predict(predicted.float()), target.float(), dim=-1)
        rows = notes.present.to(apart.dtype)
        return (apart.mean(1) * rows).sum() / rows.sum().clamp(min=1)

    def choose(self, notes: NoteLatents, progress: float = 0.0) -> Int[Tensor, " R"]:
        """The rows that read their notes now; ``progress`` is the part of training that is done."""
        rising = min(1.0, max(0.0, (progress - ANNEAL_FROM) / (1 - ANNEAL_FROM)))
        chance = self.row_dropout + (1 - self.row_dropout) * rising
        kept = self._kept(len(notes.present), chance).to(notes.present.device)
        return (notes.present & kept).nonzero().flatten()

    def read(self, notes: NoteLatents) -> Read:
        """What ``Student.respond`` adds to its embeddings: exactly nothing in rows without notes."""
        mask = notes.present[:, None].expand(-1, notes.values.shape[1])

        def added(text: Tensor) -> Tensor:
            read, _ = self.attention(text, notes.values.to(text.dtype), mask)
            # a row without notes would still read the null token
            return torch.where(notes.present[:, None, None], read, 0.0)

        return added

    def _kept(self, rows: int, chance: float) -> Tensor:
        """Which rows are kept; all of them outside training."""
        if not self.training or chance == 0:
            return torch.ones(rows, dtype=torch.bool)
        return torch.rand(rows, generator=self.generator) >= chance
