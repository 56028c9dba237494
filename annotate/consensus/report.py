"""``agreement.html``: how far the annotators agree, by field, annotator and emotion, and what they disagree on.

It is meant for the experts: of the items they disagree on most it shows what each of them said, folded away. It is the
one report that holds privileged text, and says so at its head.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotate.agreement import Agreement, Confusion, FieldAgreement, Figure
from annotate.agreement.ratings import gather, in_words
from annotate.agreement.resampling import FEWEST
from annotate.consensus.rules import Open, left_open
from pride_mm.page import svg, write_page
from pride_mm.records import Annotation, Notes
from pride_mm.schema import Field, Kind, Schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

_TEMPLATE = Path(__file__).parent / "templates" / "agreement.html.j2"
_SHOWN = 100
_CORRECTED = "#2f6f6b"
_SIMILAR = "#c46a2b"


def write_agreement(
    path: Path,
    schema: Schema,
    agreement: Agreement,
    notes: Sequence[Notes],
    annotations: Iterable[Annotation] = (),
    links: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the report as one HTML file that opens offline.

    Args:
        path: the file.
        schema: the fields.
        agreement: what was measured.
        notes: the consensus, whose ``how`` is summed up.
        annotations: what each annotator said, shown of the items that they disagree on.
        links: addresses of an item's tasks.
    """
    measured = [row for row in agreement.fields if row.headline.value is not None]
    items = _disagreed(schema, agreement, notes)
    write_page(
        path,
        _TEMPLATE,
        title="How far the annotators agree",
        schema=schema,
        agreement=agreement,
        picture=svg(_intervals(measured)) if measured else None,
        annotators=_annotators(agreement),
        groups=_groups(agreement),
        fewest=FEWEST,
        confusions=[
            {"label": row.field.label, **_shaded(row.confusion)}
            for row in agreement.fields
            if row.confusion is not None
        ],
        reached=[_reached(row.field, notes) for row in agreement.fields],
        items=_with_words(items[:_SHOWN], schema, annotations, links or {}),
        more=max(0, len(items) - _SHOWN),
    )


def _annotators(agreement: Agreement) -> list[dict[str, Any]]:
    """A row an annotator; a cell a field, None where the annotator said nothing of it."""
    rows = []
    for name in agreement.annotators:
        of = [next((one for one in row.annotators if one.annotator == name), None) for row in agreement.fields]
        rows.append({"name": name, "items": max((one.items for one in of if one), default=0), "cells": of})
    return rows


def _groups(agreement: Agreement) -> list[dict[str, Any]]:
    """A table for each field that items are grouped by: a row a value, a cell a field."""
    tables: list[dict[str, Any]] = []
    for by in dict.fromkeys(group.field for row in agreement.fields for group in row.groups):
        found = {
            (group.value, row.field.name): group
            for row in agreement.fields
            for group in row.groups
            if group.field == by
        }
        names = [name for name in getattr(by, "options", ()) if any(value == name for value, _ in found)]
        columns = [row.field for row in agreement.fields if row.field != by]
        rows = [{"value": name, "cells": [found.get((name, field.name)) for field in columns]} for name in names]
        rows = [row for row in rows if any(cell and cell.shared for cell in row["cells"])]
        if rows:
            tables.append({"label": by.label, "columns": [field.label for field in columns], "rows": rows})
    return tables


def _shaded(confusion: Confusion) -> dict[str, Any]:
    """The table with a shade, 0 to 0.8, for each cell: its share of its row."""
    totals = [sum(row) for row in confusion.counts]
    cells = [
        [(count, round(0.8 * count / total, 3) if total else 0) for count in row]
        for row, total in zip(confusion.counts, totals, strict=True)
    ]
    used = [number for number, total in enumerate(totals) if total]
    return {
        "values": [confusion.values[n] for n in used],
        "rows": [(confusion.values[n], [cells[n][m] for m in used]) for n in used],
        "unused": [value for n, value in enumerate(confusion.values) if n not in used],
    }


def _reached(field: Field, notes: Sequence[Notes]) -> dict[str, Any]:
    said = [(note.how[field.name], note) for note in notes if field.name in note.how]
    kept = [(how, note) for how, note in said if field.name in note.privileged or field.name in note.targets]
    single = sum(how.startswith("single") for how, _ in kept)
    judged = sum(how.startswith("adjudicated") for how, _ in kept)
    return {
        "label": field.label,
        "agreed": len(kept) - single - judged,
        "single": single,
        "adjudicated": judged,
        "drafts": sum(field.name in note.drafts for note in notes),
        "open": len(said) - len(kept),
    }


def _disagreed(schema: Schema, agreement: Agreement, notes: Sequence[Notes]) -> list[dict[str, Any]]:
    """The items that annotators disagree on or left something of open, the most disagreed first."""
    open_: dict[str, list[Open]] = {}
    for one in left_open(schema, notes):
        open_.setdefault(one.item, []).append(one)
    entries = [
        {"item": item, "far": far, "fields": [(field, apart) for field, apart in fields if apart > 0]}
        for item, far, fields in agreement.disagreement()
    ]
    known = {entry["item"] for entry in entries}
    entries += [{"item": item, "far": 0.0, "fields": []} for item in open_ if item not in known]
    return [{**entry, "open": open_.get(str(entry["item"]), [])} for entry in entries]


def _with_words(
    entries: Sequence[dict[str, Any]],
    schema: Schema,
    annotations: Iterable[Annotation],
    links: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """The entries, each with who said what of its disagreed fields and its texts, and with its tasks' addresses."""
    shown = {entry["item"] for entry in entries}
    given = [one for one in annotations if one.item in shown]
    drafted = {(one.item, one.annotator, name) for one in given for name in one.values if one.accepted(name)}
    table = gather(schema, given)
    rows = []
    for entry in entries:
        item = entry["item"]
        asked = {field.name for field, _ in entry["fields"]} | {one.field.name for one in entry["open"]}
        asked |= {field.name for field in schema.of(None, Kind.TEXT)}
        said = [
            (
                field.label,
                [
                    (name, in_words(field, value), (item, name, field.name) in drafted)
                    for name, value in table[field.name][item].items()
                ],
            )
            for field in schema.field
            if field.name in asked and item in table.get(field.name, {})
        ]
        rows.append({**entry, "said": said, "links": links.get(item, ())})
    return rows


def _intervals(rows: Sequence[FieldAgreement]) -> "Picture":
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(7.5, 0.7 + 0.36 * len(rows)))
    axes = picture.subplots()
    lowest = 0.0
    for place, row in enumerate(rows):
        figure = row.headline
        assert figure.value is not None
        colour = _SIMILAR if figure.chance is not None else _CORRECTED
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [place, place], color=colour, linewidth=5, alpha=0.35, zorder=2)
        if figure.chance is not None:
            axes.plot([figure.chance], [place], "|", color=colour, markersize=11, zorder=2)
        axes.plot([figure.value], [place], "o", color=colour, markersize=7, zorder=3)
        axes.text(1.04, place, f"{figure.value:.2f}", va="center", fontsize=9, color="#1d2430")
        lowest = min(lowest, figure.value, figure.low or 0.0)
    axes.set_yticks(range(len(rows)), [row.field.label for row in rows])
    axes.axvline(0.0, color="#1d2430", linewidth=0.8)
    for mark in (0.667, 0.8):
        axes.axvline(mark, color="#5d6878", linewidth=0.8, linestyle=":", zorder=1)
    axes.set_xlim(lowest - 0.05 if lowest < 0 else -0.01, 1.02)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelsize=9)
    return picture


def links_to(url: str, tasks: Iterable[tuple[str, int, int]]) -> dict[str, list[str]]:
    """The addresses of the tasks of each item, from (item, number of the project, number of the task)."""
    links: dict[str, list[str]] = {}
    for item, project, task in sorted(tasks):
        links.setdefault(item, []).append(f"{url.rstrip('/')}/projects/{project}/data?task={task}")
    return links


def short(figure: Figure) -> str:
    """The name of a statistic for a narrow column."""
    return figure.name.replace("Krippendorff's alpha, nominal, each", "alpha, each").replace("Krippendorff's ", "")
