"""The audit for leaks, as checks that each name what they have found: of runs, and of the notes in shards.

A check names keys, fields and groups, and never a word of a note. What it says of notes in the inputs counts runs of
words, so a note that was put in other words is not found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pride_mm.data.seal import can_open
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.evaluation.examined import load_examinee
from pride_mm.evaluation.gold import spread
from pride_mm.evaluation.leakage import Leakage, OverlapCounter, check_leakage
from pride_mm.evaluation.predictions import read_samples
from pride_mm.page import write_page
from pride_mm.progress import Progress, silent
from pride_mm.schema import Role

_TEMPLATE = Path(__file__).parent / "templates" / "leakage.html.j2"
_BATCH = 8


@dataclass(frozen=True)
class Check:
    """One question of the audit and its answer.

    Attributes:
        title: what was asked.
        looked: how many were looked at, and of what: ``64 samples of the split 'test'``. What could not be looked at
            says here why.
        found: what speaks against it, by key; empty is well.
        said: what else there is to say.
    """

    title: str
    looked: str
    found: tuple[str, ...] = ()
    said: str = ""

    @property
    def clean(self) -> bool:
        return not self.found


def check_run(
    run: Path, shards: ShardSet, split: str, samples: int, bad: BadSamples, progress: Progress = silent
) -> Check:
    """Whether a run's predictions are equal by bit whatever is done to the notes.

    Args:
        run: its folder.
        shards: with the notes, where this site has them; where not, the check makes some.
        split: whose samples are predicted.
        samples: how many of them, evenly spaced.
        bad: counts samples that cannot be read.
        progress: told of every batch.

    Raises:
        UserError: not a run, a run of another schema, or no such split.
    """
    name = run.resolve().name
    title = f"the notes and the predictions of '{name}'"
    examinee = load_examinee(run, shards)
    if not shards.schema.privileged:
        return Check(title, "the schema has no privileged field")
    can_open(shards.manifest.sealed, shards.place)  # raises: a wrong key is no site without notes
    try:
        reader = shards.samples(split, (Role.INPUT, Role.TARGET, Role.PRIVILEGED))
    except UserError:
        reader = shards.samples(split)
    place = {key: number for number, key in enumerate(reader.keys)}
    keys = spread(reader.keys, samples)
    found: list[Leakage] = []
    for start in range(0, len(keys), _BATCH):
        read = read_samples(reader, [place[key] for key in keys[start : start + _BATCH]], bad)
        if fine := [sample for sample in read if examinee.fine([sample], bad)]:
            found.append(check_leakage(shards.schema, fine, examinee.collator, examinee.everything))
        progress(min(start + _BATCH, len(keys)), len(keys), name)
    if not found:
        raise UserError(f"The split '{split}' of {shards.place} has no sample that '{name}' could answer.")
    return Check(
        title,
        f"{sum(one.samples for one in found):,} samples of the split '{split}'",
        tuple(f"{key} ({variants})" for key, variants in _differing(found).items()),
        f"{', '.join(found[0].outputs)}: compared by bit with notes present, {', '.join(found[0].variants)}",
    )


def _differing(found: Sequence[Leakage]) -> dict[str, str]:
    """The variants of the notes with which each key's predictions differ."""
    variants: dict[str, list[str]] = {}
    for leakage in found:
        for variant, keys in leakage.variants.items():
            for key in keys:
                variants.setdefault(key, []).append(variant)
    return {key: ", ".join(names) for key, names in variants.items()}


def check_notes(shards: ShardSet, progress: Progress = silent) -> list[Check]:
    """Whether notes stand in the inputs, or responses in the notes, over all splits; two checks a field of text.

    Samples that cannot be read are left out here: whoever looks at the splits names them.
    """
    can_open(shards.manifest.sealed, shards.place)
    counter = OverlapCounter(shards.schema)
    total, done = sum(shards.splits.values()), 0
    for split, size in shards.splits.items():
        try:
            reader = shards.samples(split, (Role.INPUT, Role.TARGET, Role.PRIVILEGED), media=False)
        except UserError:
            done += size
            continue
        for place in range(size):
            try:
                counter.add(reader[place])
            except SampleError:
                continue
            finally:
                done += 1
                progress(done, total, "notes")
    checks = []
    for name, overlap in counter.result().items():
        looked = f"{overlap.samples:,} notes"
        share = f"of their runs of words {overlap.inputs:.1%} stand there, on average"
        checks.append(Check(f"'{name}' in what the student sees", looked, overlap.near, share))
        share = f"of the notes' runs of words {overlap.response:.1%} stand in the response, on average"
        checks.append(Check(f"the response in '{name}'", looked, overlap.echoed, share))
    return checks or [Check("the notes in what the student sees", "no note of text is in these shards")]


def write_audit(path: Path, place: str, checks: Sequence[Check], bad: BadSamples) -> None:
    """Write the audit as a page, whole or not at all."""
    write_page(
        path,
        _TEMPLATE,
        title="Leakage audit",
        place=place,
        checks=checks,
        dirty=[check for check in checks if not check.clean],
        bad=[str(error) for error in bad],
    )
