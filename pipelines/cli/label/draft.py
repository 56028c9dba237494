"""``pride label draft``: a model's drafts, for experts to correct."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, SchemaName, Title, require, studio_of
from pipelines.cli.terminal import name_bad, progress, say

if TYPE_CHECKING:
    from pride_mm.teacher.drafting import Writer

Teacher = Annotated[str, typer.Option(help="Language model in this process: a folder, a hub name, or smollm2-135m.")]
Server = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible server instead, such as http://127.0.0.1:8000/v1.")
]
Model = Annotated[str | None, typer.Option(help="The model of --server.")]
FieldNames = Annotated[list[str] | None, typer.Option("--field", help="Draft this field only; may be given again.")]
MaxPrompt = Annotated[int, typer.Option(min=64, help="Tokens of a question; a longer dialogue loses old turns.")]
TEACHER = "smollm2-135m"


def writer_of(teacher: str, server: str | None, model: str | None, max_prompt: int) -> tuple["Writer", str]:
    """The model that drafts, and its name; raises UserError where the options don't go together."""
    from pride_mm.errors import UserError

    if bool(server) != bool(model):
        raise UserError("--server and --model go together: where it answers, and which of its models drafts.")
    if server and model:
        from pride_mm.teacher.client import Client, key_of_environment
        from pride_mm.teacher.remote_writer import RemoteWriter

        return RemoteWriter(Client(server, model, key_of_environment()), max_prompt), model
    from pride_mm.student.backbone import load_backbone
    from pride_mm.teacher.local_writer import LocalWriter
    from pride_mm.teacher.scoring import Teacher as Local

    return LocalWriter(Local(*load_backbone(teacher)), max_prompt), teacher


def draft(
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, those that were pushed.")],
    teacher: Teacher = TEACHER,
    server: Server = None,
    model: Model = None,
    field: FieldNames = None,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
    max_prompt: MaxPrompt = 1024,
    max_bad: Annotated[int, typer.Option(min=0, help="Stop after more fields without a draft than this.")] = 100,
) -> None:
    """Have a model draft the notes, so that experts correct instead of starting from nothing.

    Drafts are predictions, marked with the model's version for ever after. A second run adds nothing, and one that
    was stopped goes on. With --server the dialogues go to that server; its key is read from PRIDE_OPENAI_API_KEY or
    OPENAI_API_KEY.

    Example: pride label draft items.jsonl --teacher smollm2-135m
    """
    from annotate.drafts.predictions import version_of, write_drafts
    from annotate.exchange.project import Project
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_items
    from pride_mm.schema import load_schema
    from pride_mm.teacher.drafting import Drafter, DraftPrompt, drafted_fields

    contract = load_schema(schema)
    require(items)
    fields, prompt, bad = drafted_fields(contract, field), DraftPrompt.load(contract), BadSamples(max_bad)
    target = Project(studio_of(data_dir), contract, project)
    wanted = list(read_items(items, contract, bad))
    writer, name = writer_of(teacher, server, model, max_prompt)
    drafter, version = Drafter(prompt, writer, bad), version_of(name, prompt, fields)
    with progress("draft") as tick:
        written = write_drafts(target, wanted, drafter, fields, version, tick)
    name_bad(bad)
    left = [f"{written.before} were drafted before"] if written.before else []
    left += [f"{written.annotated} an expert has annotated"] if written.annotated else []
    left += [f"{written.empty} the model had nothing for"] if written.empty else []
    say(f"{written.tasks} items drafted by {version}, {written.fields} fields{''.join(f'; {one}' for one in left)}")
    if drafter.shortened:
        say(f"{drafter.shortened} questions lost old turns (--max-prompt).")
