"""The report's pictures, as inline SVG. One colour a run, the same in every picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from markupsafe import Markup

from pride_mm.evaluation.metrics import HeadScores
from pride_mm.evaluation.results import Run
from pride_mm.page import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f6f6b", "#c46a2b", "#5b5ea6", "#a63d5a", "#7a7d1f", "#4a7ba7")
_INK, _LINE = "#1d2430", "#dde2ea"
_MAX_POINTS = 400
# In the history for those who run the training, no part of what is learnt.
_NO_TERMS = ("data_wait", "gradient_norm", "tokens")


def figure_of(columns: int, rows: int, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure in the report's look with its axes, row by row; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        _plain(axis)
    return figure, list(axes.flat)


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_LINE)
    axis.tick_params(colors=_INK, labelsize=8, length=0)
    axis.grid(axis="y", color=_LINE, linewidth=0.6)
    axis.set_axisbelow(True)


class Logged(Protocol):
    """A run as far as its curves go."""

    @property
    def name(self) -> str:
        """The run's."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The lines of its ``metrics.jsonl``."""


def curves(runs: Sequence[Logged]) -> Markup | None:
    """The learning curve of each loss term: thin while training, thick and dotted on the validation split."""
    logged = dict.fromkeys(term for run in runs for line in run.history for term in line["terms"])
    terms = [term for term in logged if term.partition(".")[0] not in _NO_TERMS]
    if not terms:
        return None
    columns = min(3, len(terms))
    rows = -(-len(terms) // columns)
    figure, axes = figure_of(columns, rows, 3.3 * columns, 2.3 * rows)
    for axis, term in zip(axes, terms, strict=False):
        for number, run in enumerate(runs):
            _curve(axis, run, term, COLOURS[number % len(COLOURS)])
        axis.set_title(term.replace("_", " ").replace(".", ", "), fontsize=9, loc="left", color=_INK)
        axis.margins(x=0.02)
    for axis in axes[len(terms) :]:
        axis.set_visible(False)
    _legend(figure, runs)
    return svg(figure)


def _curve(axis: Any, run: Logged, term: str, colour: str) -> None:
    for split, style in (("train", {"linewidth": 0.9, "alpha": 0.75}), ("valid", {"linewidth": 1.6, "marker": "o"})):
        points = [
            (line["step"], line["terms"][term])
            for line in run.history
            if line["split"] == split and line["terms"].get(term) is not None
        ]
        points = points[:: max(1, len(points) // _MAX_POINTS)]
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, markersize=3, **style)


def _legend(figure: Any, runs: Sequence[Logged], places: Sequence[int] = ()) -> None:
    from matplotlib.lines import Line2D

    numbered = zip(places or range(len(runs)), runs, strict=True)
    handles = [Line2D([], [], color=COLOURS[number % len(COLOURS)], label=run.name) for number, run in numbered]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=min(6, len(handles)),
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
    )


def attention(runs: Sequence[Run]) -> Markup | None:
    """Bars: the share of attention that the text gives each source."""
    sources = list(dict.fromkeys(source for run in runs for source in run.attention))
    if not sources:
        return None
    return _bars(
        runs,
        [source.replace("_", " ") for source in sources],
        [[run.attention.get(s, np.nan) for s in sources] for run in runs],
    )


def noted(runs: Sequence[Run]) -> Markup | None:
    """Bars: the share of attention that the text gives each privileged field, where it reads notes."""
    looked = [run for run in runs if run.gates.noted is not None]
    fields = list(dict.fromkeys(name for run in looked for name in run.gates.noted.fields))  # type: ignore[union-attr]
    if not fields:
        return None
    values = [[run.gates.noted.fields.get(name, np.nan) for name in fields] for run in looked]  # type: ignore[union-attr]
    return _bars(looked, [name.replace("_", " ") for name in fields], values, [runs.index(run) for run in looked])


def reliability(runs: Sequence[Run], head: str) -> Markup | None:
    """How often a head is right, by how sure it is; on the diagonal it is as sure as it may be. A dot's area is its
    share of the samples.
    """
    scored = [(number, run) for number, run in enumerate(runs) if head in run.calibration]
    if not scored:
        return None
    figure, (axis,) = figure_of(1, 1, 3.6, 3.6)
    axis.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (2, 3)))
    for number, run in scored:
        bins = run.calibration[head].bins
        total = sum(one.samples for one in bins)
        colour = COLOURS[number % len(COLOURS)]
        at, right = [one.confidence for one in bins], [one.accuracy for one in bins]
        axis.plot(at, right, color=colour, linewidth=1.2)
        axis.scatter(at, right, s=[12 + 160 * one.samples / total for one in bins], color=colour, alpha=0.8, zorder=3)
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_aspect("equal")
    axis.set_xlabel("probability of the likeliest class", fontsize=8, color=_INK)
    axis.set_ylabel("share that is right", fontsize=8, color=_INK)
    _legend(figure, runs)
    return svg(figure)


def class_accuracy(runs: Sequence[Run], head: str) -> Markup | None:
    """Bars: for each class the share of its samples that was read right."""
    scored = [run for run in runs if head in run.heads]
    if not scored:
        return None
    matrices = [np.array(run.heads[head].matrix, dtype=float) for run in scored]
    counts = matrices[0].sum(1)
    classes = [number for number in range(len(counts)) if counts[number]]
    labels = [f"{scored[0].heads[head].classes[number]} ({counts[number]:.0f})" for number in classes]
    values = [[matrix[number, number] / matrix[number].sum() for number in classes] for matrix in matrices]
    return _bars(scored, labels, values)


def _bars(
    runs: Sequence[Run], labels: Sequence[str], values: Sequence[Sequence[float]], colours: Sequence[int] = ()
) -> Markup:
    """Bars by label and run; ``colours`` are the runs' places among all, where not all are here."""
    height = 0.7 + len(labels) * (0.12 + 0.13 * len(runs))
    figure, (axis,) = figure_of(1, 1, 7.2, height)
    places = np.arange(len(labels))[::-1].astype(float)
    thick = 0.8 / len(runs)
    place_of = list(colours) or list(range(len(runs)))
    for number, run in enumerate(runs):
        where = places + 0.4 - thick * (number + 0.5)
        colour = COLOURS[place_of[number] % len(COLOURS)]
        shown = np.nan_to_num(np.array(values[number], dtype=float))
        axis.barh(where, shown, height=0.85 * thick, color=colour, label=run.name)
        for place, value in zip(where, shown, strict=True):
            axis.text(value + 0.008, place, f"{100 * value:.0f} %", va="center", fontsize=7, color=_INK)
    axis.set_yticks(places, labels)
    axis.set_xlim(0, min(1.08, max(0.1, 1.15 * max((max(row) for row in np.nan_to_num(values)), default=1.0))))
    axis.set_ylim(-0.6, len(labels) - 0.4)
    axis.set_xticks([])
    axis.grid(visible=False)
    axis.spines["bottom"].set_visible(False)
    _legend(figure, runs, place_of)
    return svg(figure)


def confusion(name: str, head: HeadScores) -> Markup:
    """What was read for what: each row is a gold class and sums to one."""
    matrix = np.array(head.matrix, dtype=float)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    count = len(head.classes)
    side = 1.6 + min(0.36, 6 / count) * count
    figure, (axis,) = figure_of(1, 1, side, side)
    axis.pcolormesh(shares, cmap=_cmap(), vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    axis.set_aspect("equal")
    axis.invert_yaxis()
    small = 7 if count <= 12 else 5
    axis.set_xticks(np.arange(count) + 0.5, head.classes, rotation=90, fontsize=small)
    axis.set_yticks(np.arange(count) + 0.5, head.classes, fontsize=small)
    axis.set_xlabel("read", fontsize=8, color=_INK)
    axis.set_ylabel("gold", fontsize=8, color=_INK)
    axis.set_title(name, fontsize=9, loc="left", color=_INK)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    if count <= 12:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            dark = shares[row, column] > 0.55
            axis.text(
                column + 0.5,
                row + 0.5,
                f"{matrix[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="w" if dark else _INK,
            )
    return svg(figure)


def _cmap() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("page", ["#f6f8fb", "#8dbab5", COLOURS[0]])
