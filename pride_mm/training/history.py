"""``metrics.jsonl``: one JSON object a line, each loss term by its name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pride_mm.files import write_jsonl


class History:
    """Appends to a run's ``metrics.jsonl``.

    A line is ``{"step", "split", "terms": {name: value}, "lr", "seconds", "memory_mib"}``; ``split`` is ``train`` or
    ``valid``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Forget what came after ``step``: a resumed run says it again."""
        if self.path.exists():
            write_jsonl(self.path, [line for line in read_history(self.path) if line["step"] <= step])

    def add(
        self, step: int, split: str, terms: Mapping[str, float], lr: float, seconds: float, memory_mib: float
    ) -> None:
        """Append one line; at once, so that a killed run keeps it."""
        line = {
            "step": step,
            "split": split,
            "terms": {name: round(value, 6) for name, value in terms.items()},
            "lr": lr,
            "seconds": round(seconds, 3),
            "memory_mib": round(memory_mib),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; a last line that was cut by a kill is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
