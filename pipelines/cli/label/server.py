"""``pride label serve``."""

from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir
from pipelines.cli.terminal import complain, say


def serve(
    data_dir: DataDir = DATA_DIR,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 takes a free one.")] = 8080,
    database: Annotated[
        str | None,
        typer.Option(
            help="PostgreSQL instead of SQLite: postgresql://USER@HOST:PORT/NAME, its password in PGPASSWORD. "
            "The data folder remembers it (without the password)."
        ),
    ] = None,
) -> None:
    """Start a Label Studio on this machine and keep it running until Ctrl-C.

    It listens on 127.0.0.1 only, sends nothing to the outside and keeps all it has in --data-dir (with --database, its
    tasks and annotations in that PostgreSQL).

    Example: pride label serve --port 8080
    """
    import signal

    from annotate.server.local import LocalServer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for sign in (signal.SIGTERM, signal.SIGHUP):  # asked to end, or the terminal was closed
        signal.signal(sign, stop)
    told: list[str] = []

    def tell(done: int, total: int | None = None, note: str = "") -> None:
        if note not in told:
            told.append(note)
            complain(f"{note} ...")

    with LocalServer(data_dir, port, progress=tell, database=database) as server:
        try:
            say(f"Label Studio runs at {server.url}")
            say(f"  sign in as {server.credentials.email}, the password is in {data_dir / 'credentials.json'}")
            say("  next, in another terminal: pride label push items.jsonl")
            say("  stop it with Ctrl-C")
            server.wait()
        except KeyboardInterrupt:
            say("Stopped; everything is kept.")
