"""What the trials of one arm said, as sums that can be resampled: perplexity, heads, and what the answers have of gold.

Letters: ``E`` seeds, ``G`` groups, ``C`` sums or classes.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pride_mm.evaluation import metrics
from pride_mm.evaluation.ablation.effects import Measured
from pride_mm.evaluation.bootstrap import Array
from pride_mm.evaluation.examined import Predictions
from pride_mm.evaluation.gold import Gold
from pride_mm.schema import Schema, classes

ANSWERS = {"bleu": "BLEU", "rouge_l": "ROUGE-L", "meteor": "METEOR"}
"""Measures of what was answered, with what people call them."""


def measure(
    schema: Schema, gold: Gold, trials: Sequence[Predictions], written: Sequence[metrics.Written]
) -> dict[str, Measured]:
    """Each measure by its name: ``perplexity``, of each head ``NAME.accuracy`` and ``NAME.macro_f1``, and ``ANSWERS``.

    ``written`` is what each trial's answers were found to be worth.
    A measure of which any trial has nothing is left out. Samples that one trial could not read count in none.
    """
    names = sorted(set(gold.groups.values()))
    place = {name: number for number, name in enumerate(names)}
    found: dict[str, Measured] = {}
    seen = set.intersection(*(set(trial.likelihood.keys) for trial in trials))
    if seen:
        sums = np.zeros((len(trials), len(names), 2))
        for number, trial in enumerate(trials):
            like = trial.likelihood.on([key for key in trial.likelihood.keys if key in seen])
            rows = [place[gold.groups[key]] for key in like.keys]
            np.add.at(sums[number], rows, np.stack([like.nats, like.tokens], 1))
        found["perplexity"] = Measured(sums, _perplexity, -1)
    reads = [trial.read for trial in trials]
    for head in schema.heads:
        labels = gold.labels[head.name]
        keys = [key for key in gold.keys if key in labels and all(key in read[head.name] for read in reads)]
        if not keys:
            continue
        count = len(classes(head))
        table = np.zeros((len(trials), len(names), count * count))
        for number, read in enumerate(each[head.name] for each in reads):
            rows = [place[gold.groups[key]] for key in keys]
            np.add.at(table[number], (rows, [labels[key] * count + read[key] for key in keys]), 1.0)
        found[f"{head.name}.accuracy"] = Measured(table, _accuracy, 1)
        found[f"{head.name}.macro_f1"] = Measured(table, _macro_f1, 1)
    return found | _of_answers(gold, trials, written, place)


def _of_answers(
    gold: Gold, trials: Sequence[Predictions], written: Sequence[metrics.Written], place: Mapping[str, int]
) -> dict[str, Measured]:
    """Those of ``ANSWERS``; ``place`` is a group's row."""
    keys = [key for key in gold.responses if all(key in trial.answers for trial in trials)]
    if not keys:
        return {}
    right, rows = [gold.responses[key] for key in keys], [place[gold.groups[key]] for key in keys]
    sums = {name: [[[one.each[name][key], 1.0] for key in keys] for one in written] for name in ("rouge_l", "meteor")}
    sums["bleu"] = [metrics.bleu_sums([trial.answers[key] for key in keys], right) for trial in trials]
    found = {}
    for name in ANSWERS:
        table = np.zeros((len(trials), len(place), len(sums[name][0][0])))
        for number, each in enumerate(sums[name]):
            np.add.at(table[number], rows, each)
        found[name] = Measured(table, _bleu if name == "bleu" else _mean, 1)
    return found


def titles(schema: Schema) -> dict[str, str]:
    """What people call each measure."""
    named = {"perplexity": "Perplexity"}
    for head in schema.heads:
        named |= {
            f"{head.name}.accuracy": f"{head.label}, accuracy",
            f"{head.name}.macro_f1": f"{head.label}, macro-F1",
        }
    return named | ANSWERS


def _mean(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _bleu(sums: Array) -> Array:
    found = [metrics.bleu_of(row) for row in sums.reshape(-1, sums.shape[-1]).tolist()]
    return np.array(found).reshape(sums.shape[:-1])


def _perplexity(sums: Array) -> Array:
    return np.exp(sums[..., 0] / sums[..., 1])


def _matrix(sums: Array) -> Array:
    count = math.isqrt(sums.shape[-1])
    return sums.reshape(*sums.shape[:-1], count, count)


def _accuracy(sums: Array) -> Array:
    return 100 * np.trace(_matrix(sums), axis1=-2, axis2=-1) / sums.sum(-1)


def _macro_f1(sums: Array) -> Array:
    """Over the classes that occur in the gold labels, as ``metrics.head_scores``."""
    matrix = _matrix(sums)
    right, gold, read = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)
    each = np.where(gold > 0, 2 * right / np.maximum(gold + read, 1e-9), 0.0)
    return 100 * each.sum(-1) / np.maximum((gold > 0).sum(-1), 1)


def mean_and_spread(values: Sequence[float] | Array) -> tuple[float, float | None]:
    """The mean, and the standard deviation where there is more than one."""
    given = np.asarray(values, dtype=np.float64)
    return float(given.mean()), float(given.std(ddof=1)) if len(given) > 1 else None


def averages(found: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float | None]]:
    """Mean and spread of each score that all trials have."""
    names = [name for name in found[0] if all(name in one for one in found)] if found else []
    return {name: mean_and_spread([one[name] for one in found]) for name in names}
