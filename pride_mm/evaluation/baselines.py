"""What needs no student: a constant answer, shuffled human answers, the human ones, and the most common class.

A student that does not beat the first two has learnt to be generic.
"""

from collections.abc import Callable, Sequence

from pride_mm.evaluation import metrics
from pride_mm.evaluation.gold import Gold, majority, written_baselines
from pride_mm.evaluation.results import Contender
from pride_mm.schema import Schema, classes


def baselines(
    schema: Schema,
    train: Gold | None,
    gold: Gold,
    answered: Sequence[str],
    compare: Callable[[Sequence[str]], metrics.Written] | None = None,
) -> list[Contender]:
    """A row each.

    ``answered`` are the keys whose answers are compared, each with a gold response; ``compare`` measures one text for
    each of them, None by the metrics that need no model.
    """
    rows = []
    if answered:
        right = [gold.responses[key] for key in answered]
        for name, texts in written_baselines(answered, gold).items():
            found = compare(texts) if compare else metrics.written(answered, texts, right, gold.group_of(answered))
            rows.append(Contender(name, "baseline", found.scores, found.empty))
    scores: dict[str, metrics.Score] = {}
    for head, (number, share) in majority(schema, train, gold).items():
        keys = [key for key in gold.keys if key in gold.labels[head]]
        labels = [gold.labels[head][key] for key in keys]
        names = classes(schema.get(head))  # type: ignore[arg-type]
        count = len(keys)
        guessed = metrics.head_scores(keys, gold.group_of(keys), labels, [number] * count, names, [share] * count)
        assert guessed is not None
        scores |= head_row(head, guessed)
    return [*rows, Contender("most common class", "baseline", scores)] if scores else rows


def head_row(name: str, read: metrics.HeadScores) -> dict[str, metrics.Score]:
    """What stands in the table of a head."""
    scores = {"accuracy": read.accuracy, "macro_f1": read.macro_f1, "calibration_error": read.calibration_error}
    return {f"{name}.{what}": score for what, score in scores.items() if score is not None}
