"""The figures of a set of shards as one page with pictures; it shows counts and lengths, and no text of any sample."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.look.stats import SplitStats, share
from pride_mm.data.members import is_media
from pride_mm.page import svg, write_page
from pride_mm.schema import Schema, classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).parent / "templates" / "stats.html.j2"
_COLOURS = ("#2f6f6b", "#c46a2b", "#5b6fa8", "#8d8d3f")
_BINS = 24


def write_stats_page(path: Path, stats: dict[str, SplitStats], schema: Schema, place: str) -> None:
    """Write the page."""
    media = [field for field in schema.inputs if is_media(field)]
    rows = [
        {"label": f.label, "cells": [f"{one.hours(f.name):.2f} h in {share(one, f.name)}" for one in stats.values()]}
        for f in media
    ]
    rows += [{"label": f.label, "cells": [share(one, f.name) for one in stats.values()]} for f in schema.targets]
    notes = [
        {"label": f.label, "cells": [share(one, f.name) if one.noted else "not here" for one in stats.values()]}
        for f in schema.privileged
    ]
    corpora = sorted({corpus for one in stats.values() for corpus in one.corpora})
    write_page(
        path,
        _TEMPLATE,
        title="What is in the shards",
        place=place,
        schema=schema,
        stats=stats,
        rows=rows,
        notes=notes,
        drafts=sum(one.drafts for one in stats.values()),
        corpora=[(corpus, [one.corpora[corpus] for one in stats.values()]) for corpus in corpora],
        lengths=svg(_lengths(stats, schema)),
        targets=svg(_targets(stats, schema)) if any(any(one.values.values()) for one in stats.values()) else None,
        coverage=svg(_coverage(stats, schema)) if any(one.noted for one in stats.values()) else None,
    )


def _lengths(stats: dict[str, SplitStats], schema: Schema) -> "Figure":
    """Histograms: seconds of each kind of media, turns and words of a dialogue; splits on top of each other."""
    import numpy as np
    from matplotlib.figure import Figure

    drawn: list[tuple[str, list[Any]]] = [
        (f"{field.label}, seconds", [one.seconds.get(field.name, ()) for one in stats.values()])
        for field in schema.inputs
        if is_media(field) and any(field.name in one.seconds for one in stats.values())
    ]
    drawn.append(("Turns of a dialogue", [one.turns for one in stats.values()]))
    drawn.append(("Words of a dialogue", [one.words for one in stats.values()]))
    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(9, 2.3 * rows), layout="constrained")
    every = figure.subplots(rows, 2, squeeze=False).reshape(-1)
    for axes in every[len(drawn) :]:
        axes.set_visible(False)
    for axes, (title, given) in zip(every, drawn, strict=False):
        values = [np.asarray(one, dtype=float) for one in given]
        top = max((float(one.max()) for one in values if len(one)), default=0.0)
        bins = np.arange(0.5, top + 1) if title.startswith("Turns") and top <= _BINS else _BINS
        axes.hist(values, bins=bins, stacked=True, color=_of(len(values)), label=list(stats))
        axes.yaxis.get_major_locator().set_params(integer=True)
        _plain(axes, title)
    every[0].legend(frameon=False, fontsize=8)
    return figure


def _targets(stats: dict[str, SplitStats], schema: Schema) -> "Figure":
    """How often each target has which value, the splits side by side as shares of their samples."""
    from matplotlib.figure import Figure

    heads = [field for field in schema.heads if any(one.values[field.name] for one in stats.values())]
    figure = Figure(figsize=(9, 2.5 * len(heads)), layout="constrained")
    for axes, field in zip(figure.subplots(len(heads), 1, squeeze=False).reshape(-1), heads, strict=True):
        names = classes(field)
        width = 0.8 / len(stats)
        for number, (split, one) in enumerate(stats.items()):
            count = sum(one.values[field.name].values()) or 1
            shares = [100 * one.values[field.name][name] / count for name in names]
            places = [place + number * width for place in range(len(names))]
            axes.bar(places, shares, width=width, color=_of(len(stats))[number], label=split)
        centre = 0.4 - width / 2
        axes.set_xticks([place + centre for place in range(len(names))], names, rotation=30 if len(names) > 10 else 0)
        _plain(axes, f"{field.label}, % of those that have it")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _coverage(stats: dict[str, SplitStats], schema: Schema) -> "Figure":
    """How many samples have which note, in percent."""
    from matplotlib.figure import Figure

    fields = schema.privileged
    figure = Figure(figsize=(9, 0.5 + 0.42 * len(fields)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(stats)
    for number, (split, one) in enumerate(stats.items()):
        shares = [100 * one.present[field.name] / one.samples if one.samples else 0 for field in fields]
        places = [place + number * height for place in range(len(fields))]
        axes.barh(places, shares, height=height, color=_of(len(stats))[number], label=split)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(fields))], [field.label for field in fields])
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    _plain(axes, "% of the samples")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _of(splits: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(splits)]


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
