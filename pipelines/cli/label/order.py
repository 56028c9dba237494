"""``pride label order``: which task an expert is offered next."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, MaxBad, SchemaName, Title, require, studio_of
from pipelines.cli.terminal import name_bad, progress, say


class By(StrEnum):
    """What the tasks are put in order by."""

    UNCERTAIN = "uncertain"
    GIVEN = "given"


def order(
    by: Annotated[By, typer.Argument(help="'uncertain', or 'given': as the items were pushed.")] = By.UNCERTAIN,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations so far, from 'pride label pull'; by default the project's own.")
    ] = None,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Put first what experts disagree on, what they changed in a draft, or what the model was unsure of.

    Every tab of the Data Manager is sorted so, and a link to each is printed: it offers its tasks in that order. Run
    it again as annotations and drafts come in.

    Example: pride label order uncertain --annotations annotations.jsonl
    """
    from annotate.drafts.order import AS_GIVEN, links, put_in_order, sort_tabs
    from annotate.exchange.project import Project
    from annotate.experts.assignment import blind_projects
    from annotate.server.credentials import pseudonym_key
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.records import Annotation, read_annotations
    from pride_mm.schema import load_schema

    contract, bad = load_schema(schema), BadSamples(max_bad)
    require(*([annotations] if annotations else []))
    studio = studio_of(data_dir)
    shared = Project(studio, contract, project)
    targets = [one for one in (shared, *blind_projects(studio, contract, project).values()) if one.numbers]
    if not targets:
        raise UserError(f"No project '{shared.title}' at {studio.url}; 'pride label push' makes it.")
    if by is By.GIVEN:
        for target in targets:
            for number in target.numbers:
                sort_tabs(target, number, AS_GIVEN)
        say("Tasks stand in the order in which they were pushed.")
        return
    given: list[Annotation] = list(read_annotations(annotations, contract, bad)) if annotations else []
    if not annotations:
        key = pseudonym_key(data_dir)
        given = [one for target in targets for one in target.pull(key, bad).annotations]
    for target in targets:
        with progress("order") as tick:
            ordered = put_in_order(target, given, tick)
        rest = ordered.tasks - ordered.disagreement - ordered.changed - ordered.doubt
        say(f"{target.title}: {ordered.tasks} tasks in order, {ordered.written} moved")
        say(f"  {ordered.disagreement} by how far experts disagree, {ordered.changed} by what one changed in a draft,")
        say(f"  {ordered.doubt} by the model's own doubt, {rest} in the middle: nothing is known of them")
        for address in links(target):
            say(f"  {address}")
    name_bad(bad)
