"""``pride plan``."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import progress, say

if TYPE_CHECKING:
    from pride_mm.training.plan import Plan

_MFU, _TITLE, _COLUMNS = 0.4, 18, 80
_KEPT = "\u00a0"
"""A space at which no line is broken."""
_UNITS = ("", *(f"{_KEPT}{unit}" for unit in "kMGTPEZ"))


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
    mfu: Annotated[
        float | None,
        typer.Option(min=0.001, max=1.0, show_default=str(_MFU), help="The part of --tflops that is reached."),
    ] = None,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of a process and hour, in any money.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a run will be and take: weights, steps, memory, disk, time. Trains nothing, and writes nothing.

    Example: pride plan privileged --shards shards --ranks 8 --tflops 989 --price 2.5
    """
    from textwrap import fill

    from pride_mm.config import find_config, load_settings
    from pride_mm.data.shards import ShardSet
    from pride_mm.errors import UserError
    from pride_mm.training.plan import make_plan
    from pride_mm.training.settings import RunSettings

    if mfu is not None and tflops is None:
        raise UserError("--mfu is a part of --tflops: give that as well, or leave --mfu out to measure time here.")
    reached = _MFU if mfu is None else mfu
    settings = load_settings(RunSettings, find_config("run", run), set_ or ())
    with progress("Measuring") as tick:
        found = make_plan(
            settings, [ShardSet.open(place) for place in shards], ranks, steps, tflops, reached, price, tick
        )
    if json:
        about = {"whole": found.whole, "total_flops": found.total_flops, "hours": found.hours, "cost": found.cost}
        say(_json(found.model_dump() | about))
        return
    for name, value in _rows(found, reached):
        lines = fill(value, _COLUMNS, initial_indent=f"{name:<{_TITLE}}", subsequent_indent=" " * _TITLE)
        say(lines.replace(_KEPT, " "))


def _json(found: dict[str, object]) -> str:
    import json

    return json.dumps(found, indent=1)


def _rows(plan: "Plan", mfu: float) -> list[tuple[str, str]]:
    parts = [f"{name.replace('_', ' ')} {_number(count)}" for name, count in plan.parameters.items() if count]
    memory = [f"{name} {_size(taken)}" for name, taken in plan.memory.items()]
    rows = [
        ("run", f"{plan.name}, by {plan.ranks} process{'es' if plan.ranks > 1 else ''}"),
        ("parameters", f"{_number(plan.whole)}, {_number(plan.trained)} of them trained: {', '.join(parts)}"),
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
    how = f"measured on {plan.device}" if plan.measured else f"estimated at {mfu:.0%} of the peak given"
    rows.append(("time", f"{_duration(plan.hours)}: {plan.seconds:.3g} s a step, {how}, {_waiting(plan)}"))
    if plan.cost is not None:
        rows.append(("cost", f"{plan.cost:,.2f}"))
    estimated = "; exchange is estimated" if "exchange" in plan.memory else ""
    rows.append(("measured", f"tokens, FLOP and activations, on {plan.device}; sizes are counted{estimated}"))
    return rows


def _waiting(plan: "Plan") -> str:
    alone = "" if plan.ranks == 1 else "; what processes wait for each other comes on top"
    return f"and {plan.waiting:.2g} s of waiting for data as they are read here{alone}"


def _number(value: float) -> str:
    power = 0
    while value >= 1000 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{_UNITS[power]}"


def _size(value: float) -> str:
    mib = value / 2**20
    return f"{mib:.3g}{_KEPT}MiB" if mib < 1000 else f"{mib / 1024:.3g}{_KEPT}GiB"


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.2g} s"
    if hours < 1:
        return f"{hours * 60:.2g} min"
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} days"
