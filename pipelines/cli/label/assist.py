"""``pride label assist``: drafts on the page, made when an expert opens a task."""

from typing import Annotated

import typer

from pipelines.cli.label.draft import TEACHER, FieldNames, MaxPrompt, Model, Server, Teacher, writer_of
from pipelines.cli.label.options import DATA_DIR, DataDir, SchemaName, Title, studio_of
from pipelines.cli.terminal import name_bad, progress, say

_NO_LIMIT = 1_000_000_000


def assist(
    teacher: Teacher = TEACHER,
    server: Server = None,
    model: Model = None,
    field: FieldNames = None,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 takes a free one.")] = 9090,
    max_prompt: MaxPrompt = 1024,
) -> None:
    """Draft a task when an expert opens it, until Ctrl-C.

    It listens on 127.0.0.1 only, so Label Studio must run on this machine. Drafts that are there already, by 'pride
    label draft' or by an earlier opening, are shown as they are.

    Example: pride label assist --teacher smollm2-135m
    """
    import signal

    from annotate.drafts.backend import Assistant, AssistServer
    from annotate.drafts.predictions import version_of
    from annotate.exchange.project import Project
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.schema import load_schema
    from pride_mm.teacher.drafting import Drafter, DraftPrompt, drafted_fields

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    contract = load_schema(schema)
    fields, prompt, bad = drafted_fields(contract, field), DraftPrompt.load(contract), BadSamples(_NO_LIMIT)
    target = Project(studio_of(data_dir), contract, project)
    if not target.parts():
        raise UserError(f"No project '{target.title}' at {target.studio.url}; 'pride label push' makes it.")
    writer, name = writer_of(teacher, server, model, max_prompt)
    version = version_of(name, prompt, fields)
    signal.signal(signal.SIGTERM, stop)
    with progress("assist") as tick:
        assistant = Assistant(target, Drafter(prompt, writer, bad), fields, version, tick)
        with AssistServer(assistant, port) as running:
            say(f"{version} drafts what is opened in '{target.title}', at {running.url}; stop it with Ctrl-C")
            try:
                running.wait()
            except KeyboardInterrupt:
                say("Stopped; the drafts that were made stay.")
    name_bad(bad)
