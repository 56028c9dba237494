"""``pride eval study``: people say which of two contenders answers better, blind, in Label Studio."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.evaluation.options import First, MaxBad, Second, Shards, pairs_of
from pipelines.cli.label.options import DATA_DIR, DataDir, studio_of
from pipelines.cli.terminal import name_bad, say

app = typer.Typer(no_args_is_help=True, help="People compare two contenders' answers in Label Studio, blind.")
Key = Annotated[
    Path, typer.Option(help="Which answer stands where: the key of the study. It stays here, and raters never see it.")
]
KEY = Path("study.key")


@app.command()
def push(
    scores: Annotated[
        Path, typer.Argument(help="The scores.json of 'pride eval score', with the answers of its runs.")
    ],
    first: First,
    second: Second,
    shards: Shards,
    key: Key = KEY,
    samples: Annotated[int, typer.Option(min=1, help="How many dialogues, drawn at random.")] = 50,
    raters: Annotated[int, typer.Option(min=1, help="How many experts judge each pair.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the draw, the order and the sides.")] = 0,
    project: Annotated[str, typer.Option(help="Title of the project; raters read it.")] = "PRIDE study",
    data_dir: DataDir = DATA_DIR,
    max_bad: MaxBad = 10,
) -> None:
    """Make a project in which experts compare two contenders' answers: empathy, relevance, fluency, and overall.

    The page shows the dialogue as text, no clips, and two answers, each contender's on either side equally often.
    Nothing there says whose they are. Answers that are the same are ties and not shown. Run it again where it was cut
    off.

    Example: pride eval study push report/scores.json plain human --shards shards
    """
    from annotate.study.plan import ensure_plan, make_plan
    from annotate.study.project import Study
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples

    contenders = (first, second)
    pairs = pairs_of(scores, ShardSet.open(shards), contenders, BadSamples(max_bad))
    wanted = make_plan(pairs, project, contenders, samples, seed, raters)
    studio = studio_of(data_dir)
    plan = ensure_plan(key, wanted)
    added, before, address = Study(studio, plan).push(pairs)
    say(f"{added} pairs added, {before} were there; {len(plan.alike)} are alike and count as ties")
    say(f"{key} unblinds them: keep it, and keep it from raters")
    say(f"  {address}")


@app.command()
def pull(
    key: Key = KEY,
    out: Annotated[Path, typer.Option(help="Folder for study.json and study.html.")] = Path("study"),
    data_dir: DataDir = DATA_DIR,
    max_bad: MaxBad = 10,
) -> None:
    """Get what raters said, unblind it, and write win rates, agreement and a report.

    Intervals are over dialogues, raters are pseudonyms, and it can be run before all is judged.

    Example: pride eval study pull --out study
    """
    from annotate.server.credentials import pseudonym_key
    from annotate.study.plan import read_plan
    from annotate.study.project import Study
    from annotate.study.report import write_study
    from annotate.study.results import findings, study_json, table
    from pride_mm.errors import BadSamples
    from pride_mm.files import write_json

    plan, bad = read_plan(key), BadSamples(max_bad)
    found = findings(plan, Study(studio_of(data_dir), plan).pull(pseudonym_key(data_dir), bad))
    write_json(out / "study.json", study_json(found))
    write_study(out / "study.html", found)
    name_bad(bad)
    for line in table(found):
        say(line)
    say(f"{out / 'study.html'}")
