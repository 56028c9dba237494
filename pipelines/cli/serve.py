"""``pride serve``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import complain, say


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(serve)


def serve(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen at; others than loopback want a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    device: Annotated[str, typer.Option(help="Where the student answers: cpu, cuda, cuda:1.")] = "cpu",
    safety: Annotated[
        str, typer.Option(help="Wording of danger and its referral: a name, a TOML of your own, or off.")
    ] = "crisis",
    batch: Annotated[int, typer.Option(min=1, help="Requests answered side by side.")] = 8,
    concurrent: Annotated[int, typer.Option(min=1, help="Conversations at once; more are told to come again.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")] = 128,
    max_mib: Annotated[int, typer.Option(min=1, help="MiB of a request with its clips.")] = 32,
    max_clip: Annotated[float, typer.Option(min=0.1, help="Seconds of a clip or a sound.")] = 120.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds from a request to the end of its reply.")] = 60.0,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without a key.")] = False,
) -> None:
    """Serve a student by HTTP, as OpenAI's clients ask: /v1/chat/completions, /v1/models, /health, /metrics.

    The key that clients have to give is taken from PRIDE_API_KEY. Nothing of a request is kept or logged.

    Example: pride serve artifact --port 8000
    """
    import os

    from pride_mm.serving.answerer import Limits
    from pride_mm.serving.running import KEY, check_key, is_loopback, listen, run
    from pride_mm.serving.safety import NOT_THERAPY
    from pride_mm.serving.server import Server

    key = os.environ.get(KEY, "").strip() or None
    check_key(host, key, insecure)
    limits = Limits(
        batch=batch, concurrent=concurrent, tokens=max_tokens, mebibytes=max_mib, clip_seconds=max_clip, seconds=timeout
    )
    hosts = ("127.0.0.1", "localhost", "[::1]", host) if key is None and is_loopback(host) else None
    with listen(host, port) as listening:
        server = Server(artifact, limits, key, hosts, device, safety)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listening.getsockname()[1]}/v1"

        def ready() -> None:
            complain(NOT_THERAPY)
            say(f"Model '{server.name}' is served at {url}{' to whoever has the key' if key else ''}. Ctrl-C stops it.")

        run(server, listening, ready)
