"""Samples for a person to read: what was asked, what the expert said, what each contender made of it."""

from collections.abc import Mapping, Sequence

from pride_mm.data.shards import Sample
from pride_mm.evaluation.gold import Gold
from pride_mm.evaluation.metrics import Likelihood
from pride_mm.evaluation.results import Example, Run
from pride_mm.schema import Schema, classes

EXTREMES = 3
"""How many gains and how many losses are shown of each run."""


def nats_per_token(likelihoods: Mapping[str, Likelihood], key: str) -> dict[str, float]:
    """What a token of a sample's gold response costs each contender that scored it."""
    found = {}
    for name, given in likelihoods.items():
        if key in given.keys:
            row = given.keys.index(key)
            found[name] = given.nats[row] / given.tokens[row]
    return found


def extremes(run: Likelihood, base: Likelihood, count: int = EXTREMES) -> list[tuple[str, float]]:
    """The samples with the largest gains and losses of a run against the base, in nats a token, gains first.

    A gain that is none is not shown, nor is a loss that is none.
    """
    before = {key: nats / tokens for key, nats, tokens in zip(base.keys, base.nats, base.tokens, strict=True)}
    gains = [
        (key, before[key] - nats / tokens)
        for key, nats, tokens in zip(run.keys, run.nats, run.tokens, strict=True)
        if key in before
    ]
    gains.sort(key=lambda one: (-one[1], one[0]))
    return [one for one in gains[:count] if one[1] > 0] + [one for one in gains[::-1][:count] if one[1] < 0]


def example(
    sample: Sample,
    schema: Schema,
    gold: Gold,
    runs: Sequence[Run],
    answers: Mapping[str, Mapping[str, str]],
    likelihoods: Mapping[str, Likelihood],
) -> Example:
    """One sample, with the answers of ``runs`` by run and key, and the likelihoods of all contenders."""
    key = sample.key
    heads = {head.name: classes(head) for head in schema.heads}
    media = [field.label for field in schema.inputs if isinstance(sample.inputs.get(field.name), bytes)]
    return Example(
        key=key,
        turns=sample.inputs[schema.dialogue.name],  # type: ignore[arg-type]
        media=tuple(media),
        response=gold.responses.get(key),
        labels={
            schema.get(name).label: names[gold.labels[name][key]]
            for name, names in heads.items()
            if key in gold.labels[name]
        },
        answers={run.name: answers[run.name][key] for run in runs},
        read={
            run.name: {
                schema.get(name).label: head.classes[head.predicted[key]]
                for name, head in run.heads.items()
                if key in head.predicted
            }
            for run in runs
        },
        nats=nats_per_token(likelihoods, key),
    )
