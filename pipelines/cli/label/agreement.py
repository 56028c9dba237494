"""``pride label agree`` and ``adjudicate``: how far annotators agree, their consensus, and what they left open."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, MaxBad, SchemaName, Title, require, studio_of
from pipelines.cli.terminal import complain, name_bad, progress, say

if TYPE_CHECKING:
    from annotate.agreement import Agreement, FieldAgreement
    from annotate.consensus.rules import By
    from pride_mm.errors import BadSamples
    from pride_mm.records import Annotation, Notes
    from pride_mm.schema import Schema

Given = Annotated[list[Path], typer.Argument(help="Annotations as JSON lines, from 'pride label pull'.")]
HowTo = Annotated[str, typer.Option("--by", help="Consensus on choices: by majority, or by reliability.")]
Adjudicators = Annotated[
    list[str] | None, typer.Option("--adjudicator", help="Annotator whose word wins; may be given again.")
]
Least = Annotated[float, typer.Option("--least", help="Leave open what a smaller share speaks for, 0 to 1.")]


def agree(
    annotations: Given,
    schema: SchemaName = "pride",
    out: Annotated[Path, typer.Option(help="Where the notes go, one line an item.")] = Path("privileged.jsonl"),
    report: Annotated[Path, typer.Option(help="The report, one HTML file.")] = Path("agreement.html"),
    by: HowTo = "majority",
    adjudicator: Adjudicators = None,
    least: Least = 0.5,
    encoder: Annotated[str | None, typer.Option(help="Folder of a text encoder, to compare texts by meaning.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the server, for links to the tasks.")] = None,
    max_bad: MaxBad = 10,
) -> None:
    """Measure the annotators' agreement and write their consensus.

    Of several files the later ones go first where the same annotator speaks in both.

    Example: pride label agree annotations.jsonl --out privileged.jsonl --report agreement.html
    """
    from annotate.agreement import agreement, by_people
    from annotate.consensus.report import write_agreement
    from annotate.consensus.rules import consensus, left_open
    from pride_mm.embedding import Embedder
    from pride_mm.errors import BadSamples
    from pride_mm.records import write_records
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    bad = BadSamples(max_bad)
    given = read_given(annotations, contract, bad)
    embed = Embedder(encoder) if encoder else None
    notes: list[Notes] = consensus(contract, given, _way(by), adjudicator or (), least)
    with progress("agree") as tick:
        measured = agreement(contract, given, adjudicator or (), embed, tick)
    write_agreement(report, contract, measured, notes, given, _links(annotations, url))
    write_records(out, notes)
    name_bad(bad)
    if models := len(given) - len(by_people(given)):
        say(f"{models} annotations by models are left out: only people agree")
    for line in lines(measured):
        say(line)
    open_ = left_open(contract, notes)
    rest = f"; {len(open_)} fields of {len({one.item for one in open_})} items are left open" if open_ else ""
    say(f"{len(notes)} items -> {out}{rest}")
    say(f"the report is {report}")


def adjudicate(
    annotations: Given,
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, from 'pride ingest'.")],
    schema: SchemaName = "pride",
    by: HowTo = "majority",
    adjudicator: Adjudicators = None,
    least: Least = 0.5,
    data_dir: DataDir = DATA_DIR,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the server serves; by default that of --data-dir.")
    ] = None,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Make a project '<title> adjudication' of the items that the annotators left something of open.

    Its page shows what is open and what each annotator said. Run it again whenever more was annotated.

    Example: pride label adjudicate annotations.jsonl items.jsonl
    """
    from annotate.consensus.adjudication import adjudicate as ask
    from annotate.consensus.rules import consensus, left_open
    from annotate.server.local import media_root as served_by
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_items
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    require(items)
    bad = BadSamples(max_bad)
    given = read_given(annotations, contract, bad)
    open_ = left_open(contract, consensus(contract, given, _way(by), adjudicator or (), least))
    if not open_:
        name_bad(bad)
        say("nothing is left open")
        return
    served = media_root or served_by(data_dir)
    with progress("adjudicate") as tick:
        asked = ask(
            studio_of(data_dir), contract, read_items(items, contract, bad), given, open_, project, served, bad, tick
        )
    name_bad(bad)
    if asked.missing:
        complain(f"{len(asked.missing)} items with open fields are not in {items}: {', '.join(asked.missing[:5])}")
    done = asked.pushed
    say(f"{len(open_)} fields of {len({one.item for one in open_})} items are left open")
    say(f"{done.tasks} tasks added, {done.updated} updated, {done.tasks_before} were there unchanged")
    for address in asked.project.addresses:
        say(f"  {address}")
    say("When they are settled there:")
    say(f"  pride label pull --project '{asked.project.title}' \\")
    say("    --out adjudicated.jsonl")
    say(f"  pride label agree {' '.join(map(str, annotations))} adjudicated.jsonl \\")
    say("    --adjudicator NAME   # the annotator in adjudicated.jsonl")


def read_given(paths: Sequence[Path], schema: "Schema", bad: "BadSamples") -> "list[Annotation]":
    """The annotations of some files; of two by one annotator on one item the later file's values go first."""
    from pride_mm.errors import UserError
    from pride_mm.records import read_annotations

    require(*paths)
    given: list[Annotation] = []
    for path in paths:
        new = list(read_annotations(path, schema, bad))
        said = {(one.item, one.annotator, one.origin, name) for one in new for name in one.values}
        given = [_only(one, [n for n in one.values if (one.item, one.annotator, one.origin, n) not in said])
                 for one in given] + new  # fmt: skip
    if not given:
        named = "".join(f"\n  {error}" for error in bad)
        raise UserError(f"Nothing to measure: no good annotation in {', '.join(map(str, paths))}.{named}")
    return given


def _only(annotation: "Annotation", names: Sequence[str]) -> "Annotation":
    values = {name: annotation.values[name] for name in names}
    drafts = {name: draft for name, draft in annotation.drafts.items() if name in values}
    return annotation.model_copy(update={"values": values, "drafts": drafts})


def _way(by: str) -> "By":
    return by  # type: ignore[return-value]  # consensus refuses what it doesn't know


def _links(annotations: Sequence[Path], url: str | None) -> dict[str, list[str]]:
    """The addresses of the tasks, from what 'pride label pull' left beside its file; empty where that is not there."""
    from annotate.consensus.report import links_to
    from annotate.exchange.pulling import tasks_of
    from annotate.server.credentials import read_credentials
    from pride_mm.errors import UserError

    server = url or os.environ.get("LABEL_STUDIO_URL")
    if not server:
        try:
            server = read_credentials(DATA_DIR).url
        except UserError:
            return {}
    return links_to(server, (task for path in annotations for task in tasks_of(path)))


def lines(measured: "Agreement") -> list[str]:
    """The agreement as a table for a terminal of 80 columns."""
    rows = [f"{'field':<25}  {'value':>6}  {'95 % interval':<13} {'statistic':<19} {'shared':>11}"]
    for row in measured.fields:
        rows += _line(row)
    return rows


def _line(row: "FieldAgreement") -> list[str]:
    from annotate.consensus.report import short

    figure = row.headline
    value = "-" if figure.value is None else f"{figure.value:.3f}"
    interval = "" if figure.low is None else f"{figure.low:.2f} to {figure.high:.2f}"
    shared = f"{row.shared} of {row.items}" if row.items < 10_000 else f"{row.shared}/{row.items}"
    line = f"{row.field.label[:25]:<25}  {value:>6}  {interval:<13} {short(figure):<19} {shared:>11}"
    return [line] + ([f"  {figure.why}"] if figure.why else [])
