"""``pride label push`` and ``pull``: items in, annotations out."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, MaxBad, SchemaName, Title, require, studio_of
from pipelines.cli.terminal import name_bad, progress, say


def push(
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, from 'pride ingest'.")],
    schema: SchemaName = "pride",
    annotations: Annotated[Path | None, typer.Option(help="Annotations to load with them, as JSON lines.")] = None,
    data_dir: DataDir = DATA_DIR,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the server serves; by default that of --data-dir.")
    ] = None,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Make the project from the schema and add the items that are not there yet.

    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY choose a server that exists instead of --data-dir's.

    Example: pride label push items.jsonl --annotations annotations.jsonl
    """
    from annotate.project import Project
    from annotate.server import media_root as served_by
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_annotations, read_items
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    require(items, *([annotations] if annotations else []))
    bad = BadSamples(max_bad)
    wanted = list(read_items(items, contract, bad))
    loads = list(read_annotations(annotations, contract, bad)) if annotations else []
    target = Project(studio_of(data_dir), contract, project)
    with progress("push") as tick:
        pushed = target.push(wanted, media_root or served_by(data_dir), loads, bad, tick)
    name_bad(bad)
    say(f"{pushed.tasks} tasks added, {pushed.tasks_before} were there")
    if annotations:
        say(f"{pushed.annotations} annotations added, {pushed.annotations_before} were there")
    for address in target.addresses:
        say(f"  {address}")


def pull(
    out: Annotated[Path, typer.Option(help="Where the annotations go, as JSON lines.")] = Path("annotations.jsonl"),
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Write what the annotators said as records, under pseudonyms.

    Example: pride label pull --out annotations.jsonl
    """
    from annotate.credentials import pseudonym_key
    from annotate.project import Project
    from pride_mm.errors import BadSamples
    from pride_mm.records import write_records
    from pride_mm.schema import load_schema

    bad = BadSamples(max_bad)
    source = Project(studio_of(data_dir), load_schema(schema), project)
    with progress("pull") as tick:
        pulled = source.pull(pseudonym_key(data_dir), bad, tick)
    written = write_records(out, pulled.annotations)
    name_bad(bad)
    left = f"; left out: {pulled.skipped} skipped, {pulled.empty} empty" if pulled.skipped or pulled.empty else ""
    say(f"{written} annotations -> {out}{left}")
