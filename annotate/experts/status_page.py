"""``status.html``: how far the annotation is, in tables and pictures. Pseudonyms only, and no note's text."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotate.experts.status import HOW, FieldStatus, Status
from pride_mm.page import svg, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).parent / "templates" / "status.html.j2"
_INK, _LINE = "#1d2430", "#dde2ea"
_DARK, _MIDDLE, _PALE = "#2f6f6b", "#b9cfcd", "#eef2f2"
_HOW_COLOURS = ("#c46a2b", "#e3b583", _DARK)
_EXPERT_COLOURS = (_DARK, "#c46a2b", "#5b5ea6", "#a63d5a", "#7a7d1f", "#4a7ba7")
_DAYS, _SHOWN = 60, 40  # days in the picture, and bars in one


def write_status(path: Path, status: Status) -> None:
    """Write the report as one HTML file that opens offline."""
    write_page(
        path,
        _TEMPLATE,
        title="How far the annotation is",
        status=status,
        annotated=sum(items for count, items in status.by_count.items() if count),
        twice=sum(items for count, items in status.by_count.items() if count > 1),
        coverage=svg(_coverage(status)),
        days=svg(_days(status)) if any(expert.days for expert in status.experts) else None,
        leads=svg(_leads(status)) if any(expert.leads for expert in status.experts) else None,
        drafts=svg(_drafts(status)) if status.drafted else None,
        rows=[_row(row) for row in status.fields],
    )


def _row(row: FieldStatus) -> dict[str, Any]:
    return {
        "label": row.control.label,
        "items": row.items,
        "one": row.one,
        "two": row.two,
        "drafts": [row.drafts[how] for how in HOW],
    }


def _axes(rows: int, least: float = 0.0) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, max(least, 0.75 + 0.34 * rows)))
    axes: Axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
    axes.tick_params(left=False, colors=_INK, labelsize=10)
    return figure, axes


def _coverage(status: Status) -> "Figure":
    rows = [row for row in status.fields if row.items] or status.fields
    figure, axes = _axes(len(rows) + 1, 1.6)
    labels = ["All items", *(row.control.label for row in rows)]
    asked = [status.items, *(row.items for row in rows)]
    one = [sum(n for count, n in status.by_count.items() if count), *(row.one for row in rows)]
    two = [sum(n for count, n in status.by_count.items() if count > 1), *(row.two for row in rows)]
    axes.barh(labels, asked, color=_PALE, height=0.66, label="asked for")
    axes.barh(labels, one, color=_MIDDLE, height=0.66, label="by one expert or more")
    axes.barh(labels, two, color=_DARK, height=0.66, label="by two or more")
    axes.invert_yaxis()
    axes.set_xlim(0, max([*asked, 1]))
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.4, -0.55 / figure.get_figheight()), ncols=3, fontsize=9, frameon=False
    )
    return figure


def _days(status: Status) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    worked = sorted({day for expert in status.experts for day in expert.days})
    last = date.fromisoformat(worked[-1])
    first = max(date.fromisoformat(worked[0]), last - timedelta(_DAYS - 1))
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    figure, axes = _axes(0, 2.4)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(_LINE)
    floor = [0] * len(days)
    for number, expert in enumerate(expert for expert in status.experts if expert.days):
        heights = [expert.days[day.isoformat()] for day in days]
        colour = _EXPERT_COLOURS[number % len(_EXPERT_COLOURS)]
        axes.bar(range(len(days)), heights, bottom=floor, color=colour, width=0.7, label=expert.annotator)
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    step = max(1, len(days) // 6)
    axes.set_xticks(range(0, len(days), step), [f"{day.day} {day:%b}" for day in days[::step]])
    axes.set_xlim(-0.8, max(len(days), 5) - 0.2)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(0, 1.3), ncols=3)
    return figure


def _leads(status: Status) -> "Figure":
    timed = [expert for expert in status.experts if expert.leads][:_SHOWN]
    figure, axes = _axes(len(timed), 1.3)
    minutes = [[lead / 60 for lead in expert.leads] for expert in timed]
    axes.boxplot(
        minutes, orientation="horizontal", tick_labels=[expert.annotator for expert in timed], showfliers=False,
        widths=0.5, patch_artist=True, boxprops={"facecolor": _MIDDLE, "edgecolor": _DARK},
        medianprops={"color": _INK, "linewidth": 2}, whiskerprops={"color": _DARK}, capprops={"color": _DARK},
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes an annotation", fontsize=10, color=_INK)
    return figure


def _drafts(status: Status) -> "Figure":
    rows = [row for row in status.fields if row.drafts]
    figure, axes = _axes(len(rows), 1.3)
    labels = [f"{row.control.label} ({row.drafts.total()})" for row in rows]
    left = [0.0] * len(rows)
    for how, colour in zip(HOW, _HOW_COLOURS, strict=True):
        shares = [100 * row.drafts[how] / row.drafts.total() for row in rows]
        axes.barh(labels, shares, left=left, color=colour, height=0.62, label=how)
        left = [begin + share for begin, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of drafted values", fontsize=10, color=_INK)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, 1 + 0.42 / figure.get_figheight()), ncols=3, fontsize=9, frameon=False
    )
    return figure


def table(status: Status) -> list[str]:
    """The status for a terminal of 80 columns."""
    annotated = sum(items for count, items in status.by_count.items() if count)
    twice = sum(items for count, items in status.by_count.items() if count > 1)
    lines = [f"{status.title}: {status.items} items, {annotated} annotated by experts, {twice} by two or more"]
    if status.loaded:
        said = ", ".join(f"{count} by {_plural(origin)}" for origin, count in sorted(status.loaded.items()))
        lines.append(f"besides: {said}")
    lines += ["", *_field_lines(status), "", *_expert_lines(status)]
    return lines


def _plural(origin: str) -> str:
    return {"corpus": "corpora", "model": "models"}.get(origin, origin)


def _field_lines(status: Status) -> list[str]:
    head = f"{'field':<28}{'items':>7}{'by one':>8}{'by two':>8}"
    lines = [head + ("".join(f"{how:>9}" for how in HOW) if status.drafted else "")]
    for row in status.fields:
        line = f"{row.control.label[:27]:<28}{row.items:>7}{row.one:>8}{row.two:>8}"
        total = row.drafts.total()
        if total:
            line += "".join(f"{row.drafts[how] / total:>9.0%}" for how in HOW)
        lines.append(line)
    return lines


def _expert_lines(status: Status) -> list[str]:
    if not status.experts:
        return ["no expert has annotated yet"]
    lines = [f"{'expert':<32}{'open':>5}{'done':>6}{'skipped':>8}{'an hour':>9}{'median (quartiles)':>20}"]
    for expert in status.experts:
        name = f"{expert.name} {expert.annotator}" if expert.name else expert.annotator
        open_ = "-" if expert.open is None else str(expert.open)
        hour = "-" if expert.an_hour is None else f"{expert.an_hour:.1f}"
        line = f"{name[:31]:<32}{open_:>5}{len(expert.done):>6}{len(expert.skipped):>8}{hour:>9}"
        lines.append(line + f"{_spread(expert.quartiles):>20}")
    return lines


def _spread(quartiles: Sequence[float] | None) -> str:
    if quartiles is None:
        return "-"
    low, middle, high = (f"{value / 60:.1f}" for value in quartiles)
    return f"{middle} min ({low}-{high})"
