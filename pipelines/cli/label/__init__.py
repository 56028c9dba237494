"""``pride label``: a Label Studio of one's own, items into it, annotations out of it, and how far they agree."""

import typer

from pipelines.cli.label import experts
from pipelines.cli.label.agreement import adjudicate, agree
from pipelines.cli.label.assist import assist
from pipelines.cli.label.draft import draft
from pipelines.cli.label.elan import elan
from pipelines.cli.label.exchange import pull, push
from pipelines.cli.label.order import order
from pipelines.cli.label.server import serve
from pipelines.cli.label.status import status
from pipelines.cli.label.watch import watch

app = typer.Typer(no_args_is_help=True, help="Annotate in Label Studio.")
for command in (serve, push, draft, assist, order, pull, watch, status, agree, adjudicate):
    app.command()(command)
app.add_typer(experts.app, name="experts")
app.add_typer(elan, name="elan")
