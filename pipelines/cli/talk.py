"""``pride chat`` and ``pride predict``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.terminal import complain, name_bad, progress, say

if TYPE_CHECKING:
    from pride_mm.serving.conversation import Conversation
    from pride_mm.serving.predictor import Answer

_HELP = "/attach FILE shows it a clip with your next line, /reset forgets the talk, /quit ends."


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(chat)
    app.command()(predict)


def chat(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    line: Annotated[str | None, typer.Option("--say", help="Say one line, print the answer, and end.")] = None,
    attach: Annotated[Path | None, typer.Option(help="A clip to show with the first line.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")] = 64,
) -> None:
    """Talk to a student.

    Example: pride chat artifact --say "I lost my job today."
    """
    from pride_mm.serving.conversation import Conversation
    from pride_mm.serving.predictor import Predictor
    from pride_mm.serving.safety import NOT_THERAPY

    talk = Conversation(Predictor.open(artifact), max_tokens)
    complain(NOT_THERAPY)
    if attach is not None:
        talk.attach(attach)
    if line is not None:
        _show(talk.say(line))
        return
    say(_HELP)
    for typed in _lines():
        if typed in ("/quit", "/exit"):
            break
        _obey(talk, typed)


def _lines() -> Iterator[str]:
    while True:
        try:
            typed = input("you> ").strip()
        except EOFError:
            return
        if typed:
            yield typed


def _obey(talk: "Conversation", typed: str) -> None:
    """Do what one line asks; a mistake is said, and the talk goes on."""
    from pride_mm.errors import UserError

    try:
        if typed == "/reset":
            talk.reset()
            say("Forgotten.")
        elif typed.startswith("/attach"):
            names = talk.attach(Path(typed.removeprefix("/attach").strip()))
            say(f"Shown with your next line: {', '.join(names)}.")
        elif typed.startswith("/"):
            say(_HELP)
        else:
            _show(talk.say(typed))
    except UserError as error:
        complain(str(error))


def _show(answer: "Answer") -> None:
    say(answer.text or "(no answer)")
    if answer.targets:
        say("  " + ", ".join(f"{head}: {label} {100 * share:.0f} %" for head, (label, share) in answer.targets.items()))


def predict(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    requests: Annotated[Path, typer.Argument(help="JSON lines, each the inputs of one item; media by path.")],
    out: Annotated[Path, typer.Option(help="File for the answers, one JSON object a line.")] = Path("answers.jsonl"),
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the longest answer.")] = 64,
    max_bad: Annotated[int, typer.Option(min=0, help="Refused lines allowed.")] = 10,
) -> None:
    """Answer a file of requests. Exits 1 where a line was refused.

    Example: pride predict artifact requests.jsonl --out answers.jsonl
    """
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.files import write_jsonl
    from pride_mm.serving.predictor import Predictor

    if not requests.is_file():
        raise UserError(f"No file {requests}: give JSON lines with one request each.")
    predictor, bad = Predictor.open(artifact), BadSamples(max_bad)
    with progress("Answering") as tick:
        count = write_jsonl(out, _answers(predictor, requests, max_tokens, bad, tick))
    name_bad(bad)
    say(f"{count} answers in {out}.")
    if len(bad):
        raise typer.Exit(1)


def _answers(predictor: Any, requests: Path, max_tokens: int, bad: Any, tick: Any) -> Iterator[dict[str, Any]]:
    from pride_mm.errors import SampleError, UserError
    from pride_mm.records import read_lines
    from pride_mm.serving.request import read_request

    for number, (place, given) in enumerate(read_lines(requests, bad), 1):
        try:
            answer = predictor.answer(read_request(predictor.request, given, requests.parent), max_tokens)
        except UserError as error:
            bad.add(SampleError(place, None, str(error)))
            continue
        tick(number)
        targets = {head: {"label": label, "probability": round(p, 6)} for head, (label, p) in answer.targets.items()}
        yield {"line": int(place.rpartition(":")[2]), "text": answer.text, "targets": targets}
