"""``pride label push`` and ``pull``: items in, annotations out."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, MaxBad, SchemaName, Title, require, studio_of
from pipelines.cli.terminal import complain, name_bad, progress, say


def push(
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, from 'pride ingest'.")],
    schema: SchemaName = "pride",
    annotations: Annotated[Path | None, typer.Option(help="Annotations to load with them, as JSON lines.")] = None,
    data_dir: DataDir = DATA_DIR,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the server serves; by default that of --data-dir.")
    ] = None,
    project: Title = None,
    older: Annotated[
        str | None, typer.Option("--from", help="Carry annotations over from an older version: its number or title.")
    ] = None,
    left: Annotated[Path, typer.Option(help="With --from: where what does not fit is named.")] = Path("left.jsonl"),
    max_bad: MaxBad = 10,
) -> None:
    """Make the project from the schema, add the items that are not there yet and update those that have changed.

    Annotations and drafts that are there stay as they are. Run it again whenever it was cut off.
    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY choose a server that exists instead of --data-dir's.

    Example: pride label push items.jsonl --annotations annotations.jsonl
    """
    from annotate.exchange.project import Project
    from annotate.exchange.versions import Older, write_left
    from annotate.server.credentials import pseudonym_key
    from annotate.server.local import media_root as served_by
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.records import read_annotations, read_items
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    require(items, *([annotations] if annotations else []))
    bad = BadSamples(max_bad)
    target = Project(studio_of(data_dir), contract, project)
    if older and annotations:
        raise UserError("--from and --annotations: one after the other.")
    old = Older(target, older, pseudonym_key(data_dir)) if older else None
    loads = read_annotations(annotations, contract, bad) if annotations else old.annotations() if old else ()
    with progress("push") as tick:
        pushed = target.push(
            read_items(items, contract, bad), media_root or served_by(data_dir), loads, bad, tick, count_lines(items),
            old.users if old else None, old.left if old else None,
        )  # fmt: skip
    name_bad(bad)
    refused = f", {pushed.refused} refused" if pushed.refused else ""
    say(f"{pushed.tasks} tasks added, {pushed.updated} updated, {pushed.tasks_before} were there unchanged{refused}")
    if annotations:
        say(f"{pushed.annotations} annotations added, {pushed.annotations_before} were there")
    if old:
        say(f"{pushed.annotations} annotations carried over from '{old.title}', {pushed.annotations_before} were there")
        if write_left(left, old.left):
            complain(f"{len(old.left)} values or annotations do not fit and stay there; {left} names them")
        if old.unsubmitted:
            complain(f"{old.unsubmitted} tasks there hold a draft that is not submitted; it stays there")
    for address in target.addresses:
        say(f"  {address}")


def count_lines(path: Path) -> int:
    """How many lines a file has, without holding it."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def pull(
    out: Annotated[
        Path, typer.Option(help="Where the annotations go: Parquet where it ends in .parquet, else JSON lines.")
    ] = Path("annotations.jsonl"),
    changed: Annotated[bool, typer.Option("--changed", help="Read only what has changed since the last pull.")] = False,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Write what the annotators said as records, under pseudonyms.

    What experts wrote blind, in projects of their own, is put together with the rest.
    Beside the file lies its cursor, by which --changed knows what it has: the file becomes what a full pull would be.

    Example: pride label pull --changed --out annotations.jsonl
    """
    from annotate.exchange.project import Project
    from annotate.exchange.pulling import pull_file
    from annotate.server.credentials import pseudonym_key
    from pride_mm.errors import BadSamples
    from pride_mm.schema import load_schema

    bad = BadSamples(max_bad)
    source = Project(studio_of(data_dir), load_schema(schema), project, blind=True)
    with progress("pull") as tick:
        pulled = pull_file(source, pseudonym_key(data_dir), out, changed, bad, tick)
    name_bad(bad)
    left = ", ".join(f"{n} {what}" for n, what in ((pulled.skipped, "skipped"), (pulled.empty, "empty")) if n)
    say(f"{pulled.annotations} annotations -> {out}" + (f"; left out: {left}" if left else ""))
    if changed:
        say(f"  {pulled.read} of {pulled.tasks} tasks were new or changed, {pulled.deleted} are gone")
    if pulled.unsubmitted:
        say(f"  {pulled.unsubmitted} tasks hold a draft that is not submitted yet")
