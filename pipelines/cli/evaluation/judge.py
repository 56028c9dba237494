"""``pride eval judge``: a model says which of two contenders answers better."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.evaluation.options import First, MaxBad, Second, Shards, pairs_of
from pipelines.cli.terminal import complain, name_bad, progress, say

if TYPE_CHECKING:
    from pride_mm.evaluation.verdicts import AspectJudged


def judge(
    first: First,
    second: Second,
    shards: Shards,
    server: Annotated[str, typer.Option(help="An OpenAI-compatible server, such as http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option(help="Its model that judges.")],
    scores: Annotated[Path, typer.Option(help="What 'pride eval score' wrote.")] = Path("report/scores.json"),
    out: Annotated[Path, typer.Option(help="Folder for judge.json, and judge.jsonl with every answer.")] = Path(
        "judge"
    ),
    samples: Annotated[int, typer.Option(min=1, help="At most so many pairs, evenly spaced.")] = 200,
    prompt: Annotated[str, typer.Option(help="Prompt template: a name in configs/prompt, or a path.")] = "judge",
    max_prompt: Annotated[int, typer.Option(min=64, help="Tokens of a question; longer ones lose old turns.")] = 4096,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of an answer; one that thinks aloud needs more.")
    ] = 512,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let dialogues go over a network by http, for all on it to read.")
    ] = False,
    max_bad: MaxBad = 10,
) -> None:
    """Have a model compare two contenders' answers, each pair in both orders.

    A verdict counts where both orders agree; else the pair is a tie and a flip. The server gets dialogues and answers,
    never a note; its key is read from PRIDE_OPENAI_API_KEY or OPENAI_API_KEY. Run it again where it was cut off: what
    was answered is not asked again.

    Example: pride eval judge plain human --shards shards --server http://127.0.0.1:8000/v1 --model judge-7b
    """
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.evaluation.gold import spread
    from pride_mm.evaluation.judge import Judge, is_teacher
    from pride_mm.evaluation.verdicts import count_all, judge_json
    from pride_mm.files import write_json
    from pride_mm.teacher.client import Client, key_of_environment
    from pride_mm.teacher.remote_writer import RemoteWriter

    client = Client(server, model, key_of_environment())
    if not (client.private or insecure):
        raise UserError(
            f"Dialogues would go to {client.url} unencrypted: use https, or a tunnel to that machine; or give "
            "--insecure where nobody else is on the network between."
        )
    opened, contenders, bad = ShardSet.open(shards), (first, second), BadSamples(max_bad)
    pairs = {pair.key: pair for pair in pairs_of(scores, opened, contenders, bad)}
    chosen = [pairs[key] for key in spread(list(pairs), samples)]
    if is_teacher(model, opened):
        complain(f"WARNING: {model} has taught; a judge is not impartial to a student of its own.")
    asker, long = Judge(RemoteWriter(client, max_prompt, max_tokens), out / "judge.jsonl", prompt), BadSamples(max_bad)
    with progress("Judging") as tick:
        judged = asker.judge(chosen, long, tick)
    name_bad(long)
    aspects = count_all(judged)
    write_json(out / "judge.json", judge_json(contenders, model, asker.prompt_sha256, judged, aspects))
    if asker.shortened:
        say(f"{asker.shortened} dialogues lost old turns (--max-prompt).")
    same = sum(one.pair.same for one in judged)
    say(f"{first} against {second}: {len(judged)} pairs, judged by {model} in both orders; {same} alike")
    _show(contenders, aspects, [one.pair.answers for one in judged])
    say(f"{out / 'judge.json'}")


def _show(contenders: tuple[str, str], aspects: "dict[str, AspectJudged]", answers: list[tuple[str, str]]) -> None:
    """The tables, in 80 columns."""
    from pride_mm.evaluation.preference import HEAD, row

    say(f"{HEAD}{'flips':>7}")
    for name, found in aspects.items():
        flips = "-" if found.flip_rate is None else f"{found.flip_rate:.0%}"
        say(f"{row(name, found.preference)}{flips:>7}")
    say("Of similar length only:")
    for name, found in aspects.items():
        say(row(name, found.similar))
    for number, name in enumerate(contenders):
        say(f"{name}: {sum(len(answer[number]) for answer in answers) / max(1, len(answers)):.0f} characters an answer")
    for name, found in aspects.items():
        if found.of:
            say(f"{name}: of {found.of} verdicts for a side {found.first_shown / found.of:.0%} named what stood first")
        if found.unread:
            shown = ", ".join(found.unread[:5]) + (", ..." if len(found.unread) > 5 else "")
            complain(f"{name}: {len(found.unread)} pairs left out, no verdict to read in an answer ({shown})")
