"""The page of a quality gate: what was dropped and why, the figures behind it, and some of it to look at.

It shows what the items hold, never a note. Letters: ``F`` frames, ``H`` height, ``W`` width, ``N`` samples.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipelines.quality.findings import Finding
from pipelines.quality.gate import Gated
from pipelines.quality.settings import QualitySettings
from pipelines.workers import Lost, Workers
from pride_mm.page import svg, write_page
from pride_mm.records import Item
from pride_mm.schema import AudioField, Media, Schema, Turn, VideoField

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).parent / "templates" / "quality.html.j2"
_SIDE, _LEVELS, _EXCERPT = 180, 90, 160
_KEPT, _SPOKEN_AGAINST = "#2f6f6b", "#c46a2b"


@dataclass(frozen=True)
class Look:
    """What the page shows of an item: a frame as JPEG, the levels of its sound 0 to 1, its last words."""

    frame: bytes | None
    levels: tuple[float, ...]
    words: str


def write_report(path: Path, gated: Gated, settings: QualitySettings, schema: Schema, pool: Workers) -> None:
    """Write the page; some of the clips that were spoken against are decoded for it."""
    shown = [pair for found in gated.first.values() for pair in found]
    looks = pool.run(partial(look, schema, settings), [item for _, item in shown])
    cards = [_card(finding, result, schema) for (finding, _), result in zip(shown, looks, strict=True)]
    rules = settings.rules()
    rows = [
        {
            "name": name,
            "title": rule.title,
            "action": rule.action,
            "dropped": gated.findings[name, "drop"],
            "reported": gated.findings[name, "report"],
            "across": gated.across[name],
            "cards": [card for card in cards if card["measure"] == name],
        }
        for name, rule in rules.items()
    ]
    write_page(
        path,
        _TEMPLATE,
        title="Quality of items",
        gated=gated,
        total=sum(gated.items.values()),
        rows=rows,
        corpora=sorted(gated.items),
        picture=svg(histograms(gated, settings)) if gated.figures else None,
    )


def look(schema: Schema, settings: QualitySettings, item: Item) -> Look:
    """Read what the page shows of an item; what cannot be read is left out."""
    from pipelines.quality.material import read_pictures, read_sound
    from pride_mm.media import MediaError

    frame: bytes | None = None
    levels: tuple[float, ...] = ()
    turns = item.inputs[schema.dialogue.name]
    last = turns[-1].text if isinstance(turns, tuple) and isinstance(turns[-1], Turn) else ""
    for field in schema.inputs:
        media = item.inputs.get(field.name)
        if not isinstance(media, Media):
            continue
        try:
            if isinstance(field, VideoField) and frame is None:
                frame = _jpeg(read_pictures(media, 3, settings.limits)[1])
            elif isinstance(field, AudioField) and not levels:
                levels = _levels(read_sound(media, field.rate, settings.limits))
        except MediaError:
            continue
    return Look(frame, levels, last if len(last) <= _EXCERPT else f"{last[:_EXCERPT]}…")


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    import cv2

    scale = _SIDE / frame.shape[0]
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])[1])


def _levels(sound: NDArray[np.float32]) -> tuple[float, ...]:
    parts = np.array_split(np.abs(sound), min(_LEVELS, len(sound)))
    return tuple(round(float(min(part.max(), 1.0)), 3) for part in parts)


def _card(finding: Finding, result: Look | Lost[Item], schema: Schema) -> dict[str, Any]:
    shown = Look(None, (), "") if isinstance(result, Lost) else result
    # base64 holds nothing that would end an attribute
    frame = Markup(base64.b64encode(shown.frame).decode()) if shown.frame else None
    label = schema.by_name[finding.field].label if finding.field in schema.by_name else None
    return {
        "measure": finding.measure,
        "item": finding.item,
        "where": f"{finding.corpus}, {finding.split}",
        "label": label,
        "reason": finding.reason,
        "action": finding.action,
        "frame": frame,
        "levels": shown.levels,
        "words": shown.words,
    }


def histograms(gated: Gated, settings: QualitySettings) -> "Figure":
    """The figures of each measure: how many items have which, and where its rule begins to speak."""
    from matplotlib.figure import Figure

    drawn = [(name, rule) for name, rule in settings.rules().items() if name in gated.figures]
    rows = -(-len(drawn) // 2)
    picture = Figure(figsize=(9, 2.15 * rows), layout="constrained")
    for axes in (every := picture.subplots(rows, 2, squeeze=False).reshape(-1))[len(drawn) :]:
        axes.set_visible(False)
    for axes, (name, rule) in zip(every, drawn, strict=False):
        values = np.frombuffer(gated.figures[name], np.float32)
        counts, edges = np.histogram(values, bins=_bins(values, rule.threshold))
        middles = (edges[:-1] + edges[1:]) / 2
        against = [rule.reason(float(middle)) is not None for middle in middles]
        colours = [_SPOKEN_AGAINST if spoken else _KEPT for spoken in against]
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=colours)
        if rule.threshold is not None:
            axes.axvline(rule.threshold, color="#1d2430", linewidth=0.9, linestyle=":")
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_title(rule.title, fontsize=10, loc="left")
        axes.set_xlabel(rule.axis, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


def _bins(values: Sequence[float] | NDArray[np.float32], threshold: float | None) -> NDArray[np.float64]:
    """Even bins over the values and the threshold, one of whose edges it is."""
    limit = 0.0 if threshold is None else threshold
    low, high = min(float(np.min(values)), limit), max(float(np.max(values)), limit)
    width = max((high - low) / 32, 1e-4)
    below, above = -int(np.ceil((limit - low) / width)) - 1, int(np.ceil((high - limit) / width)) + 1
    edges: NDArray[np.float64] = limit + width * np.arange(below, above + 1, dtype=np.float64)
    return edges
