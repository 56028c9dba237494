"""``pride eval`` and ``pride export``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import complain, name_bad, progress, say


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command("eval")(evaluate)
    app.command()(export)


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; the others are held against the first.")],
    shards: Annotated[Path, typer.Option(help="Folder of shards.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.json and report.html.")] = Path("report"),
    split: Annotated[str, typer.Option(help="The split to evaluate on.")] = "test",
    samples: Annotated[int, typer.Option(min=1, help="How many answers to generate.")] = 100,
    max_bad: Annotated[int, typer.Option(min=0, help="Broken samples allowed.")] = 10,
) -> None:
    """Score runs without notes, prove that no note reaches an answer, and write a report. Exits 1 on a leak.

    Example: pride eval runs/plain runs/privileged --shards shards --out report
    """
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples
    from pride_mm.evaluation.evaluate import evaluate as compare
    from pride_mm.evaluation.report import write_report
    from pride_mm.evaluation.results import scores_json
    from pride_mm.files import write_json

    bad = BadSamples(max_bad)
    with progress("Evaluating") as tick:
        found = compare(runs, ShardSet.open(shards), split, samples, bad, tick)
    write_json(out / "scores.json", scores_json(found))
    write_report(out / "report.html", found)
    name_bad(bad)
    for row in found.contenders:
        if row.what != "baseline" and "perplexity" in row.scores:
            around = row.scores["perplexity"].interval
            between = f" ({around.low:.2f} to {around.high:.2f})" if around else ""
            say(f"{row.name}: perplexity {row.scores['perplexity'].value:.2f}{between}")
        if row.empty:
            complain(f"{row.name}: {len(row.empty)} of {found.generated} answers are empty.")
    if not found.clean:
        complain("LEAK: predictions change with the notes; the report names the samples.")
    say(f"{out / 'report.html'}")
    if not found.clean:
        raise typer.Exit(1)


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
