"""``pride pack``, ``pride check`` and ``pride show``."""

from pathlib import Path
from typing import Annotated

import typer

_SHOWN = 50


def pack(
    items: Annotated[list[Path], typer.Argument(help="Files of items, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="Folder of the shards; an older pack in it is replaced.")],
    schema: Annotated[str, typer.Option(help="Name or path of the schema.")] = "pride",
    notes: Annotated[
        list[Path] | None, typer.Option(help="File of notes, from `pride label agree`; may be given again.")
    ] = None,
    drafts: Annotated[
        bool, typer.Option("--drafts", help="Keep notes that are a model's drafts left as they were, marked as such.")
    ] = False,
    max_bad: Annotated[int, typer.Option(help="How many bad items and fields are allowed.", min=0)] = 10,
) -> None:
    """Pack items and notes into shards: checked, cut, converted, the same bytes each time.

    A broken clip costs its field, not its dialogue; whatever is left out is named and counted. So is a value that is
    only a model's draft which an annotator left as it was.

    Example: pride pack items.jsonl --notes privileged.jsonl --out shards
    """
    from pipelines.cli.terminal import complain, name_bad, progress, say
    from pipelines.pack import pack as pack_items
    from pride_mm.schema import load_schema

    with progress("Packing") as tick:
        result = pack_items(items, load_schema(schema), out, notes or [], max_bad, drafts=drafts, progress=tick)
    name_bad(result.bad)
    for name, split in result.manifest.splits.items():
        lengths = "".join(f", {seconds / 60:.1f} min of {field}" for field, seconds in split.seconds.items())
        say(f"{name:<6} {split.samples:>7,} samples in {len(split.shards)} shards{lengths}")
    if result.bad:
        whole = len(result.bad) - result.fields_left_out
        say(f"Left out: {whole} items or lines, and {result.fields_left_out} fields of items that were packed.")
    if result.drafts_left_out:
        kept = "; --drafts keeps those among the notes, marked" if not drafts else ""
        say(f"Left out: {result.drafts_left_out} values that are a model's drafts as they were{kept}.")
    if kept_drafts := sum(result.manifest.drafts.values()):
        say(f"{kept_drafts} notes are a model's drafts as they were, and marked so beside the notes.")
    if result.notes_unused:
        complain(f"{result.notes_unused} notes are on items that were not given.")
    if result.teacher_removed:
        complain(f"{result.teacher_removed} teacher tars removed: they fitted other samples. Run `pride teach` again.")
    say(f"Packed into {out}. Next: pride check {out}")


def check(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
) -> None:
    """Check shards to the last byte: tars, keys, every member, every clip. Findings exit with 1.

    Example: pride check shards
    """
    from pipelines.check import check as check_shards
    from pipelines.cli.terminal import complain, progress, say

    with progress("Checking") as tick:
        report = check_shards(shards, progress=tick)
    for finding in report.findings[:_SHOWN]:
        complain(str(finding))
    if len(report.findings) > _SHOWN:
        complain(f"... and {len(report.findings) - _SHOWN} more")
    withheld = f" {report.withheld} tars of notes are not at this site." if report.withheld else ""
    say(f"{report.samples:,} samples in {report.tars} tars: {len(report.findings)} findings.{withheld}")
    if report.findings:
        raise typer.Exit(1)


def show(
    shards: Annotated[Path, typer.Argument(help="Folder of shards.")],
    key: Annotated[str | None, typer.Argument(help="Key of the sample; the first one where not given.")] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("sample.html"),
    notes: Annotated[bool, typer.Option("--notes", help="Show the experts' notes, too.")] = False,
) -> None:
    """Show one sample: clip, frames, sound, turns and targets, in the terminal and as a page.

    Example: pride show shards --out sample.html
    """
    from pipelines.cli.terminal import say
    from pipelines.show import load, summary, write_sample_page
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import SampleError, UserError

    opened = ShardSet.open(shards)
    try:
        split, sample = load(opened, key, notes)
    except SampleError as error:
        raise UserError(f"{error}. `pride check {shards}` names all that is broken.") from None
    for line in summary(sample, opened.schema, split):
        say(line)
    write_sample_page(out, sample, opened.schema, split)
    say(f"\nPage: {out}")


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    for command in (pack, check, show):
        app.command()(command)
