"""What a teacher gave the gold responses of a split, from its cache: the figure that stands beside a student's."""

from pride_mm.data.shards import ShardSet
from pride_mm.data.teaching import Lesson
from pride_mm.errors import SampleError
from pride_mm.evaluation.gold import Gold
from pride_mm.evaluation.metrics import Likelihood

TEACHERS = {
    "given": "teacher, with notes",
    "none": "teacher, without notes",
    "shuffled": "teacher, with notes of others",
}
"""What a teacher is called, by the notes that it has read."""


def taught_likelihood(shards: ShardSet, split: str, like: Likelihood, gold: Gold) -> Likelihood | None:
    """Of the responses that a student has scored, too, as many tokens long; None where there is none.

    Raises:
        UserError: a tar of the teacher's is missing.
    """
    reader = shards.samples(split, roles=(), teacher=True)
    sizes = dict(zip(like.keys, zip(like.tokens, like.bytes, strict=True), strict=True))
    found = []
    for place, key in enumerate(reader.keys):
        if key not in sizes:
            continue
        try:
            lesson = Lesson.from_bytes(reader[place].teacher or b"")
        except (SampleError, ValueError):
            continue
        tokens = len(lesson.gold_log_probs)
        if not lesson.written and tokens == sizes[key][0]:
            found.append((key, -float(lesson.gold_log_probs.double().sum()), tokens, sizes[key][1]))
    if not found:
        return None
    keys, nats, counts, bytes_ = zip(*found, strict=True)
    return Likelihood(keys, tuple(gold.group_of(keys)), nats, counts, bytes_)
