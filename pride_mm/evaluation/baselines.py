"""What needs no student: a constant answer, shuffled human answers, the human ones, and the most common class.

A student that does not beat the first two has learnt to be generic.
"""

from collections.abc import Sequence

from pride_mm.evaluation import metrics
from pride_mm.evaluation.gold import Gold, majority, written_baselines
from pride_mm.evaluation.results import Contender
from pride_mm.schema import Schema, classes


def baselines(schema: Schema, train: Gold | None, gold: Gold, answered: Sequence[str]) -> list[Contender]:
    """A row each; ``answered`` are the keys whose answers are compared, each with a gold response."""
    rows = []
    if answered:
        right = [gold.responses[key] for key in answered]
        for name, texts in written_baselines(answered, gold).items():
            found = metrics.written(answered, texts, right)
            rows.append(Contender(name, "baseline", found.scores, found.empty))
    scores: dict[str, metrics.Score] = {}
    for head, number in majority(schema, train, gold).items():
        keys = [key for key in gold.keys if key in gold.labels[head]]
        labels = [gold.labels[head][key] for key in keys]
        names = classes(schema.get(head))  # type: ignore[arg-type]
        guessed = metrics.head_scores(keys, gold.group_of(keys), labels, [number] * len(keys), names)
        assert guessed is not None
        scores |= {f"{head}.accuracy": guessed.accuracy, f"{head}.macro_f1": guessed.macro_f1}
    return [*rows, Contender("most common class", "baseline", scores)] if scores else rows
