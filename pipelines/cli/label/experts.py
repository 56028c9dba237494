"""``pride label experts``: who may sign in, and who annotates what."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import DATA_DIR, DataDir, MaxBad, SchemaName, Title, require, studio_of
from pipelines.cli.terminal import complain, name_bad, progress, say

app = typer.Typer(no_args_is_help=True, help="Add experts, and say who annotates what.")


@app.command()
def add(
    names: Annotated[list[str], typer.Argument(help="Names (ana), or addresses (ana@uni.example).")],
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Make an account for each expert who has none.

    The password goes once into a file per expert in --data-dir that only you can read: hand it over, then delete it.
    Label Studio's community edition has no roles: whoever can sign in can read, change and delete all projects.

    Example: pride label experts add ana ben
    """
    from annotate.experts.accounts import add_experts

    folder = data_dir / "experts"
    made, there = add_experts(studio_of(data_dir), names, folder)
    for expert in made:
        say(f"{expert.name} signs in as {expert.email}, the password is in {folder / expert.name}.txt")
    for expert in there:
        say(f"{expert.name} is there already ({expert.email})")


@app.command()
def assign(
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, from 'pride ingest'.")],
    overlap: Annotated[int, typer.Option(min=1, help="Experts an item.")] = 2,
    given: Annotated[
        Path | None, typer.Option("--list", help="Instead: a CSV file with columns item and expert, a row a pair.")
    ] = None,
    by: Annotated[str, typer.Option(help="Only these experts: names or addresses with commas.")] = "",
    blind: Annotated[bool, typer.Option("--blind", help="A project of their own for each expert.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed draws otherwise between equals.")] = 0,
    schema: SchemaName = "pride",
    data_dir: DataDir = DATA_DIR,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the server serves; by default that of --data-dir.")
    ] = None,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Say which experts annotate which items; what was assigned before stays, new items are dealt out evenly.

    Without --blind, each expert gets a tab in the project, and a link that offers what is theirs. With --blind, each
    gets a project with only their items; 'pride label pull' puts them together. Nobody is locked out of anything: the
    community edition lets every user open every project, and blind means that nobody is shown another's work.

    Example: pride label experts assign items.jsonl --overlap 2 --blind
    """
    from annotate.exchange.project import Project
    from annotate.experts.accounts import experts
    from annotate.experts.assignment import assign as deal
    from annotate.experts.assignment import assigned, blind_projects, read_assignment, share, share_blind
    from annotate.server.local import media_root as served_by
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.records import read_items
    from pride_mm.schema import load_schema

    contract, bad = load_schema(schema), BadSamples(max_bad)
    require(items, *([given] if given else []))
    wanted = list(read_items(items, contract, bad))
    studio = studio_of(data_dir)
    people = experts(studio, [part.strip().lower() for part in by.split(",") if part.strip()])
    if not people:
        raise UserError(f"No experts at {studio.url} yet; add them: pride label experts add NAME.")
    names, ids = [expert.name for expert in people], [item.id for item in wanted]
    shared = Project(studio, contract, project)
    with progress("assign") as tick:
        if given:
            dealt = read_assignment(given, ids, names)
        elif blind:
            before: dict[str, tuple[str, ...]] = {}
            for name, own in blind_projects(studio, contract, project).items():
                for task in own.tasks():
                    before[task.item] = (*before.get(task.item, ()), name)
            dealt = deal(ids, names, overlap, seed, before)
        else:
            dealt = deal(ids, names, overlap, seed, assigned(shared))
        if blind:
            root = media_root or served_by(data_dir)
            done = share_blind(studio, contract, project, dealt, wanted, root, bad, tick)
        else:
            done = share(shared, dealt, people, tick)
    name_bad(bad)
    say(f"{done.added} assignments added, {done.before} were there; each expert's link offers their items:")
    for name in names:
        say(f"  {name:<15} {sum(name in experts_of for experts_of in dealt.values())} of these {len(ids)} items")
        for link in done.links.get(name, ()):
            say(f"    {link}")
    if done.missing:
        shown = ", ".join(done.missing[:5]) + (", ..." if len(done.missing) > 5 else "")
        complain(f"{len(done.missing)} items have no task yet ({shown}): push them, then assign again.")
        raise typer.Exit(1)
