"""``pride eval score``."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import complain, name_bad, progress, say


class Decoding(enum.StrEnum):
    """How answers are chosen."""

    greedy = "greedy"
    nucleus = "nucleus"


def score(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; the others are held against the first.")],
    shards: Annotated[Path, typer.Option(help="Folder of shards.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.json and report.html.")] = Path("report"),
    split: Annotated[str, typer.Option(help="The split to evaluate on.")] = "test",
    samples: Annotated[int, typer.Option(min=1, help="How many answers to generate.")] = 100,
    decoding: Annotated[
        Decoding, typer.Option(help="The likeliest token each time, or drawn: p 0.9, temperature 0.7, seeded.")
    ] = Decoding.greedy,
    encoder: Annotated[
        str | None, typer.Option(help="Folder of a sentence encoder, for similarity; default: the one installed.")
    ] = None,
    bert_score: Annotated[Path | None, typer.Option(help="Folder of a model for BERTScore.")] = None,
    empathy: Annotated[Path | None, typer.Option(help="Folder of a scorer, from 'pride eval scorer'.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Name or folder of the teacher, to measure what it costs beside the students.")
    ] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Broken samples allowed.")] = 10,
) -> None:
    """Score runs without notes, prove that no note reaches an answer, and write a report. Exits 1 on a leak.

    What each run says is kept in OUT/predictions: killed, the same command goes on where it was.

    Example: pride eval score runs/plain runs/privileged --shards shards --out report
    """
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples
    from pride_mm.evaluation.comparison import Instruments
    from pride_mm.evaluation.evaluate import evaluate as compare
    from pride_mm.evaluation.report import write_report
    from pride_mm.evaluation.results import scores_json
    from pride_mm.files import write_json

    opened = ShardSet.open(shards)
    instruments = Instruments.open(encoder, bert_score, empathy)
    bad = BadSamples(max_bad)
    with progress("Evaluating") as tick:
        kept = out / "predictions"
        found = compare(runs, opened, split, samples, bad, tick, kept, decoding.value, instruments, teacher)
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
