"""How alike two texts are, or two sets of time segments: 0 is nothing in common, 1 is the same."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pride_mm.schema import Span


def span_f1(one: Sequence[Span], other: Sequence[Span]) -> float:
    """F1 of the seconds that both marked alike; 1 where neither marked any."""
    labels = {span.label for span in (*one, *other)}
    merged = [(_merge(one, label), _merge(other, label)) for label in sorted(labels)]
    common = math.fsum(
        max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for left, right in merged for a in left for b in right
    )
    marked = math.fsum(end - start for sides in merged for side in sides for start, end in side)
    return 2 * common / marked if marked else float(sorted(map(str, one)) == sorted(map(str, other)))


def _merge(spans: Iterable[Span], label: str) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted((span.start, span.end) for span in spans if span.label == label):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def words(text: str) -> list[str]:
    """The words of a text in lower case; a script without spaces counts by character."""
    return re.findall(
        r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+", text.lower()
    )


def word_f1(one: str, other: str) -> float:
    """F1 of the words that two texts share, as multisets."""
    left, right = Counter(words(one)), Counter(words(other))
    total = sum(left.values()) + sum(right.values())
    return 2 * sum((left & right).values()) / total if total else float(one.strip() == other.strip())
