"""The one command, ``pride``. Exit codes: 0 well, 1 findings or failure, 2 misuse, 130 stopped.

Each group of commands is a file beside this one; they import the heavy libraries only when they
run, so that ``pride --help`` answers at once.
"""

import os
import sys
from collections.abc import Sequence

import typer

from pipelines.cli import (
    ablate,
    audit,
    demo,
    evaluation,
    export,
    gate,
    ingest,
    label,
    learn,
    pack,
    plan,
    serve,
    shards,
    talk,
)
from pipelines.cli import (
    app as page,
)
from pride_mm.errors import UserError
from pride_mm.memory import keep_freed_memory

_STOPPED = 130
# what a path that was typed may be, other than what the command needs
_WRONG_PATH = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

app = typer.Typer(
    name="pride",
    help="Distil empathetic, multimodal dialogue models with privileged information.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
demo.register(app)
ingest.register(app)
gate.register(app)
app.add_typer(label.app, name="label")
pack.register(app)
shards.register(app)
audit.register(app)
plan.register(app)
learn.register(app)
ablate.register(app)
app.add_typer(evaluation.app, name="eval")
export.register(app)
talk.register(app)
serve.register(app)
page.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command in this process; returns its exit code."""
    from pipelines.cli.terminal import complain

    command = typer.main.get_command(app)
    try:
        code = command.main(args=list(arguments), prog_name="pride", standalone_mode=False)
    except UserError as error:
        complain(str(error))
        return 2
    except _WRONG_PATH as error:
        if error.filename is None:
            raise
        complain(f"{error.strerror}: {error.filename2 or error.filename}. Give another path.")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        error.show() if hasattr(error, "show") else None
        return int(error.exit_code)
    if code == _STOPPED:  # typer, too, makes this code of a Ctrl-C
        complain("Stopped. Nothing half-written was left under its final name; run the same command again.")
    return code if isinstance(code, int) else 0


def main() -> None:
    """The entry point of the installed command."""
    # Label Studio's SDK and the libraries below it print warnings that no user can act on.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # PyTorch's profiler complains of each GPU library that isn't there
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    # bars of the libraries below; ours are rich's
    os.environ.setdefault("TQDM_DISABLE", "1")
    keep_freed_memory()
    sys.exit(run(sys.argv[1:]))
