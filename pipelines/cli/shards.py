"""``pride check``, ``pride show`` and ``pride stats``."""

import json
from pathlib import Path
from typing import Annotated

import typer

_SHOWN = 50


def check(
    shards: Annotated[str, typer.Argument(help="Folder of shards, or the URL of one.")],
    report: Annotated[Path | None, typer.Option(help="Write all findings here, a JSON object a line.")] = None,
    max_leaks: Annotated[
        float, typer.Option(help="Share of a field's notes that may stand in the inputs word for word.", min=0, max=1)
    ] = 0.5,
) -> None:
    """Check shards to the last byte: tars, keys, every member, every clip. Findings exit with 1.

    Notes that people quoted in the dialogue are counted; only where more than --max-leaks of a field's notes stand in
    the inputs is that a finding.

    Example: pride check shards --report findings.jsonl
    """
    from pipelines.cli.terminal import complain, progress, say
    from pipelines.look.check import check as check_shards
    from pride_mm.errors import SampleError
    from pride_mm.files import write_text

    shown = 0
    lines: list[str] = []

    def note(finding: SampleError, kind: str) -> None:
        if report is not None:
            tar, _, key = finding.place.partition(": ")
            found = {"kind": kind, "tar": tar, "key": key or None, "field": finding.field, "reason": finding.reason}
            lines.append(json.dumps(found, ensure_ascii=False))

    def tell(finding: SampleError) -> None:
        nonlocal shown
        shown += 1
        if shown <= _SHOWN:
            complain(str(finding))
        note(finding, "finding")

    with progress("Checking") as tick:
        looked = check_shards(shards, tell, lambda leak: note(leak, "leak"), max_leaks, tick)
    if report is not None:
        write_text(report, "".join(f"{line}\n" for line in lines))
    if looked.count > _SHOWN:
        complain(f"... and {looked.count - _SHOWN:,} more{f', all in {report}' if report else '; --report lists all'}")
    for name, count in looked.leaked.items():
        say(f"{name}: {count:,} of {looked.noted[name]:,} notes stand in the inputs word for word.")
    withheld = f" {looked.withheld} tars of notes are not at this site." if looked.withheld else ""
    locked = f" {looked.locked} tars of notes are encrypted: without the key only their bytes were compared."
    locked = locked if looked.locked else ""
    say(f"{looked.samples:,} samples in {looked.tars} tars: {looked.count:,} findings.{withheld}{locked}")
    if looked.count:
        raise typer.Exit(1)


def show(
    shards: Annotated[str, typer.Argument(help="Folder of shards, or the URL of one.")],
    key: Annotated[str | None, typer.Argument(help="Key of the sample; the first one where not given.")] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("sample.html"),
    notes: Annotated[bool, typer.Option("--notes", help="Show the experts' notes, too.")] = False,
) -> None:
    """Show one sample: clip, frames, sound, turns and targets, in the terminal and as a page.

    Example: pride show shards --out sample.html
    """
    from pipelines.cli.terminal import say
    from pipelines.look.show import load, summary, write_sample_page
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


def stats(
    shards: Annotated[str, typer.Argument(help="Folder of shards, or the URL of one.")],
    out: Annotated[Path | None, typer.Option(help="Write a page with pictures, too.")] = None,
) -> None:
    """Count what is in shards, split by split: lengths, words, targets, how many notes. Reads no clip and no sound.

    Example: pride stats shards --out stats.html
    """
    from pipelines.cli.terminal import progress, say
    from pipelines.look.stats import gather, table
    from pride_mm.data.shards import ShardSet

    opened = ShardSet.open(shards)
    with progress("Counting") as tick:
        counted = gather(opened, tick)
    for line in table(counted, opened.schema):
        say(line)
    if out is not None:
        from pipelines.look.stats_page import write_stats_page

        write_stats_page(out, counted, opened.schema, opened.place)
        say(f"\nPage: {out}")


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    for command in (check, show, stats):
        app.command()(command)
