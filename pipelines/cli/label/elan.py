"""``pride label elan``: items and annotations as ELAN files, and annotations back from them."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import MaxBad, SchemaName, require
from pipelines.cli.terminal import name_bad, progress, say

elan = typer.Typer(no_args_is_help=True, help="Work in ELAN instead: tiers out, tiers in.")


@elan.command()
def write(
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, from 'pride ingest'.")],
    schema: SchemaName = "pride",
    annotations: Annotated[Path | None, typer.Option(help="Annotations to show as tiers, as JSON lines.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the files; those of the same items are replaced.")] = Path(
        "elan"
    ),
    max_bad: MaxBad = 10,
) -> None:
    """Write one ELAN file an item: its turns, its annotations as tiers, its clip linked.

    The files hold the experts' notes: only you may read them, and they belong to no one who may not read the notes.

    Example: pride label elan write items.jsonl --annotations annotations.jsonl --out elan
    """
    from annotate.elan.write import write_elan
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_annotations, read_items
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    require(items, *([annotations] if annotations else []))
    bad = BadSamples(max_bad)
    given = list(read_annotations(annotations, contract, bad)) if annotations else []
    with progress("elan") as tick:
        written = write_elan(out, contract, read_items(items, contract, bad), given, bad, tick)
    name_bad(bad)
    say(f"{written} files -> {out}; tiers are called FIELD@ANNOTATOR")


@elan.command()
def read(
    files: Annotated[list[Path], typer.Argument(help="ELAN files, or folders of them.")],
    schema: SchemaName = "pride",
    out: Annotated[Path, typer.Option(help="Where the annotations go, as JSON lines.")] = Path("annotations.jsonl"),
    max_bad: MaxBad = 10,
) -> None:
    """Read the annotations out of ELAN files; a tier FIELD@NAME of a new name is a new annotator's.

    The annotator is called what the tier says, so use pseudonyms there.

    Example: pride label elan read elan --out annotations.jsonl
    """
    from annotate.elan.read import read_elan
    from annotate.elan.write import SUFFIX
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.records import write_records
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    paths = [path for given in files for path in (sorted(given.glob(f"*{SUFFIX}")) if given.is_dir() else [given])]
    if not paths or not all(path.is_file() for path in paths):
        raise UserError(f"There is no {SUFFIX} file at {files[0]}; 'pride label elan write' makes them.")
    bad = BadSamples(max_bad)
    with progress("elan") as tick:
        written = write_records(out, read_elan(paths, contract, bad, tick))
    name_bad(bad)
    say(f"{written} annotations of {len(paths)} files -> {out}")
