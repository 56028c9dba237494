"""``pride serve``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.terminal import complain, say


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(serve)


def serve(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    device: Annotated[str, typer.Option(help="Where the student answers: cpu, cuda, cuda:1.")] = "cpu",
    safety: options.Safety = "crisis",
    batch: Annotated[int, typer.Option(min=1, help="Requests answered side by side.")] = 8,
    concurrent: Annotated[int, typer.Option(min=1, help="Conversations at once; more are told to come again.")] = 64,
    max_tokens: options.MaxTokens = 128,
    max_mib: Annotated[int, typer.Option(min=1, help="MiB of a request with its clips.")] = 32,
    max_clip: options.MaxClip = 120.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds from a request to the end of its reply.")] = 60.0,
    insecure: options.Insecure = False,
) -> None:
    """Serve a student by HTTP, as OpenAI's clients ask: /v1/chat/completions, /v1/models, /health, /metrics.

    The key that clients have to give is taken from PRIDE_API_KEY. Nothing of a request is kept or logged.

    Example: pride serve artifact --port 8000
    """
    from pride_mm.serving.answerer import Limits
    from pride_mm.serving.running import entrance, run
    from pride_mm.serving.safety import NOT_THERAPY
    from pride_mm.serving.server import Server

    limits = Limits(
        batch=batch, concurrent=concurrent, tokens=max_tokens, mebibytes=max_mib, clip_seconds=max_clip, seconds=timeout
    )
    with entrance(host, port, insecure) as door:
        server = Server(artifact, limits, door.key, door.hosts, device, safety)

        def ready() -> None:
            complain(NOT_THERAPY)
            whom = " to whoever has the key" if door.key else ""
            say(f"Model '{server.name}' is served at {door.url}/v1{whom}. Ctrl-C stops it.")

        run(server, door.listening, ready)
