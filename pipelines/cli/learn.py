"""``pride teach`` and ``pride train``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.terminal import name_bad, progress, say


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(teach)
    app.command()(train)


def teach(
    shards: Annotated[Path, typer.Argument(help="Folder of shards, with their .privileged.tar.")],
    model: Annotated[
        str, typer.Option(help="Causal language model: a folder, a hub name, or smollm2-135m.")
    ] = "smollm2-135m",
    prompt: Annotated[
        str, typer.Option(help="Prompt template: a name in configs/prompt, or a path.")
    ] = "empathy_reasoning",
    top_k: Annotated[int, typer.Option(min=1, help="Log-probabilities kept of each token.")] = 64,
    max_prompt: Annotated[int, typer.Option(min=16, help="Tokens of a prompt; notes are never cut.")] = 768,
    max_response: Annotated[int, typer.Option(min=1, help="Tokens of a response; the run's data.max_response.")] = 48,
    write: Annotated[bool, typer.Option(help="Let the teacher write what train items have no response to.")] = True,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    max_bad: Annotated[int, typer.Option(min=0, help="Refused prompts allowed.")] = 10,
) -> None:
    """Let a teacher that has read the notes score every response, and cache what it says.

    Example: pride teach shards --model smollm2-135m
    """
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples
    from pride_mm.student.backbone import load_backbone
    from pride_mm.teacher.cache import teach as teach_shards
    from pride_mm.teacher.prompt import Prompt
    from pride_mm.teacher.scoring import Teacher

    opened = ShardSet.open(shards)
    template = Prompt.load(opened.schema, prompt, max_prompt)
    bad = BadSamples(max_bad)
    teacher = Teacher(*load_backbone(model), top_k=top_k)
    with progress("Teaching") as tick:
        record = teach_shards(
            opened,
            teacher,
            template,
            bad,
            model,
            max_response,
            write_missing=write,
            batch_size=batch_size,
            progress=tick,
        )
    counts = record.counts
    name_bad(bad)
    size = sum(tar.size for tar in record.tars.values()) / 2**20
    say(f"{counts.scored} of {counts.samples} samples scored by {model}, {counts.with_notes} of them with notes;")
    say(f"{counts.written} responses written by it, {counts.tokens:,} tokens read, {size:.1f} MiB of cache.")
    if drafts := sum(opened.manifest.drafts.values()):
        say(f"Of the notes in these shards {drafts} are a model's drafts, not experts' words ('pride pack --drafts').")
    if counts.prompts_shortened or counts.responses_cut:
        say(f"{counts.prompts_shortened} prompts lost old turns, {counts.responses_cut} responses were cut.")


def train(
    run: Annotated[str, typer.Argument(help="The run: a name in configs/run, or a path to a TOML file.")],
    shards: Annotated[Path, typer.Option(help="Folder of shards.")],
    out: Annotated[Path, typer.Option(help="Folder of runs; this one is OUT/NAME.")] = Path("runs"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value on top of the run's file.")] = None,
) -> None:
    """Train a student by dual alignment. Stopped, it goes on where it was when run again.

    Example: pride train privileged --shards shards --set optim.epochs=2
    """
    from pride_mm.config import find_config, load_settings
    from pride_mm.data.shards import ShardSet
    from pride_mm.training.loop import train as train_run
    from pride_mm.training.settings import RunSettings

    settings = load_settings(RunSettings, find_config("run", run), set_ or ())
    with progress("Training") as tick:
        outcome = train_run(settings, ShardSet.open(shards), out, tick)
    resumed = ", resumed" if outcome.resumed else ""
    say(
        f"{outcome.run}: {outcome.steps} steps{resumed}; validation loss without notes {outcome.score:.3f} at its best."
    )
