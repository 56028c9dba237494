"""``pride eval``: what students say, held against experts, each other and notes. Each command is a file beside this."""

from typing import Any

import typer
from typer.core import TyperGroup

from pipelines.cli.evaluation import study
from pipelines.cli.evaluation.judge import judge
from pipelines.cli.evaluation.leakage import leakage
from pipelines.cli.evaluation.score import score
from pipelines.cli.evaluation.scorer import scorer


class _ScoreUnlessNamed(TyperGroup):
    """``pride eval RUN ...`` is ``pride eval score RUN ...``: what is asked most is said shortest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["score", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ScoreUnlessNamed,
    no_args_is_help=True,
    help="Score students, and see what of the notes reaches them. 'pride eval RUN' is 'pride eval score RUN'.",
)
app.command()(score)
app.command()(scorer)
app.command()(judge)
app.add_typer(study.app, name="study")
app.command()(leakage)
