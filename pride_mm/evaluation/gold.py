"""The gold side of a split: what the experts answered and labelled, and what needs no student to score.

Baselines stand in every table: a constant answer, other people's answers shuffled, and the gold answers
themselves; the most common class for each head. A student that does not beat the first two has
learnt to be generic.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, SampleError
from pride_mm.schema import Role, Schema, classes

CONSTANT = "I'm sorry you have to go through this. How do you feel about it now?"


@dataclass(frozen=True)
class Gold:
    """The targets of a split, in the order of its keys.

    Attributes:
        responses: by key, where there is one.
        labels: class numbers by head and key, where there is one.
        groups: what must not be torn apart, by key: the dialogue or the speaker.
    """

    keys: tuple[str, ...]
    groups: dict[str, str]
    responses: dict[str, str]
    labels: dict[str, dict[str, int]]

    def group_of(self, keys: Sequence[str]) -> list[str]:
        return [self.groups[key] for key in keys]


def read_gold(shards: ShardSet, split: str, bad: BadSamples) -> Gold:
    """Read the targets of a split; a broken sample is counted in ``bad``."""
    schema = shards.schema
    reader = shards.samples(split, roles=(Role.TARGET,))
    keys: list[str] = []
    groups: dict[str, str] = {}
    responses: dict[str, str] = {}
    labels: dict[str, dict[str, int]] = {head.name: {} for head in schema.heads}
    for place, key in enumerate(reader.keys):
        try:
            sample = reader[place]
        except SampleError as error:
            bad.add(error)
            continue
        keys.append(key)
        groups[key] = str(sample.meta.get("group") or key)
        if schema.response.name in sample.targets:
            responses[key] = str(sample.targets[schema.response.name])
        for head in schema.heads:
            if head.name in sample.targets:
                labels[head.name][key] = classes(head).index(str(sample.targets[head.name]))
    return Gold(tuple(keys), groups, responses, labels)


def spread(keys: Sequence[str], count: int) -> list[str]:
    """At most ``count`` keys, evenly spaced, so that every corpus in the split is met."""
    if len(keys) <= count:
        return list(keys)
    return [keys[number * len(keys) // count] for number in range(count)]


def shuffled(keys: Sequence[str], gold: Gold, seed: int = 0) -> list[str]:
    """For each key the gold answer of another group where that can be had, drawn without a pattern."""
    order = np.random.default_rng(seed).permutation(len(keys)).tolist()
    place = {number: order[(at + 1) % len(order)] for at, number in enumerate(order)}
    answers = []
    for number, key in enumerate(keys):
        other = place[number]
        for _ in range(len(order)):
            if gold.groups[keys[other]] != gold.groups[key]:
                break
            other = place[other]
        answers.append(gold.responses[keys[other]])
    return answers


def written_baselines(keys: Sequence[str], gold: Gold) -> dict[str, list[str]]:
    """Answers that nobody generated, by the baseline's name."""
    return {
        "constant answer": [CONSTANT] * len(keys),
        "shuffled human": shuffled(keys, gold),
        "human": [gold.responses[key] for key in keys],
    }


def majority(schema: Schema, train: Gold | None, gold: Gold) -> dict[str, tuple[int, float]]:
    """The most common class of each head, and its share, in the training split, else in the split itself."""
    found = {}
    for head in schema.heads:
        if gold.labels[head.name]:
            learnt = train.labels.get(head.name) if train is not None else None
            counts = Counter((learnt or gold.labels[head.name]).values())
            number, count = counts.most_common(1)[0]
            found[head.name] = number, count / counts.total()
    return found
