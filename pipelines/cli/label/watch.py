"""``pride label watch``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, MaxBad, SchemaName, Title, studio_of
from pipelines.cli.terminal import name_bad, say


def watch(
    out: Annotated[Path, typer.Option(help="The file that is kept current, JSON lines.")] = Path("annotations.jsonl"),
    every: Annotated[int, typer.Option(min=1, help="Seconds between pulls that no hint asked for.")] = 60,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Keep a file of annotations current while experts work, until Ctrl-C; one line a change.

    Label Studio tells of each annotation as it is submitted; a pull now and then finds what it did not tell.

    Example: pride label watch --out annotations.jsonl
    """
    import signal
    from datetime import datetime

    from annotate.exchange.project import Project
    from annotate.exchange.pulling import pull_file
    from annotate.exchange.watch import Watch
    from annotate.server.credentials import pseudonym_key
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.schema import load_schema

    if out.suffix == ".parquet":
        raise UserError(f"{out}: what is kept current is a file of JSON lines; 'pride label pull' writes Parquet.")
    studio, key = studio_of(data_dir), pseudonym_key(data_dir)
    source = Project(studio, load_schema(schema), project, blind=True)
    named: set[str] = set()

    def pull() -> None:
        bad = BadSamples(max_bad)
        pull_file(source, key, out, True, bad)
        name_bad(error for error in bad if str(error) not in named)
        named.update(map(str, bad))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, stop)
    try:
        Watch(
            studio, lambda: source.numbers, pull, out, lambda line: say(f"{datetime.now():%H:%M:%S}  {line}"), every
        ).run()
    except KeyboardInterrupt:
        say(f"Stopped; {out} is as it was last said.")
