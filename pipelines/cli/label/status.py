"""``pride label status``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, SchemaName, Title, studio_of
from pipelines.cli.terminal import progress, say


def status(
    report: Annotated[Path | None, typer.Option(help="Write a page with pictures too, one HTML file.")] = None,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
) -> None:
    """Say how far the annotation is: coverage by field, speed and open work by expert, what became of drafts.

    The table names experts as they sign in beside their pseudonym; the page has pseudonyms only. Neither shows a note.

    Example: pride label status --report status.html
    """
    from annotate.exchange.project import Project
    from annotate.experts.status import status as measure
    from annotate.experts.status_page import table, write_status
    from annotate.server.credentials import pseudonym_key
    from pride_mm.schema import load_schema

    source = Project(studio_of(data_dir), load_schema(schema), project)
    with progress("status") as tick:
        measured = measure(source, pseudonym_key(data_dir), tick)
    for line in table(measured):
        say(line)
    if report:
        write_status(report, measured)
        say(f"\nthe report is {report}")
