"""``pride export``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import say


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option(help="Folder of the artifact.")] = Path("artifact"),
    scores: Annotated[Path | None, typer.Option(help="A scores.json for the model card.")] = None,
    shards: Annotated[Path | None, typer.Option(help="Shards it was trained on: names of fields for the card.")] = None,
) -> None:
    """Write a run's best student as an artifact that cannot take privileged input.

    Example: pride export runs/privileged --out artifact --scores report/scores.json
    """
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import UserError
    from pride_mm.serving.export import export as write_artifact
    from pride_mm.training.checkpoint import student_folder

    given = None
    if scores is not None:
        try:
            given = json.loads(scores.read_bytes())
        except (OSError, ValueError):
            raise UserError(f"{scores} is no scores.json; `pride eval` writes one.") from None
        if not isinstance(given, dict) or given.get("format") != 1:
            raise UserError(f"{scores} is no scores.json of this version; `pride eval` writes one.")
    privileged = [field.name for field in ShardSet.open(shards).schema.privileged] if shards is not None else []
    write_artifact(student_folder(run), out, privileged or (given or {}).get("privileged_fields", []), given)
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{out}: {size / 2**20:.1f} MiB, no parameter and no field for notes in it. Try: pride chat {out}")
