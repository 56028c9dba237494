"""What a student leans on: its gates, and where its text looks with notes and without.

Letters: ``B`` batch, ``L`` tokens of context and response, ``N`` tokens of the notes, ``K`` latents.

The privileged path is read out of a checkpoint, beside the student that is served without it, for this look alone. A
field's share is the attention of the text on the notes' latents times that of the latents on the field's tokens, as in
attention rollout (Abnar and Zuidema, ACL 2020), by one step. Attention shows where it looked, not what it used: of
that, ``gain`` tells more. Names of fields and rates, and never a word of a note.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from pride_mm.data.batch import Batch
from pride_mm.data.shards import Sample, ShardReader
from pride_mm.errors import BadSamples
from pride_mm.evaluation.gold import spread
from pride_mm.evaluation.predictions import Examinee, read_samples
from pride_mm.student.attention import Prefix
from pride_mm.training.privileged import NOTES, Place, PrivilegedPath

_PATH = "training.path."
_BATCH = 8
SAMPLES = 64
"""How many samples with notes are looked at."""


@dataclass(frozen=True)
class Noted:
    """A look at samples with their notes.

    Attributes:
        samples: how many had some.
        gate: tanh of the gate that notes are added through; None where they have none.
        fields: the mean share of attention on each privileged field, over the samples that have it.
        sources: on each source, in the pass with notes.
        gain: nats a token by which notes make the gold responses likelier; negative where they harm.
    """

    samples: int
    gate: float | None
    fields: dict[str, float]
    sources: dict[str, float]
    gain: float | None


@dataclass(frozen=True)
class Gates:
    """What of the sources goes in.

    Attributes:
        text: tanh of the gates that sources are added through, by the layer before which that is; 0 is the text.
        noted: with notes; None where there was no look.
        why: why there was none.
    """

    text: dict[int, float]
    noted: Noted | None
    why: str = ""


def gates(examinee: Examinee, checkpoint: Path, reader: ShardReader | None, settings: dict[str, Any]) -> Gates:
    """Look at a student and the privileged path beside it.

    Args:
        examinee: the student of ``checkpoint``.
        checkpoint: where the path was saved.
        reader: samples with notes; None at a site that has none.
        settings: of the run, flat.
    """
    student = examinee.student
    text = {}
    if not isinstance(student.attention, Prefix):
        text = {0: math.tanh(student.attention.gate.item())}
        text |= {int(at): math.tanh(one.gate.item()) for at, one in student.layer_attentions.items()}  # type: ignore[operator, union-attr]
    path = load_path(checkpoint, examinee)
    if path is None:
        return Gates(text, None, "it was trained without a privileged path, so it has never read a note")
    if reader is None:
        return Gates(text, None, "the notes are not at this site")
    noted = _Look(examinee, path, int(settings.get("data.max_note", 64))).all(reader)
    return Gates(text, noted, "" if noted else "no sample that was looked at has a note")


def load_path(checkpoint: Path, examinee: Examinee) -> PrivilegedPath | None:
    """The privileged path of a checkpoint; None where it has none, or one of another make."""
    with safe_open(checkpoint / "training.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith(_PATH)]  # noqa: SIM118  no mapping
        state = {name.removeprefix(_PATH): file.get_tensor(name).float() for name in names}
    if not state:
        return None
    config = examinee.student.config
    fields = tuple(field.name for field in examinee.schema.privileged)
    beside = any(name.startswith("attention.") for name in state)
    place: Place = "beside" if beside else "among" if "mark" in state else "instead"
    path = PrivilegedPath(fields, config.width, config.latents, place=place)
    path.load_state_dict(state)
    return path.eval()


class _Sums:
    """Means by name, over what has the name."""

    def __init__(self) -> None:
        self._given: dict[str, list[float]] = {}

    def add(self, name: str, values: Tensor, has: Tensor) -> None:
        self._given.setdefault(name, []).extend(values[has].tolist())

    @property
    def means(self) -> dict[str, float]:
        return {name: math.fsum(values) / len(values) for name, values in self._given.items() if values}


@dataclass
class _Look:
    examinee: Examinee
    path: PrivilegedPath
    max_note: int

    def __post_init__(self) -> None:
        self.collator = replace(self.examinee.collator, max_note=self.max_note)
        self.fields, self.sources = _Sums(), _Sums()
        self.samples, self.tokens, self.nats = 0, 0, [0.0, 0.0]

    @torch.inference_mode()
    def all(self, reader: ShardReader) -> Noted | None:
        """Look at evenly spaced samples that have notes."""
        for samples in self._noted(reader):
            self._add(self.collator(samples))
        if not self.samples:
            return None
        attention = self.path.attention
        return Noted(
            samples=self.samples,
            gate=None if attention is None else math.tanh(attention.gate.item()),
            fields=self.fields.means,
            sources=self.sources.means,
            gain=(self.nats[0] - self.nats[1]) / self.tokens if self.tokens else None,
        )

    def _noted(self, reader: ShardReader) -> Iterator[Sequence[Sample]]:
        place = {key: number for number, key in enumerate(reader.keys)}
        keys = spread(reader.keys, 4 * SAMPLES)  # not all of them need have notes
        left = SAMPLES
        for start in range(0, len(keys), _BATCH):
            read = read_samples(reader, [place[key] for key in keys[start : start + _BATCH]], BadSamples(_BATCH))
            fine = [one for one in read if one.privileged and self.examinee.fine([one])][:left]
            left -= len(fine)
            if fine:
                yield fine

    def _add(self, batch: Batch) -> None:
        student, path, schema = self.examinee.student, self.path, self.examinee.schema
        assert batch.privileged is not None
        notes, response = batch.privileged, batch.targets[schema.response.name]
        plain = student.respond(batch.inputs, response)
        latents = path.encode(notes, student.get_input_embeddings())
        read, sources = path.join(latents, plain.sources)
        noted = student.respond(batch.inputs, response, read, sources)
        self.samples += len(batch)
        self.tokens += int(response.mask.sum())
        for number, said in enumerate((plain, noted)):
            self.nats[number] += sum(self.examinee.nats(said.hidden, response))
        for column, name in enumerate(noted.sources.names):
            if name != NOTES:
                self.sources.add(name, noted.attention[:, column], noted.sources.present(name))
        for name, share in self._shares(batch, noted.attention).items():
            self.fields.add(name, share, notes[name].mask.any(1))

    def _shares(self, batch: Batch, attention: Tensor) -> dict[str, Tensor]:
        """The mean attention of each row's text on each field (B,)."""
        student, path, notes = self.examinee.student, self.path, batch.privileged
        assert notes is not None
        shown = path.shown(notes)
        embedding = student.get_input_embeddings()
        tokens = [embedding(notes[name].values) + path.field[path.fields.index(name)] for name in shown]
        on_tokens = path.resampler.looks(torch.cat(tokens, 1), torch.cat(list(shown.values()), 1))
        if path.attention is None:  # one softmax: what falls on the notes is known as a whole
            on_latents = attention[:, -1:].expand(-1, on_tokens.shape[1]) / on_tokens.shape[1]
        else:
            on_latents = self._on_latents(batch)
        on_notes = torch.einsum("bk,bkn->bn", on_latents, on_tokens).split([m.shape[1] for m in shown.values()], 1)
        return {name: (part * shown[name]).sum(1) for name, part in zip(shown, on_notes, strict=True)}

    def _on_latents(self, batch: Batch) -> Tensor:
        """The attention of each row's text on each latent of the notes (B, K), in their own softmax."""
        student, path, schema = self.examinee.student, self.path, self.examinee.schema
        assert path.attention is not None
        assert batch.privileged is not None
        said, response = batch.inputs[schema.dialogue.name], batch.targets[schema.response.name]
        text = student.get_input_embeddings()(torch.cat([said.values, response.values], 1))
        real = torch.cat([said.mask, response.mask], 1)[..., None]
        latents = path.encode(batch.privileged, student.get_input_embeddings())
        mask = latents.present[:, None].expand(-1, latents.values.shape[1])
        looks = path.attention.looks(text, path.attention.remember(latents.values, mask))
        return torch.where(real, looks, 0.0).sum(1) / real.sum(1).clamp(min=1)
