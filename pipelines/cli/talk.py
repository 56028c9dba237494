"""``pride chat`` and ``pride predict``."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli import options
from pipelines.cli.terminal import complain, name_bad, progress, say, say_as_it_comes

if TYPE_CHECKING:
    from pride_mm.serving.conversation import Conversation
    from pride_mm.serving.predictor import Predictor, Reading

_HELP = """/attach FILE  shows it a clip or a sound with your next line
/emotion      what it read in your last line, and where it looked
/reset        forgets the talk; it is kept nowhere else
/quit         ends; Ctrl-C breaks off an answer"""


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(chat)
    app.command()(predict)


def chat(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    line: Annotated[str | None, typer.Option("--say", help="Say one line, print the answer, and end.")] = None,
    attach: Annotated[Path | None, typer.Option(help="A clip to show with the first line.")] = None,
    max_tokens: options.MaxTokens = 64,
    safety: options.Safety = "crisis",
) -> None:
    """Talk to a student. Words appear as they are made; the talk is kept in memory until it ends.

    Example: pride chat artifact --say "I lost my job today."
    """
    from pride_mm.serving.conversation import Conversation
    from pride_mm.serving.predictor import Predictor
    from pride_mm.serving.safety import NOT_THERAPY

    talk = Conversation(Predictor.open(artifact, safety=safety), max_tokens)
    complain(NOT_THERAPY)
    if attach is not None:
        talk.attach(attach)
    if line is not None:
        _answer(talk, line)
        _emotion(talk)
        return
    with contextlib.suppress(ImportError):  # lines can be edited and called back; Windows has its own
        import readline  # noqa: F401
    say(_HELP)
    for typed in _lines():
        if typed in ("/quit", "/exit"):
            break
        _obey(talk, typed)


def _lines() -> Iterator[str]:
    while True:
        try:
            typed = input("\nyou> ").strip()
        except EOFError:
            return
        if typed:
            yield typed


def _obey(talk: "Conversation", typed: str) -> None:
    """Do what one line asks; a mistake is said, and the talk goes on."""
    from pride_mm.errors import UserError

    command, _, rest = typed.partition(" ")
    try:
        if command == "/reset":
            talk.reset()
            say("Forgotten.")
        elif command == "/attach":
            names = talk.attach(Path(rest.strip().strip("'\"")).expanduser())
            say(f"Shown with your next line: {', '.join(names)}.")
        elif command == "/emotion":
            _emotion(talk)
        elif command.startswith("/"):
            say(_HELP)
        else:
            _answer(talk, typed)
    except UserError as error:
        complain(str(error))


def _answer(talk: "Conversation", line: str) -> None:
    before = len(talk.turns)
    try:
        say_as_it_comes(talk.stream(line))
    except KeyboardInterrupt:
        say(" ...")
    if len(talk.turns) == before + 1:
        say("(no answer)")


def _emotion(talk: "Conversation") -> None:
    reading = talk.read()
    if reading is None:
        say("Say something first.")
        return
    if not reading.targets:
        say("This student reads nothing beside its answer: its schema has no choice and no scale as a target.")
        return
    rows = dict(_rows(talk.predictor, reading))
    for name, row in rows.items():
        shown = ", ".join(f"{label} {100 * share:.0f} %" for label, share in row)
        say(f"{name + ':':<{max(map(len, rows)) + 2}}{shown}")


def _rows(predictor: "Predictor", reading: "Reading") -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """For each head its likeliest classes; then the sources by attention."""
    for head, shares in reading.targets.items():
        yield predictor.schema.get(head).label.lower(), list(shares.items())[:3]
    yield "looked at", list(reading.looked_at(predictor.schema).items())


def predict(
    artifact: Annotated[Path, typer.Argument(help="Folder that 'pride export' wrote.")],
    requests: Annotated[Path, typer.Argument(help="JSON lines, each the inputs of one item; media by path.")],
    out: Annotated[Path, typer.Option(help="File for the answers, one JSON object a line.")] = Path("answers.jsonl"),
    max_tokens: options.MaxTokens = 64,
    max_bad: Annotated[int, typer.Option(min=0, help="Refused lines allowed.")] = 10,
    safety: options.Safety = "crisis",
) -> None:
    """Answer a file of requests. Exits 1 where a line was refused.

    Example: pride predict artifact requests.jsonl --out answers.jsonl
    """
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.files import write_jsonl
    from pride_mm.serving.predictor import Predictor

    if not requests.is_file():
        raise UserError(f"No file {requests}: give JSON lines with one request each.")
    predictor, bad = Predictor.open(artifact, safety=safety), BadSamples(max_bad)
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
        concern = {} if answer.concern is None else {"concern": answer.concern}
        yield {"line": int(place.rpartition(":")[2]), "text": answer.text, "targets": targets, **concern}
