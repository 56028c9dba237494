"""``pride audit``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.privacy.audit import Audit

_SHOWN = 20


def audit(
    places: Annotated[list[str], typer.Argument(help="Shards, or files of records (.jsonl), or folders of them.")],
    names: Annotated[
        str | None, typer.Option(help="A spaCy model, as folder or package, to look for names of people with.")
    ] = None,
    redact: Annotated[
        Path | None, typer.Option(help="Write the records here, without what was found. Shards: pack them anew.")
    ] = None,
    schema: Annotated[str, typer.Option(help="Name or path of the schema of the records.")] = "pride",
) -> None:
    """Say what personal data is in records or shards, and who may read the notes. Findings exit with 1.

    No text is shown: kinds, counts, and keys of samples. Needs the extra `privacy`. Clips and sounds are not looked
    into.

    Example: pride audit corpus --redact redacted
    """
    from pipelines.cli.terminal import progress, say
    from pipelines.privacy.audit import Audit, audit_records, audit_shards, is_shards, record_files
    from pipelines.privacy.finder import Finder
    from pipelines.privacy.redact import redact as redact_files
    from pride_mm.errors import UserError
    from pride_mm.schema import load_schema

    sets = [place for place in places if is_shards(place)]
    files = [path for place in places if place not in sets for path in record_files(Path(place))]
    for path in files:
        if not path.is_file():
            raise UserError(f"No file or folder {path}; `pride ingest` makes records, `pride pack` shards.")
    if redact is not None and sets:
        raise UserError(f"--redact takes records, and {sets[0]} is shards: redact the items and notes, then pack them.")
    contract, finder, found = load_schema(schema), Finder(names), Audit()
    with progress("Looking") as tick:
        audit_records(files, contract, finder, found, tick)
        for place in sets:
            audit_shards(place, finder, found, tick)
    _report(found, finder.kinds)
    if redact is not None:
        with progress("Redacting") as tick:
            done = redact_files(files, redact, contract, finder, tick)
        say(f"{done.records:,} records -> {redact}, {done.parts:,} parts redacted. What is not found is not redacted.")
    if not found.clean:
        raise typer.Exit(1)


def _report(found: "Audit", kinds: tuple[str, ...]) -> None:
    from pipelines.cli.terminal import complain, say

    if found.found:
        say(f"{'role':<11}{'field':<22}{'what':<8}{'count':>7}{'samples':>9}  for example")
        for (where, kind), tally in sorted(found.found.items()):
            examples = ", ".join(tally.keys)
            say(f"{where.role:<11}{where.field:<22}{kind:<8}{tally.count:>7,}{tally.samples:>9,}  {examples}")
        say()
    if found.notes:
        wide = max(len(one.name) for one in found.notes[:_SHOWN]) + 2
        say(f"{'holds notes':<{wide}}{'encrypted':<11}{'mode':<12}read by")
        for one in found.notes[:_SHOWN]:
            say(f"{one.name:<{wide}}{'yes' if one.encrypted else 'no':<11}{one.mode:<12}{one.readers}")
        if len(found.notes) > _SHOWN:
            say(f"... and {len(found.notes) - _SHOWN:,} more")
        say()
    count = sum(tally.count for tally in found.found.values())
    say(f"{found.samples:,} samples: {count:,} findings of {', '.join(kinds)}.")
    if "name" not in kinds:
        say("names: not looked for; give --names MODEL")
    if found.clips:
        say(f"Clips of {found.clips:,} samples: not looked into; a face and a voice are personal data.")
    if found.unread:
        say(f"{found.unread} tars of notes were not looked into: they aren't here, or are encrypted without their key.")
    if found.broken:
        complain(f"{found.broken:,} samples or lines could not be read.")
    if readable := [one for one in found.notes if one.open]:
        complain(
            f"Everybody on this machine may read {len(readable)} files of notes: chmod o-r, or pack with --encrypt."
        )


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(audit)
