"""``pride teach`` and ``pride train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipelines.cli.terminal import complain, name_bad, progress, say

if TYPE_CHECKING:
    from pride_mm.data.shards import ShardSet
    from pride_mm.teacher.cache import CacheRecord
    from pride_mm.teacher.prompt import Prompt
    from pride_mm.teacher.ranks import Ranks

_LOOKED_AT = 512
"""Samples among which examples are chosen."""


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(teach)
    app.command()(train)
    app.command()(runs)


def teach(
    shards: Annotated[Path, typer.Argument(help="Folder of shards, with their .privileged.tar.")],
    model: Annotated[
        str,
        typer.Option(
            help="Language model; it may see or hear: a folder, a hub name, or smollm2-135m; or --server's name for it."
        ),
    ] = "smollm2-135m",
    server: Annotated[
        str | None,
        typer.Option(help="Ask vLLM at this address instead. The experts' notes go there, in every prompt."),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="The tokenizer of --server's model, where --model is no folder or hub name.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let notes go to --server over a network by http, for all on it to read.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of its weights: float32, or bfloat16 for half the memory.")] = "float32",
    prompt: Annotated[
        str, typer.Option(help="Prompt template: a name in configs/prompt, or a path.")
    ] = "empathy_reasoning",
    top_k: Annotated[
        int, typer.Option(min=0, help="Log-probabilities kept of each token; 0: states of which all are rebuilt.")
    ] = 64,
    fp8: Annotated[bool, typer.Option("--fp8", help="Keep the states of --top-k 0 in 8 bits: half the size.")] = False,
    max_prompt: Annotated[int, typer.Option(min=16, help="Tokens of a prompt; notes are never cut.")] = 768,
    max_response: Annotated[int, typer.Option(min=1, help="Tokens of a response; the run's data.max_response.")] = 48,
    write: Annotated[bool, typer.Option(help="Let the teacher write what train items have no response to.")] = True,
    notes: Annotated[
        str, typer.Option(help="What the teacher reads: given; or, as controls, none or shuffled.")
    ] = "given",
    shots: Annotated[
        int, typer.Option(min=0, max=16, help="Samples for training shown as examples, with notes and response.")
    ] = 0,
    adapt: Annotated[
        int, typer.Option(min=0, metavar="EPOCHS", help="First let it learn the train split's responses, by LoRA.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    max_bad: Annotated[int, typer.Option(min=0, help="Refused prompts allowed.")] = 10,
) -> None:
    """Let a teacher that has read the notes score every response, and cache what it says.

    Run again, it asks only what it has not been asked: after a stop, or after notes have changed. With --server it is
    vLLM (or has its /v1/completions); its key is read from PRIDE_OPENAI_API_KEY or OPENAI_API_KEY.
    Started by torchrun, processes share the shards.

    Example: pride teach shards --model smollm2-135m
    """
    import torch

    from pride_mm.data.shards import Sample, ShardSet
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.schema import Role
    from pride_mm.student.backbone import load_backbone, load_tokenizer
    from pride_mm.teacher.adapting import refuse_senses
    from pride_mm.teacher.asking import NotesRead, as_read
    from pride_mm.teacher.cache import teach as teach_shards
    from pride_mm.teacher.client import Client, key_of_environment
    from pride_mm.teacher.prompt import Prompt, choose_examples
    from pride_mm.teacher.ranks import join_ranks
    from pride_mm.teacher.remote_teacher import RemoteTeacher
    from pride_mm.teacher.scoring import AnyTeacher, Teacher
    from pride_mm.teacher.senses import load_seeing

    if notes not in ("given", "none", "shuffled"):
        raise UserError(f"--notes takes given, none or shuffled, not '{notes}'.")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"--dtype takes float32 or bfloat16, not '{dtype}'.")
    if fp8 and top_k:
        raise UserError("--fp8 is for states: give --top-k 0 as well.")
    if server and adapt:
        raise UserError("--adapt changes a model in this process: leave it or --server out.")
    if (tokenizer or insecure) and not server:
        raise UserError("--tokenizer and --insecure go with --server.")
    opened = ShardSet.open(shards)
    examples: list[Sample] = []
    if shots:
        samples = opened.samples("train", (Role.INPUT, Role.TARGET, Role.PRIVILEGED), media=False)[:_LOOKED_AT]
        chosen = {sample.key for sample in choose_examples(opened.schema, samples, shots)}
        examples = [sample for sample in as_read(samples, cast(NotesRead, notes)) if sample.key in chosen]
    template = Prompt.load(opened.schema, prompt, max_prompt, examples)
    bad = BadSamples(max_bad)
    teacher: AnyTeacher
    with join_ranks() as ranks:
        if server:
            key = key_of_environment()
            teacher = RemoteTeacher(Client(server, model, key), load_tokenizer(tokenizer or model), top_k, insecure)
        else:
            weights = (getattr(torch, dtype), ranks.device_map)
            seeing = load_seeing(model, opened.schema, *weights)
            asked, words, senses = seeing or (*load_backbone(model, *weights), None)
            if adapt:
                refuse_senses(model, senses)
                lessons = (adapt, max_response, batch_size, cast(NotesRead, notes))
                asked = _adapted(asked, words, template, opened, ranks, *lessons)
            teacher = Teacher(asked, words, top_k=top_k, fp8=fp8, senses=senses)
        with progress("Teaching", shown=ranks.rank == 0) as tick:
            record = teach_shards(
                opened,
                teacher,
                template,
                bad,
                model,
                max_response,
                write_missing=write,
                batch_size=batch_size,
                notes=cast(NotesRead, notes),
                progress=tick,
                ranks=ranks,
            )
    if ranks.rank == 0:
        name_bad(bad)
        _say_taught(record, opened)


def _say_taught(record: "CacheRecord", shards: "ShardSet") -> None:
    from pride_mm.teacher.cache import HIGH_GAIN

    counts, name = record.counts, record.teacher
    size = sum(tar.size for tar in record.tars.values()) / 2**20
    say(f"{counts.scored} of {counts.samples} samples scored by {name}, {counts.with_notes} of them with notes;")
    say(f"{counts.written} responses written by it, {counts.tokens:,} tokens read, {size:.1f} MiB of cache,")
    say(f"{size * 2**20 / max(counts.response_tokens, 1):,.0f} bytes a token.")
    if record.shown_fields:
        say(f"It was shown {' and '.join(record.shown_fields)}, one sample at a time.")
    if counts.kept:
        say(f"{counts.kept} of the samples had been asked the same before, and were kept.")
    if record.gain is not None:
        say(f"Notes make the experts' words likelier to it by {record.gain.nats:.3f} nats a token.")
        if record.gain.nats > HIGH_GAIN:
            complain(f"Above {HIGH_GAIN} nats, reverse KL misleads a student without notes: keep loss.ce at least")
            complain("as high as loss.kd, or set loss.divergence=forward_kl.")
    if drafts := sum(shards.manifest.drafts.values()):
        say(f"Of the notes in these shards {drafts} are a model's drafts, not experts' words ('pride pack --drafts').")
    if counts.prompts_shortened or counts.responses_cut:
        say(f"{counts.prompts_shortened} prompts lost old turns, {counts.responses_cut} responses were cut.")


def _adapted(
    model: Any,
    tokenizer: Any,
    template: "Prompt",
    shards: "ShardSet",
    ranks: "Ranks",
    epochs: int,
    length: int,
    batch: int,
    notes: Any,
) -> Any:
    """The teacher, after it has learnt; says what came of it."""
    from pride_mm.errors import BadSamples
    from pride_mm.teacher.adapting import adapt

    # what is refused is refused again, named and counted when it is taught
    bad = BadSamples(sum(shards.splits.values()))
    if ranks.rank:
        ranks.gather(None)  # the first rank learns, the others take what it has kept
    with progress("Adapting", shown=ranks.rank == 0) as tick:
        model, record = adapt(model, tokenizer, template, shards, bad, epochs, length, batch, notes, progress=tick)
    if ranks.rank:
        return model
    ranks.gather(None)
    say(f"The teacher has learnt {record.pairs} responses, {record.epochs} times over.")
    if record.before is not None and record.after is not None:
        say(f"Of the validation split's responses: {record.before:.3f} nats a token before, {record.after:.3f} after.")
        if record.after >= record.before:
            complain("It has become no better at them: teach without --adapt, or for fewer epochs.")
    return model


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of runs, or a run.")] = Path("runs"),
    report: Annotated[Path | None, typer.Option(help="A page with curves and what the runs differ in.")] = None,
) -> None:
    """List runs beside each other: how far, how well, how fast. They may still be training.

    Example: pride runs runs --report runs.html
    """
    from rich.table import Table

    from pipelines.cli.terminal import out
    from pride_mm.evaluation.runs import differing, read_runs, write_runs

    found = read_runs(folder)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for title in ("steps", "state", "best loss", "at", "tokens/s", "waiting"):
        table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    for one in found:
        table.add_row(
            one.name,
            f"{one.steps:,}",
            "finished" if one.finished else "open",
            "-" if one.loss is None else f"{one.loss:.4f}",
            "-" if one.at is None else f"{one.at:,}",
            "-" if one.speed is None else f"{one.speed:,.0f}",
            "-" if one.waiting is None else f"{one.waiting:.0%}",
        )
    out.print(table, soft_wrap=False)
    for name, values in differing(found).items():
        say(f"  {name}: {' | '.join(str(value) for value in values)}")
    if report is not None:
        write_runs(report, found)
        say(f"Page: {report}")


def train(
    run: Annotated[str, typer.Argument(help="The run: a name in configs/run, or a path to a TOML file.")],
    shards: Annotated[
        list[str], typer.Option(help="Folder or URL of shards; given again, they are mixed by data.weights.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of runs; this one is OUT/NAME.")] = Path("runs"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value on top of the run's file.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Look at a few steps: trace.json.gz, profile.json and profile.svg.")
    ] = False,
) -> None:
    """Train a student by dual alignment. Stopped, it goes on where it was when run again.

    Example: pride train privileged --shards shards --set optim.epochs=2
    Started by torchrun, several processes share each step.
    """
    from pride_mm.config import find_config, load_settings
    from pride_mm.data.shards import ShardSet
    from pride_mm.processes import is_first
    from pride_mm.training.loop import train as train_run
    from pride_mm.training.settings import RunSettings

    settings = load_settings(RunSettings, find_config("run", run), set_ or ())
    with progress("Training", shown=is_first()) as tick:
        outcome = train_run(settings, [ShardSet.open(place) for place in shards], out, tick, profile)
    name_bad(outcome.bad)
    if not is_first():
        return
    resumed = ", resumed" if outcome.resumed else ""
    if not outcome.finished:
        say(f"{outcome.run}: asked to stop, and saved at step {outcome.steps}{resumed}. Run the same command to go on.")
        return
    say(
        f"{outcome.run}: {outcome.steps} steps{resumed}; validation loss without notes {outcome.score:.3f} at its best."
    )
    if profile:
        _say_profile(outcome.run)


def _say_profile(run: Path) -> None:
    from pride_mm.training.tracing import PICTURE, SKIPPED, STEPS, TRACE, WARMUP

    if (run / PICTURE).is_file():
        say(f"{run / PICTURE} shows where the time went; {run / TRACE} is for https://ui.perfetto.dev.")
    else:
        complain(f"Too few steps to look at: a profile wants {SKIPPED + WARMUP + STEPS} in one go.")
