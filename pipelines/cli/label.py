"""``pride label``: a Label Studio of one's own, items into it, annotations out of it, and how far they agree."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import complain, name_bad, progress, say

if TYPE_CHECKING:
    from annotate.studio import Studio

app = typer.Typer(no_args_is_help=True, help="Annotate in Label Studio.")

SchemaName = Annotated[str, typer.Option("--schema", help="Name in configs/schema, or a path to a TOML file.")]
DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Folder of the server: database, media, token, key of the pseudonyms.")
]
Title = Annotated[str | None, typer.Option("--project", help="Title; by default 'PRIDE <schema> v<version>'.")]
MaxBad = Annotated[int, typer.Option("--max-bad", min=0, help="Stop after more bad records than this.")]
_DATA_DIR = Path("label-studio")


@app.command()
def serve(
    data_dir: DataDir = _DATA_DIR,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 takes a free one.")] = 8080,
) -> None:
    """Start a Label Studio on this machine and keep it running until Ctrl-C.

    It listens on 127.0.0.1 only, sends nothing to the outside and keeps all it has in --data-dir.

    Example: pride label serve --port 8080
    """
    import signal

    from annotate.server import LocalServer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    told: list[str] = []

    def tell(done: int, total: int | None = None, note: str = "") -> None:
        if note not in told:
            told.append(note)
            complain(f"{note} ...")

    with LocalServer(data_dir, port, progress=tell) as server:
        say(f"Label Studio runs at {server.url}")
        say(f"  sign in as {server.credentials.email}, the password is in {data_dir / 'credentials.json'}")
        say("  next, in another terminal: pride label push items.jsonl")
        say("  stop it with Ctrl-C")
        try:
            server.wait()
        except KeyboardInterrupt:
            say("Stopped; everything is kept.")


@app.command()
def push(
    items: Annotated[Path, typer.Argument(help="Items as JSON lines, from 'pride ingest'.")],
    schema: SchemaName = "pride",
    annotations: Annotated[Path | None, typer.Option(help="Annotations to load with them, as JSON lines.")] = None,
    data_dir: DataDir = _DATA_DIR,
    media_root: Annotated[
        Path | None, typer.Option(help="Folder that the server serves; by default that of --data-dir.")
    ] = None,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Make the project from the schema and add the items that are not there yet.

    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY choose a server that exists instead of --data-dir's.

    Example: pride label push items.jsonl --annotations annotations.jsonl
    """
    from annotate.project import Project
    from annotate.server import media_root as served_by
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_annotations, read_items
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    _require(items, *([annotations] if annotations else []))
    bad = BadSamples(max_bad)
    wanted = list(read_items(items, contract, bad))
    loads = list(read_annotations(annotations, contract, bad)) if annotations else []
    target = Project(_studio(data_dir), contract, project)
    with progress("push") as tick:
        pushed = target.push(wanted, media_root or served_by(data_dir), loads, bad, tick)
    name_bad(bad)
    say(f"{pushed.tasks} tasks added, {pushed.tasks_before} were there")
    if annotations:
        say(f"{pushed.annotations} annotations added, {pushed.annotations_before} were there")
    for address in target.addresses:
        say(f"  {address}")


@app.command()
def pull(
    out: Annotated[Path, typer.Option(help="Where the annotations go, as JSON lines.")] = Path("annotations.jsonl"),
    schema: SchemaName = "pride",
    data_dir: DataDir = _DATA_DIR,
    project: Title = None,
    max_bad: MaxBad = 10,
) -> None:
    """Write what the annotators said as records, under pseudonyms.

    Example: pride label pull --out annotations.jsonl
    """
    from annotate.credentials import pseudonym_key
    from annotate.project import Project
    from pride_mm.errors import BadSamples
    from pride_mm.records import write_records
    from pride_mm.schema import load_schema

    bad = BadSamples(max_bad)
    source = Project(_studio(data_dir), load_schema(schema), project)
    with progress("pull") as tick:
        pulled = source.pull(pseudonym_key(data_dir), bad, tick)
    written = write_records(out, pulled.annotations)
    name_bad(bad)
    left = f"; left out: {pulled.skipped} skipped, {pulled.empty} empty" if pulled.skipped or pulled.empty else ""
    say(f"{written} annotations -> {out}{left}")


@app.command()
def agree(
    annotations: Annotated[Path, typer.Argument(help="Annotations as JSON lines, from 'pride label pull'.")],
    schema: SchemaName = "pride",
    out: Annotated[Path, typer.Option(help="Where the notes go, one line an item.")] = Path("privileged.jsonl"),
    report: Annotated[Path, typer.Option(help="The report, one HTML file.")] = Path("agreement.html"),
    max_bad: MaxBad = 10,
) -> None:
    """Measure the annotators' agreement and write their consensus.

    Example: pride label agree annotations.jsonl --out privileged.jsonl --report agreement.html
    """
    from annotate.agreement import agreement, by_people
    from annotate.consensus import consensus
    from annotate.report import write_agreement
    from pride_mm.errors import BadSamples, UserError
    from pride_mm.records import read_annotations, write_records
    from pride_mm.schema import load_schema

    contract = load_schema(schema)
    _require(annotations)
    bad = BadSamples(max_bad)
    given = list(read_annotations(annotations, contract, bad))
    if not given:
        named = "".join(f"\n  {error}" for error in bad)
        raise UserError(f"Nothing to measure: no good annotation in {annotations}.{named}")
    measured, notes = agreement(contract, given), consensus(contract, given)
    write_agreement(report, contract, measured, notes)
    write_records(out, notes)
    name_bad(bad)
    if models := len(given) - len(by_people(given)):
        say(f"{models} annotations by models are left out: only people agree")
    for row in measured.fields:
        value = "     -" if row.value is None else f"{row.value:6.3f}"
        say(f"{row.field.label[:26]:<26} {value}  {row.measure}, {row.shared} of {row.items} items shared")
    say(f"{len(notes)} items -> {out}; the report is {report}")


def _require(*paths: Path) -> None:
    from pride_mm.errors import UserError

    for path in paths:
        if not path.is_file():
            raise UserError(f"No file {path}; 'pride ingest' writes items, 'pride label pull' annotations.")


def _studio(data_dir: Path) -> "Studio":
    from annotate.credentials import read_credentials
    from annotate.studio import connect
    from pride_mm.errors import UserError

    url, key = os.environ.get("LABEL_STUDIO_URL"), os.environ.get("LABEL_STUDIO_API_KEY")
    if url or key:
        if not (url and key):
            raise UserError("LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY go together; one of them is not set.")
        return connect(url, key)
    credentials = read_credentials(data_dir)
    return connect(credentials.url, credentials.token)
