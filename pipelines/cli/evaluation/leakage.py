"""``pride eval leakage``."""

from pathlib import Path
from typing import Annotated

import typer

_SHOWN = 12


def leakage(
    shards: Annotated[Path, typer.Option(help="Folder of shards.")],
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of runs; without any, the shards alone.")] = None,
    split: Annotated[str, typer.Option(help="The split whose samples the runs answer.")] = "test",
    samples: Annotated[int, typer.Option(min=1, help="How many samples the runs answer.")] = 64,
    report: Annotated[Path | None, typer.Option(help="Write all findings as a page here.")] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Broken samples allowed.")] = 10,
) -> None:
    """Look for what would make scores worth nothing: notes that reach students, and splits that share. Findings exit 1.

    Runs have to answer the same, by bit, with notes present, altered and gone. No note may stand in the inputs, and no
    response in a note; no group, dialogue or recording in two splits. Names keys, and never a word of a note.

    Example: pride eval leakage runs/privileged --shards shards --report leakage.html
    """
    from pipelines.cli.terminal import complain, name_bad, progress, say
    from pipelines.quality.splits import check_splits
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples
    from pride_mm.evaluation.audit import check_notes, check_run, write_audit
    from pride_mm.evaluation.settings import read_settings

    opened = ShardSet.open(shards)
    opened.shards(split)
    for run in runs or ():
        read_settings(run)
    bad = BadSamples(max_bad)
    with progress("Looking") as tick:
        checks = [
            *(check_run(run, opened, split, samples, BadSamples(max_bad), tick) for run in runs or ()),
            *check_notes(opened, tick),
            *check_splits(opened, bad, tick),
        ]
    if report is not None:
        write_audit(report, opened.place, checks, bad)
    name_bad(bad)
    for check in checks:
        if check.clean:
            say(f"Clean: {check.title}; {check.looked}.")
            continue
        more = f", and {len(check.found) - _SHOWN:,} more" if len(check.found) > _SHOWN else ""
        complain(f"FOUND {len(check.found):,}: {check.title}; {check.looked}: {', '.join(check.found[:_SHOWN])}{more}.")
    if report is not None:
        say(f"{report}")
    if not all(check.clean for check in checks):
        raise typer.Exit(1)
