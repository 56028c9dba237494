"""What the measures say against items: one line a finding, in a file beside the report."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import IO

from pipelines.quality.measured import Measured
from pipelines.quality.rule import Action, Rule

# Of each measure so many are shown on the page.
SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One measure against one item; ``like`` is the item that it is a copy of. Holds no text of the item."""

    item: str
    corpus: str
    split: str
    field: str | None
    measure: str
    action: Action
    reason: str
    like: str | None = None
    like_split: str | None = None

    @property
    def across(self) -> bool:
        """Whether it is a copy of an item of another split."""
        return self.like_split is not None and self.like_split != self.split


class Findings:
    """Findings on their way to their file: counted, and the first of each measure kept to be shown."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.counts: Counter[tuple[str, Action]] = Counter()
        self.across: Counter[str] = Counter()
        self.first: dict[str, list[Finding]] = {}

    def add(self, finding: Finding) -> None:
        self._file.write(json.dumps(asdict(finding), ensure_ascii=False).encode() + b"\n")
        self.counts[finding.measure, finding.action] += 1
        self.across[finding.measure] += finding.across
        first = self.first.setdefault(finding.measure, [])
        if len(first) < SHOWN:
            first.append(finding)


def judged(measured: Measured, rules: dict[str, Rule]) -> list[tuple[str | None, str, str]]:
    """What the rules say against an item's figures: field, measure and reason."""
    found: list[tuple[str | None, str, str]] = []
    if rules["unreadable"].action != "off":
        found += [(field or None, "unreadable", reason) for field, reason in measured.broken.items()]
    for field, figures in measured.figures.items():
        for name, figure in figures.items():
            reason = rules[name].reason(figure) if rules[name].action != "off" else None
            if reason is not None:
                found.append((field, name, reason))
    return found
