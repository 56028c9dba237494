"""``pride ablate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import complain, out, progress, say

if TYPE_CHECKING:
    from pride_mm.evaluation.ablation.findings import ArmFound, Findings


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(ablate)


def ablate(
    shards: Annotated[Path, typer.Argument(help="Folder of shards, with their .privileged.tar.")],
    ablation: Annotated[
        str, typer.Option("--arms", help="What is tried: a name in configs/ablation, or a path to a TOML file.")
    ] = "method",
    only: Annotated[list[str] | None, typer.Option(help="An arm of it; given again, several. All, if not.")] = None,
    out_: Annotated[Path, typer.Option("--out", help="Folder of its runs, teachers, and what was found.")] = Path(
        "ablation"
    ),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value on top of the file, as seeds=[1].")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trainings side by side; they share the cores.")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster that trains instead, one training a CPU.")
    ] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Broken samples that each training may meet.")] = 10,
) -> None:
    """What each part of the method is worth: arms and seeds trained, examined and compared in pairs.

    Stopped, the same command goes on where it was; with an arm more, only that is trained.

    Example: pride ablate shards --arms method --only plain --only no_mmd --workers 2
    """
    import os

    from pipelines.ray_workers import ray_workers
    from pipelines.trials import BOUNDS, run_ablation
    from pipelines.workers import processes
    from pride_mm.data.shards import ShardSet
    from pride_mm.evaluation.ablation.arms import load_ablation
    from pride_mm.evaluation.ablation.report import findings_json, write_ablation
    from pride_mm.evaluation.ablation.trials import Design
    from pride_mm.files import write_json

    chosen = load_ablation(ablation, set_ or ())
    design = Design.of(chosen.chosen(only) if only else chosen, ShardSet.open(shards), out_.resolve())
    for name, why in design.left_out.items():
        complain(f"{name} is left out: {why}.")
    threads = 1 if ray else max(1, len(os.sched_getaffinity(0)) // workers)
    with (
        ray_workers(ray, BOUNDS) if ray else processes(workers, BOUNDS) as hands,
        progress("Ablation") as tick,
    ):
        found = run_ablation(design, hands, threads, max_bad, tick)
    write_json(out_ / "ablation.json", findings_json(found))
    write_ablation(out_ / "ablation.html", found)
    _show(found)
    say(f"{out_ / 'ablation.html'}")


def _show(found: "Findings") -> None:
    """The measure that matters most, a line an arm."""
    from rich.table import Table

    name = next(iter(found.better))
    table = Table(box=None, pad_edge=False, header_style="bold", title=None)
    table.add_column("arm", overflow="fold", ratio=1)
    for title in (found.titles[name], "± seeds", "difference", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    for arm in found.arms:
        value, spread = arm.values[name]
        effect = arm.effects.get(name)
        table.add_row(
            arm.title,
            f"{value:.2f}",
            "-" if spread is None else f"{spread:.2f}",
            "-" if effect is None else f"{effect.value:+.2f}",
            "-" if effect is None else f"{effect.low:+.2f} to {effect.high:+.2f}",
        )
    out.print(table, soft_wrap=False)
    for arm in found.arms[1:]:
        for line in _verdicts(found, arm):
            say(line)


def _verdicts(found: "Findings", arm: "ArmFound") -> list[str]:
    """A line a measure in which the arm differs; one line where it differs in none."""
    told = {name: found.verdict(arm, name) for name in found.better}
    differs = [name for name, said in told.items() if said.endswith("'")]
    if not differs:
        return [f"{arm.title}: {next(iter(told.values()))}."]
    return [f"{arm.title}: {told[name]} in {found.titles[name]}." for name in differs]
