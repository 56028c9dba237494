"""``pride ingest``: corpora and clips to items."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command("ingest")(ingest)


def ingest(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Name in configs/corpus, or a TOML of your own.")],
    path: Annotated[
        str | None, typer.Argument(help="File, folder, or name of a data set that `datasets` opens; none for the demo.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for items.jsonl and annotations.jsonl; replaced if there.")] = Path(
        "data"
    ),
    schema: Annotated[str | None, typer.Option(help="Schema by name or path; default: the corpus's.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many dialogues.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the corpus, as turns.items=last."),
    ] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Bad rows that are allowed.")] = 10,
) -> None:
    """Turn a corpus into items (and annotations, where it has notes).

    Of your own: `clips` takes a manifest with columns named like the schema's fields, `recordings` long recordings,
    `elan` and `label_studio` what was annotated there. A new corpus is a TOML like those in configs/corpus.

    Example: pride ingest demo --out data
    """
    from pipelines.cli.terminal import name_bad, progress, say
    from pipelines.sources import Request
    from pipelines.sources.corpus import load_corpus
    from pipelines.sources.intake import ANNOTATIONS, ITEMS
    from pipelines.sources.intake import ingest as take_in
    from pride_mm.errors import BadSamples
    from pride_mm.schema import load_schema

    wanted = load_schema(schema) if schema else None
    described = load_corpus(corpus, wanted.name if wanted else None, change or ())
    bad = BadSamples(max_bad)
    with progress("ingest") as tick:
        contract = wanted or load_schema(described.schema_name)
        done = take_in(Request(described, contract, path, out, limit, tick), bad)
    name_bad(bad)
    part = [f"{field.name} {done.fields[field.name]:,}" for field in contract.inputs + contract.targets]
    by_split = ", ".join(f"{count} {split}" for split, count in done.splits.items())
    say(f"{out / ITEMS}: {done.items} items of '{described.corpus}' (split: {by_split})")
    say(f"  with {', '.join(part)}")
    if done.annotations:
        say(f"{out / ANNOTATIONS}: {done.annotations} annotations")
