"""``pride gate``: items that are good enough, and a report on those that are not."""

from pathlib import Path
from typing import Annotated

import typer


def gate(
    items: Annotated[list[Path], typer.Argument(help="Files of items, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="The items that are kept; a journal beside it lets a stopped run go on.")],
    report: Annotated[Path, typer.Option(help="The page; all findings go to a .jsonl beside it.")] = Path(
        "quality.html"
    ),
    settings: Annotated[str, typer.Option(help="Name in configs/quality, or a TOML of your own.")] = "default",
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be given again.")
    ] = None,
    schema: Annotated[str, typer.Option(help="Name or path of the schema.")] = "pride",
    notes: Annotated[
        list[Path] | None, typer.Option(help="File of notes: a response that stands in one is found.")
    ] = None,
    max_bad: Annotated[int, typer.Option(help="How many lines may be no items.", min=0)] = 10,
) -> None:
    """Look at items before they are packed: what is broken, silent, faceless, foreign or a copy is left out.

    Each measure is `off`, only a `report`, or a `drop`, with a threshold of its own; whatever is found is listed with
    its reason. A second run with other thresholds decodes nothing anew.

    Example: pride gate items.jsonl --out kept.jsonl --report quality.html --set face.action=report
    """
    from pipelines.cli.terminal import name_bad, progress, say
    from pipelines.quality.gate import gate as judge
    from pipelines.quality.report import write_report
    from pipelines.quality.settings import QualitySettings
    from pipelines.workers import Bounds, processes
    from pride_mm.config import find_config, load_settings
    from pride_mm.schema import load_schema

    rules = load_settings(QualitySettings, find_config("quality", settings), change or [])
    contract = load_schema(schema)
    with processes(bounds=Bounds(seconds=rules.seconds)) as pool:
        with progress("Judging") as tick:
            gated = judge(
                items, contract, rules, out, report.with_suffix(".jsonl"), pool, notes or [], max_bad, progress=tick
            )
        write_report(report, gated, rules, contract, pool)
    name_bad(gated.bad)
    for name, rule in rules.rules().items():
        dropped, reported = gated.findings[name, "drop"], gated.findings[name, "report"]
        if dropped or reported:
            across = f", {gated.across[name]:,} across splits" if gated.across[name] else ""
            say(f"{rule.title:<32} {dropped:>7,} dropped {reported:>7,} reported{across}")
    say(f"{sum(gated.items.values()):,} items: {gated.kept:,} kept in {out}.")
    say(f"Why the others are not: {report}, {gated.listed}")


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(gate)
