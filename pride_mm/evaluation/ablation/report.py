"""``ablation.html`` and ``ablation.json``: one table, one picture of the differences, and a verdict a line."""

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pride_mm.evaluation.ablation.findings import ArmFound, Findings, Mean
from pride_mm.evaluation.figures import COLOURS, figure_of
from pride_mm.evaluation.results import plain
from pride_mm.page import svg, write_page

_TEMPLATE = Path(__file__).parent.parent / "templates" / "ablation.html.j2"
_MORE = {"distinct_2": "Distinct-2", "empty": "Empty"}
"""Scores of answers that the table has beside the measures; all of them are in the JSON."""
_WIDE = 4
"""Panels of the picture side by side."""
_COLOUR = {"better": COLOURS[0], "same": "#9aa3af", "worse": COLOURS[3]}


def findings_json(found: Findings) -> dict[str, Any]:
    """What ``ablation.json`` holds; no text of any sample."""
    table = plain(found)
    for row, arm in zip(table["arms"], found.arms, strict=True):
        row["verdicts"] = {name: found.verdict(arm, name) for name in arm.effects}
    return {"format": 1, **table}


def number(value: float) -> str:
    """A score as the table shows it."""
    return f"{value:,.2f}"


def _cell(mean: Mean | None) -> dict[str, str] | None:
    if mean is None:
        return None
    value, spread = mean
    return {"value": number(value), "spread": "" if spread is None else f"± {spread:.2f}"}


def _columns(found: Findings) -> list[str]:
    """The measures that are compared, then some more scores of answers, where any row has them."""
    known = {name for row in found.rows for name in row.values}
    return [*found.better, *(name for name in _MORE if name in known)]


def _difference(found: Findings, arm: ArmFound, name: str) -> dict[str, Any]:
    effect = arm.effects[name]
    return {
        "measure": found.titles[name],
        "value": f"{effect.value:+.2f}",
        "range": f"{effect.low:+.2f} to {effect.high:+.2f}",
        "seeds": ", ".join(f"{one:+.2f}" for one in effect.by_seed),
        "size": "–" if effect.size is None else f"{effect.size:+.1f}",
        "p": f"{effect.adjusted:.3f}",
        "kind": effect.verdict,
        "verdict": found.verdict(arm, name),
    }


def picture(found: Findings) -> Markup:
    """Each arm's difference from the base with its interval, a panel a measure; colours say the verdict."""
    names = list(found.better)
    arms = found.arms[1:]
    wide, high = min(len(names), _WIDE), math.ceil(len(names) / _WIDE)
    figure, axes = figure_of(wide, high, 1.6 + 2.6 * wide, high * (0.9 + 0.3 * len(arms)))
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for number, (axis, name) in enumerate(zip(axes, names, strict=False)):
        for row, arm in enumerate(reversed(arms)):
            effect = arm.effects.get(name)
            if effect is None:
                continue
            colour = _COLOUR[effect.verdict]
            axis.plot([effect.low, effect.high], [row, row], color=colour, linewidth=2)
            axis.plot(effect.by_seed, [row] * len(effect.by_seed), "|", color=colour, markersize=7)
            axis.plot([effect.value], [row], "o", color=colour, markersize=5)
        axis.axvline(0, color="#1d2430", linewidth=0.8)
        axis.set_yticks(range(len(arms)), [arm.title for arm in reversed(arms)] if number % wide == 0 else [])
        axis.set_ylim(-0.6, len(arms) - 0.4)
        side = "left is better" if found.better[name] < 0 else "right is better"
        axis.set_title(f"{found.titles[name]} ({side})", fontsize=9, loc="left")
    return svg(figure)


def write_ablation(path: Path, found: Findings) -> None:
    """Write the page, whole or not at all."""
    write_page(
        path,
        _TEMPLATE,
        title=f"Ablation: {found.name}",
        found=found,
        columns=[(found.titles | _MORE)[name] for name in _columns(found)],
        rows=[{"row": row, "cells": [_cell(row.values.get(name)) for name in _columns(found)]} for row in found.rows],
        differences=[
            {
                "title": arm.title,
                "rows": [_difference(found, arm, name) for name in found.better if name in arm.effects],
            }
            for arm in found.arms[1:]
        ],
        picture=picture(found) if len(found.arms) > 1 and found.better else None,
    )
