"""``pride demo``: the whole way, by the same commands a person would type."""

import os
import shlex
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import progress, say

if TYPE_CHECKING:
    from pipelines.demo import Demo


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes; emptied first.")] = Path("demo"),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with empathetic_dialogues, mosi_mini and ravdess; else the embedded sample."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: in at most 5 minutes.")] = False,
) -> None:
    """Walk the whole way: ingest, annotate, pack, teach, train, evaluate, export, talk.

    Example: pride demo --quick
    """
    from pipelines.demo import Demo

    planned = Demo(out, data, quick)
    planned.check()
    _empty(out)
    begun = time.monotonic()
    # the demo talks to its own server only, never to one that these name
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        os.environ.pop(name, None)
    with ExitStack() as until_done:
        for number, step in enumerate(planned.steps(), 1):
            say(f"\n== {number}. {step.title}  ({time.monotonic() - begun:.0f} s)")
            if step.needs_server:
                _start(planned, until_done)
            for command in step.commands:
                _run(command)
            if step.needs_server:
                until_done.close()
    _finish(planned, time.monotonic() - begun)


def _empty(out: Path) -> None:
    """Remove what an earlier demo left; refuse to empty a folder that no demo has made."""
    from pride_mm.errors import UserError

    mark = out / ".pride-demo"
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise UserError(f"{out} exists and was not made by the demo: give another folder with --out.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    mark.touch()


def _start(planned: "Demo", until_done: ExitStack) -> None:
    from annotate.server.local import LocalServer

    say("$ pride label serve   (in the background; the first start takes about a minute)")
    with progress("Starting") as tick:
        server = until_done.enter_context(LocalServer(planned.label_studio, port=0, progress=tick))
    say(f"Label Studio runs at {server.url}")


def _run(command: tuple[str, ...]) -> None:
    from pipelines.cli import run

    say(f"\n$ pride {shlex.join(command)}")
    code = run(command)
    if code:
        say(f"The demo stops here: that command ended with {code}.")
        raise typer.Exit(code)


def _finish(planned: "Demo", seconds: float) -> None:
    say(f"\n== Done in {seconds / 60:.1f} minutes")
    say(f"  report          {planned.report}")
    say(f"  agreement       {planned.out / 'agreement.html'}")
    say(f"  one sample      {planned.out / 'sample.html'}")
    say(f"  artifact        {planned.artifact}")
    say(f"  Label Studio    {planned.label_studio}  (stopped; the project is kept)")
    say("Next:")
    for command in planned.next_commands():
        say(f"  {command}")
