"""``pride app``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import complain, say

if TYPE_CHECKING:
    from pride_mm.serving.page.votes import Votes


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command("app")(page)


def page(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    other: Annotated[Path | None, typer.Argument(help="Another one, to compare with it blind.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; others than loopback want a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 7860,
    device: Annotated[str, typer.Option(help="Where the students answer: cpu, cuda, cuda:1.")] = "cpu",
    safety: Annotated[
        str, typer.Option(help="Wording of danger and its referral: a name, a TOML of your own, or off.")
    ] = "crisis",
    votes: Annotated[
        Path, typer.Option(help="File to which the votes on two students are appended, one JSON object a line.")
    ] = Path("votes.jsonl"),
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")] = 64,
    max_mib: Annotated[int, typer.Option(min=1, help="MiB of an upload.")] = 32,
    max_clip: Annotated[float, typer.Option(min=0.1, help="Seconds of a clip or a sound.")] = 120.0,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without a key.")] = False,
) -> None:
    """Talk to a student on a web page, with text, microphone, camera or a clip; to two of them blind, with a vote.

    Where PRIDE_API_KEY is set, it is the password of the page. Of a conversation nothing is kept.

    Example: pride app artifact
    """
    import os

    from pride_mm.serving.answerer import Limits
    from pride_mm.serving.page.service import Page
    from pride_mm.serving.page.votes import Votes
    from pride_mm.serving.running import KEY, check_key, is_loopback, listen, run
    from pride_mm.serving.safety import NOT_THERAPY

    key = os.environ.get(KEY, "").strip() or None
    check_key(host, key, insecure)
    limits = Limits(tokens=max_tokens, mebibytes=max_mib, clip_seconds=max_clip)
    hosts = ("127.0.0.1", "localhost", "[::1]", host) if key is None and is_loopback(host) else None
    artifacts = [artifact] if other is None else [artifact, other]
    with listen(host, port) as listening:
        kept = None if other is None else Votes(votes)
        service = Page(artifacts, limits, key, hosts, device, safety, kept)
        shown = f"[{host}]" if ":" in host else host

        def ready() -> None:
            complain(NOT_THERAPY)
            url = f"http://{shown}:{listening.getsockname()[1]}/"
            say(f"The page is at {url}{'; its password is the key' if key else ''}. Ctrl-C stops it.")

        run(service, listening, ready, lifespan="on")
    if kept is not None:
        _tally(kept, [partner.name for partner in service.partners])


def _tally(votes: "Votes", names: list[str]) -> None:
    """How the votes of this program came out."""
    if not votes.cast:
        say("No votes.")
        return
    found = ", ".join(f"{name} {count}" for name, count in votes.tally(names).items())
    say(f"{len(votes.cast)} votes in {votes.path}: {found}.")
