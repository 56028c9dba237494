"""What the label commands share: their options, and which server is meant."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from annotate.studio import Studio

SchemaName = Annotated[str, typer.Option("--schema", help="Name in configs/schema, or a path to a TOML file.")]
DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Folder of the server: database, media, token, key of the pseudonyms.")
]
Title = Annotated[str | None, typer.Option("--project", help="Title; by default 'PRIDE <schema> v<version>'.")]
MaxBad = Annotated[int, typer.Option("--max-bad", min=0, help="Stop after more bad records than this.")]
DATA_DIR = Path("label-studio")


def require(*paths: Path) -> None:
    """Raise UserError for the first path that is no file."""
    from pride_mm.errors import UserError

    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}; 'pride ingest' writes items, 'pride label pull' annotations.")


def studio_of(data_dir: Path) -> "Studio":
    """The server that the environment names, or the one of ``data_dir``; raises UserError."""
    from annotate.server.credentials import read_credentials
    from annotate.studio import connect
    from pride_mm.errors import UserError

    url, key = os.environ.get("LABEL_STUDIO_URL"), os.environ.get("LABEL_STUDIO_API_KEY")
    if url or key:
        if not (url and key):
            raise UserError("LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY go together; one of them is not set.")
        return connect(url, key)
    credentials = read_credentials(data_dir)
    return connect(credentials.url, credentials.token)
