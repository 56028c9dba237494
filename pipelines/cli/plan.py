"""``pride plan``."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import progress, say

if TYPE_CHECKING:
    from pride_mm.training.plan import Plan

_UNITS = ("", " k", " M", " G", " T", " P", " E", " Z")


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(plan)


def plan(
    run: Annotated[str, typer.Argument(help="The run: a name in configs/run, or a path to a TOML file.")],
    shards: Annotated[
        list[str], typer.Option(help="Folder or URL of shards; given again, they are mixed by data.weights.")
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value on top of the run's file.")] = None,
    ranks: Annotated[int, typer.Option(min=1, help="Processes that will train.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps that are measured, here.")] = 3,
    tflops: Annotated[
        float | None, typer.Option(min=0.001, help="Peak TFLOP/s of the GPUs meant; not given, time is measured here.")
    ] = None,
    mfu: Annotated[float, typer.Option(min=0.001, max=1.0, help="The part of --tflops that is reached.")] = 0.4,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of a process and hour, in any money.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a run will be and take: weights, steps, memory, disk, time. Trains nothing, and writes nothing.

    Example: pride plan privileged --shards shards --ranks 8 --tflops 989 --price 2.5
    """
    from pride_mm.config import find_config, load_settings
    from pride_mm.data.shards import ShardSet
    from pride_mm.training.plan import make_plan
    from pride_mm.training.settings import RunSettings

    settings = load_settings(RunSettings, find_config("run", run), set_ or ())
    with progress("Measuring") as tick:
        found = make_plan(settings, [ShardSet.open(place) for place in shards], ranks, steps, tflops, mfu, price, tick)
    if json:
        about = {"total_flops": found.total_flops, "hours": found.hours, "cost": found.cost}
        say(_json(found.model_dump() | about))
        return
    for name, value in _rows(found, mfu):
        say(f"{name:<18}{value}")


def _json(found: dict[str, object]) -> str:
    import json

    return json.dumps(found, indent=1)


def _rows(plan: "Plan", mfu: float) -> list[tuple[str, str]]:
    parts = [f"{name.replace('_', ' ')} {_number(count)}" for name, count in plan.parameters.items() if count]
    memory = [f"{name} {_size(taken)}" for name, taken in plan.memory.items()]
    rows = [
        ("run", f"{plan.name}, by {plan.ranks} process{'es' if plan.ranks > 1 else ''}"),
        ("parameters", ", ".join(parts[:4])),
        *([("", ", ".join(parts[4:]))] if parts[4:] else []),
        ("trained", _number(plan.trained)),
        ("steps", f"{plan.steps:,} ({plan.samples:,} samples an epoch, {plan.epochs} epochs)"),
        ("a step of each", f"{plan.tokens:,.0f} tokens, {_number(plan.flops)}FLOP"),
        ("the whole run", f"{_number(plan.total_flops)}FLOP"),
        ("memory of each", f"{_size(sum(plan.memory.values()))}: {', '.join(memory)}"),
        ("checkpoints", f"{_size(plan.checkpoint)} each, {plan.checkpoints} kept"),
    ]
    if plan.features:
        rows.append(("kept features", f"up to {_size(plan.features)}"))
    if plan.teacher_cache:
        rows.append(("teacher's cache", f"{_size(plan.teacher_cache)}, there already"))
    how = f"measured on {plan.device}" if plan.measured else f"at {mfu:.0%} of the peak given"
    rows.append(("time", f"{_duration(plan.hours)}, {plan.seconds:.3g} s a step, {how}"))
    if plan.cost is not None:
        rows.append(("cost", f"{plan.cost:,.2f}"))
    return rows


def _number(value: float) -> str:
    power = 0
    while value >= 1000 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{_UNITS[power]}"


def _size(value: float) -> str:
    mib = value / 2**20
    return f"{mib:.3g} MiB" if mib < 1000 else f"{mib / 1024:.3g} GiB"


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    if hours < 1:
        return f"{hours * 60:.2g} min"
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} days"
