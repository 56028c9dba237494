"""``pride pack``, ``pride check`` and ``pride show``."""

from pathlib import Path
from typing import Annotated

import typer


def pack(
    items: Annotated[list[Path], typer.Argument(help="Files of items, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="Folder of the shards; an older pack in it is replaced.")],
    schema: Annotated[str, typer.Option(help="Name or path of the schema.")] = "pride",
    notes: Annotated[
        list[Path] | None, typer.Option(help="File of notes, from `pride label agree`; may be given again.")
    ] = None,
    max_bad: Annotated[int, typer.Option(help="How many bad items and fields are allowed.", min=0)] = 10,
) -> None:
    """Pack items and notes into shards: checked, cut, converted, the same bytes each time.

    A broken clip costs its field, not its dialogue; whatever is left out is named and counted.

    Example: pride pack items.jsonl --notes privileged.jsonl --out shards
    """
    from pipelines.cli.terminal import complain, name_bad, progress, say
    from pipelines.pack import pack as pack_items
    from pride_mm.schema import load_schema

    with progress("Packing") as tick:
        result = pack_items(items, load_schema(schema), out, notes or [], max_bad, progress=tick)
    name_bad(result.bad)
    for name, split in result.manifest.splits.items():
        lengths = "".join(f", {seconds / 60:.1f} min of {field}" for field, seconds in split.seconds.items())
        say(f"{name:<6} {split.samples:>7,} samples in {len(split.shards)} shards{lengths}")
    if result.bad:
        whole = len(result.bad) - result.fields_left_out
        say(f"Left out: {whole} items or lines, and {result.fields_left_out} fields of items that were packed.")
    if result.notes_unused:
        complain(f"{result.notes_unused} notes are on items that were not given.")
    if result.teacher_removed:
        complain(f"{result.teacher_removed} teacher tars removed: they fitted other samples. Run `pride teach` again.")
    say(f"Packed into {out}. Next: pride check {out}")


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(pack)
