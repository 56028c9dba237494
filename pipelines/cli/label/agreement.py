"""``pride label agree``: how far annotators agree, and their consensus."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.label.options import MaxBad, SchemaName, require
from pipelines.cli.terminal import name_bad, say


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
    require(annotations)
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
