"""How much of one text is in others, word for word: what was copied shows in runs of words that both have."""

import re
from collections.abc import Iterable

# a run of words that two texts hardly share by chance
RUN = 5
_WORD = re.compile(r"[\w']+")


def words(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    return _WORD.findall(text.casefold())


def runs(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every run of ``RUN`` words in any of the texts."""
    found = set()
    for text in texts:
        said = words(text)
        found |= {tuple(said[place : place + RUN]) for place in range(len(said) - RUN + 1)}
    return found


def covered(text: str, others: Iterable[str]) -> float:
    """The share of a text's words, 0 to 1, that lie in a run of words which the others have, too."""
    said = words(text)
    if len(said) < RUN:
        return 0.0
    known = runs(others)
    shared = [False] * len(said)
    for place in range(len(said) - RUN + 1):
        if tuple(said[place : place + RUN]) in known:
            shared[place : place + RUN] = [True] * RUN
    return sum(shared) / len(said)
