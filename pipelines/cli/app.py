"""``pride app``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import options
from pipelines.cli.terminal import complain, say

if TYPE_CHECKING:
    from pride_mm.serving.page.votes import Votes


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command("app")(page)


def page(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    other: Annotated[Path | None, typer.Argument(help="Another one, to compare with it blind.")] = None,
    host: options.Host = "127.0.0.1",
    port: options.Port = 7860,
    device: Annotated[str, typer.Option(help="Where the students answer: cpu, cuda, cuda:1.")] = "cpu",
    safety: options.Safety = "crisis",
    votes: Annotated[
        Path, typer.Option(help="File to which the votes on two students are appended, one JSON object a line.")
    ] = Path("votes.jsonl"),
    max_tokens: options.MaxTokens = 64,
    max_mib: Annotated[int, typer.Option(min=1, help="MiB of an upload.")] = 32,
    max_clip: options.MaxClip = 120.0,
    insecure: options.Insecure = False,
) -> None:
    """Talk to a student on a web page, with text, microphone, camera or a clip; to two of them blind, with a vote.

    Where PRIDE_API_KEY is set, it is the password of the page. Of a conversation nothing is kept.

    Example: pride app artifact
    """
    from pride_mm.serving.answerer import Limits
    from pride_mm.serving.page.service import Page
    from pride_mm.serving.page.votes import Votes
    from pride_mm.serving.running import entrance, run
    from pride_mm.serving.safety import NOT_THERAPY

    limits = Limits(tokens=max_tokens, mebibytes=max_mib, clip_seconds=max_clip)
    artifacts = [artifact] if other is None else [artifact, other]
    with entrance(host, port, insecure) as door:
        kept = None if other is None else Votes(votes)
        service = Page(artifacts, limits, door.key, door.hosts, device, safety, kept)

        def ready() -> None:
            complain(NOT_THERAPY)
            say(f"The page is at {door.url}/{'; its password is the key' if door.key else ''}. Ctrl-C stops it.")

        run(service, door.listening, ready, lifespan="on")
    if kept is not None:
        _tally(kept, [partner.name for partner in service.partners])


def _tally(votes: "Votes", names: list[str]) -> None:
    """How the votes of this program came out."""
    if not votes.cast:
        say("No votes.")
        return
    found = ", ".join(f"{name} {count}" for name, count in votes.tally(names).items())
    say(f"{len(votes.cast)} votes in {votes.path}: {found}.")
