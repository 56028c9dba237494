"""``study.html``: what a study found, in one picture and two tables, on screen and in print."""

from pathlib import Path
from typing import TYPE_CHECKING

from annotate.study.results import Findings, agreement_of, sentence
from pride_mm.evaluation.preference import ASPECTS
from pride_mm.page import svg, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).parent / "templates" / "study.html.j2"
_INK, _LINE = "#1d2430", "#dde2ea"
_COLOURS = ("#2f6f6b", "#dde2ea", "#c46a2b")  # the first, a tie, the second


def write_study(path: Path, found: Findings) -> None:
    """Write the report as one HTML file that opens offline."""
    first, second = found.plan.contenders
    write_page(
        path,
        _TEMPLATE,
        title=f"Which answers people prefer: {first} against {second}",
        found=found,
        sentence=sentence(found),
        questions=ASPECTS,
        picture=svg(_bars(found)) if any(one.preference for one in found.aspects.values()) else None,
        agreement=agreement_of,
    )


def _bars(found: Findings) -> "Figure":
    """A bar an aspect: the share of wins, ties and losses."""
    from matplotlib.figure import Figure

    rows = [(name, one.preference) for name, one in found.aspects.items() if one.preference]
    figure = Figure(figsize=(6.6, 0.9 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(left=False, bottom=False, colors=_INK, labelsize=10)
    left = [0.0] * len(rows)
    first, second = found.plan.contenders
    for part, colour, label in zip(("win", "tie", "loss"), _COLOURS, (first, "tie", second), strict=True):
        shares = [100 * getattr(preference, part).value for _, preference in rows]
        bars = axes.barh([name for name, _ in rows], shares, left=left, color=colour, height=0.66, label=label)
        ink = _INK if part == "tie" else "white"
        axes.bar_label(bars, [f"{each:.0f}" if each >= 5 else "" for each in shares], label_type="center", color=ink)
        left = [begin + share for begin, share in zip(left, shares, strict=True)]
    axes.axvline(50, color=_LINE, linewidth=0.8, zorder=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9, frameon=False)
    return figure
