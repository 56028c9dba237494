"""``agreement.html``: how far the annotators agree, and what they left open. Shows no note's text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotate.agreement import Agreement, FieldAgreement
from pride_mm.page import svg, write_page
from pride_mm.records import Notes
from pride_mm.schema import Schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).parent / "templates" / "agreement.html.j2"
_SHOWN = 100


def write_agreement(path: Path, schema: Schema, agreement: Agreement, notes: Sequence[Notes]) -> None:
    """Write the report as one HTML file that opens offline."""
    measured = [row for row in agreement.fields if row.value is not None]
    open_ = _left_open(schema, notes)
    write_page(
        path,
        _TEMPLATE,
        title="How far the annotators agree",
        schema=schema,
        agreement=agreement,
        picture=svg(_bars(measured)) if measured else None,
        reached=[_reached(schema, row.field.name, notes) for row in agreement.fields],
        open=open_[:_SHOWN],
        more=max(0, len(open_) - _SHOWN),
    )


def _left_open(schema: Schema, notes: Sequence[Notes]) -> list[dict[str, str]]:
    return [
        {"item": note.item, "label": schema.by_name[name].label, "why": why}
        for note in notes
        for name, why in note.how.items()
        if name not in note.privileged and name not in note.targets
    ]


def _reached(schema: Schema, name: str, notes: Sequence[Notes]) -> dict[str, Any]:
    said = [note for note in notes if name in note.how]
    kept = [note for note in said if name in note.privileged or name in note.targets]
    single = sum(note.how[name].startswith("single") for note in kept)
    return {
        "label": schema.by_name[name].label,
        "agreed": len(kept) - single,
        "single": single,
        "open": len(said) - len(kept),
    }


def _bars(rows: Sequence[FieldAgreement]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.6 + 0.36 * len(rows)))
    axes = figure.subplots()
    values = [row.value or 0.0 for row in rows]
    colours = ["#2f6f6b" if "alpha" in row.measure else "#b9cfcd" for row in rows]
    bars = axes.barh([row.field.label for row in rows], values, color=colours, height=0.62)
    axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=4, fontsize=9, color="#1d2430")
    axes.axvline(0.0, color="#1d2430", linewidth=0.8)
    for mark in (0.667, 0.8):
        axes.axvline(mark, color="#5d6878", linewidth=0.8, linestyle=":")
    axes.set_xlim(min(values) - 0.2 if min(values) < 0 else 0.0, 1.1)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=9)
    axes.set_xlabel("dark: Krippendorff's alpha (dotted: 0.667 and 0.8)    light: F1", fontsize=9)
    return figure
