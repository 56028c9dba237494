"""What is in a set of shards, split by split: how long, how many words, which targets, how many notes.

Counted sample by sample from the small members alone: no clip and no sound is read, and of notes only whether they
are there. Nothing grows with the samples but a number each for lengths.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as datum

from pipelines.overlap import words
from pride_mm.data.members import is_media
from pride_mm.data.sample import Sample
from pride_mm.data.seal import can_open
from pride_mm.data.shards import ShardSet
from pride_mm.errors import SampleError, UserError
from pride_mm.progress import Progress, silent
from pride_mm.schema import ChoiceField, Role, ScaleField, Schema, classes


@dataclass
class SplitStats:
    """One split.

    Attributes:
        samples: how many could be read; ``broken`` could not.
        seconds: how long the media are, by field: one number a sample that has them.
        turns, words: of each dialogue.
        corpora: how many samples come from each.
        present: how many samples have a field.
        values: of each target that is a choice or a scale how often it has which value.
        noted: whether the notes are here to be counted, and can be read.
        drafts: how many notes are a model's, left as they were.
    """

    samples: int = 0
    broken: int = 0
    seconds: dict[str, "array[float]"] = datum(default_factory=dict)
    turns: "array[int]" = datum(default_factory=lambda: array("I"))
    words: "array[int]" = datum(default_factory=lambda: array("I"))
    corpora: Counter[str] = datum(default_factory=Counter)
    present: Counter[str] = datum(default_factory=Counter)
    values: dict[str, Counter[str]] = datum(default_factory=dict)
    noted: bool = False
    drafts: int = 0

    def hours(self, name: str) -> float:
        """How many hours a field's media are long."""
        return sum(self.seconds.get(name, ())) / 3600


def gather(shards: ShardSet, progress: Progress = silent) -> dict[str, SplitStats]:
    """Count every split; a sample that is broken is counted as such.

    Notes are not counted where they are encrypted and the environment has no key; raises UserError for a wrong one.
    """
    total, done = sum(shards.splits.values()), 0
    stats: dict[str, SplitStats] = {}
    locked = not can_open(shards.manifest.sealed, shards.place)
    for split in shards.splits:
        counted = stats[split] = SplitStats(values={field.name: Counter() for field in shards.schema.heads})
        roles: tuple[Role, ...] = (Role.INPUT, Role.TARGET, Role.PRIVILEGED)
        try:
            reader = shards.samples(split, roles[:2] if locked else roles, media=False)
            counted.noted = bool(shards.schema.privileged) and not locked
        except UserError:  # a site that must not hold notes
            reader = shards.samples(split, roles[:2], media=False)
        for place in range(len(reader)):
            try:
                _count(counted, reader[place], shards.schema)
            except SampleError:
                counted.broken += 1
            done += 1
            progress(done, total, split)
    return stats


def _count(counted: SplitStats, sample: Sample, schema: Schema) -> None:
    counted.samples += 1
    counted.corpora[sample.corpus] += 1
    turns = sample.inputs.get(schema.dialogue.name, ())
    texts = [getattr(turn, "text", "") for turn in turns] if isinstance(turns, tuple) else []
    counted.turns.append(len(texts))
    counted.words.append(sum(len(words(text)) for text in texts))
    for name, about in dict(sample.meta.get("media") or {}).items():
        seconds = float(about.get("seconds", 0.0))
        if seconds > 0:
            counted.seconds.setdefault(name, array("f")).append(seconds)
            counted.present[name] += 1
    counted.present.update(sample.inputs.keys() | sample.targets.keys() | (sample.privileged or {}).keys())
    counted.drafts += len(sample.drafts)
    for field in schema.heads:
        if field.name in sample.targets:
            counted.values[field.name][str(sample.targets[field.name])] += 1


def table(stats: dict[str, SplitStats], schema: Schema) -> Iterable[str]:
    """The lines that the terminal shows, of at most 72 columns."""

    def row(label: str, cells: Iterable[str]) -> str:
        return f"{label[:32]:<32}" + "".join(f"{cell:>10}" for cell in cells)

    every = list(stats.values())
    yield row("", stats)
    yield row("samples", (f"{one.samples:,}" for one in every))
    if any(one.broken for one in every):
        yield row("broken (see pride check)", (f"{one.broken:,}" for one in every))
    for field in schema.inputs:
        if is_media(field):
            yield row(f"{field.label}, hours", (f"{one.hours(field.name):.2f}" for one in every))
            yield row("  have it", (share(one, field.name) for one in every))
    yield row("turns, mean", (_mean(one.turns) for one in every))
    yield row("words, mean", (_mean(one.words) for one in every))
    for field in schema.targets:
        yield row(field.label, (share(one, field.name) for one in every))
        if isinstance(field, ChoiceField | ScaleField):
            for value in classes(field):
                if any(one.values[field.name][value] for one in every):
                    yield row(f"  {value}", (f"{one.values[field.name][value]:,}" for one in every))
    for field in schema.privileged:
        yield row(f"note: {field.label}", (share(one, field.name) if one.noted else "not here" for one in every))
    for corpus in sorted({corpus for one in every for corpus in one.corpora}):
        yield row(f"from {corpus}", (f"{one.corpora[corpus]:,}" for one in every))


def share(one: SplitStats, name: str) -> str:
    """How many of the samples have a field, in percent."""
    return f"{one.present[name] / one.samples:.0%}" if one.samples else "-"


def _mean(values: "array[int]") -> str:
    return f"{sum(values) / len(values):.1f}" if values else "-"
