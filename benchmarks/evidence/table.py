"""``python -m benchmarks.evidence.table OUT/ablation.json``: what ``pride ablate`` found, as a table of Markdown."""

import json
import sys
from pathlib import Path
from typing import Any


def cell(row: dict[str, Any], name: str) -> str:
    """A mean over seeds with its standard deviation, and for an arm the difference from the base with its interval."""
    if name not in row["values"]:
        return ""
    value, spread = row["values"][name]
    text = f"{value:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")
    effect = row.get("effects", {}).get(name)
    if effect is None:
        return text
    told = {"better": "**", "worse": "**", "same": ""}[verdict(row, name)]
    return f"{text}; {told}{effect['value']:+.2f}{told} ({effect['low']:+.2f} to {effect['high']:+.2f})"


def verdict(row: dict[str, Any], name: str) -> str:
    """The verdict as one word."""
    said = row["verdicts"].get(name, "")
    return "better" if said.startswith("better") else "worse" if said.startswith("worse") else "same"


def main() -> None:
    """See the module."""
    found = json.loads(Path(sys.argv[1]).read_bytes())
    names = list(found["better"])
    print("| | " + " | ".join(found["titles"][name] for name in names) + " | epochs | seconds |")
    print("|---" * (len(names) + 3) + "|")
    for row in [*found["arms"], *found["beside"]]:
        cells = [cell(row, name) for name in names]
        effort = [str(row["epochs"]), f"{row['seconds']:.0f}"] if "seconds" in row else ["", ""]
        print(f"| {row.get('title', row['name'])} | " + " | ".join([*cells, *effort]) + " |")


if __name__ == "__main__":
    main()
