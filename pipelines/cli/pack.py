"""``pride pack``."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.pack import PackSettings, Rejoined, Result
    from pipelines.workers import Workers

_SHOWN = 20


def pack(
    out: Annotated[str, typer.Option(help="Folder or URL of the shards; an older pack in it is replaced.")],
    items: Annotated[list[Path] | None, typer.Argument(help="Files of items, one JSON object a line.")] = None,
    schema: Annotated[str, typer.Option(help="Name or path of the schema.")] = "pride",
    notes: Annotated[
        list[Path] | None, typer.Option(help="File of notes, from `pride label agree`; may be given again.")
    ] = None,
    settings: Annotated[
        str, typer.Option(help="How media are written: proxy, copy, frames, or the path of a TOML.")
    ] = "proxy",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as video.mode=copy; may be given again.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="'privileged': write the notes of --out anew, without reading items or media.")
    ] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Write notes into the same tars as the rest.")] = False,
    drafts: Annotated[
        bool, typer.Option("--drafts", help="Keep notes that are a model's drafts left as they were, marked as such.")
    ] = False,
    encrypt: Annotated[
        bool | None,
        typer.Option("--encrypt/--no-encrypt", help="Encrypt the tars of notes with the key in PRIDE_NOTES_KEY."),
    ] = None,
    max_bad: Annotated[int, typer.Option(help="How many bad items and fields are allowed.", min=0)] = 10,
    workers: Annotated[int | None, typer.Option(help="Processes that convert; one a core if not given.", min=1)] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that converts instead.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what isn't finished; hidden in --out if not given.")
    ] = None,
) -> None:
    """Pack items and notes into shards: checked, cut, converted, the same bytes each time.

    A broken clip costs its field, not its dialogue; whatever is left out is named and counted. So is a value that is
    only a model's draft which an annotator left as it was. Stopped or killed, the same command goes on where it was.

    Example: pride pack items.jsonl --notes privileged.jsonl --out shards
    """
    from pipelines.cli.terminal import progress
    from pipelines.pack import PackSettings, rejoin_notes
    from pipelines.pack import pack as pack_items
    from pride_mm.config import find_config, load_settings
    from pride_mm.errors import UserError
    from pride_mm.schema import load_schema

    if only not in (None, "privileged"):
        raise UserError(f"--only takes 'privileged', not '{only}': nothing else can be written anew without its media.")
    if only:
        with progress("Notes") as tick:
            rejoined = rejoin_notes(
                out, notes or [], max_bad=max_bad, drafts=drafts, encrypt=encrypt, work=work, progress=tick
            )
        _report_notes(rejoined, out, drafts)
        return
    if not items:
        raise UserError("Give at least one file of items; `pride ingest` makes one. --only privileged needs none.")
    chosen = load_settings(PackSettings, find_config("pack", settings), set_ or [])
    with progress("Packing") as tick:
        result = pack_items(
            items,
            load_schema(schema),
            out,
            notes or [],
            chosen,
            max_bad=max_bad,
            workers=_on_ray(ray, chosen) if ray else workers,
            drafts=drafts,
            inline=inline,
            encrypt=encrypt,
            work=work,
            progress=tick,
        )
    _report(result, out, drafts)


def _on_ray(address: str, settings: "PackSettings") -> AbstractContextManager["Workers"]:
    from pipelines.ray_workers import ray_workers
    from pipelines.workers import Bounds

    return ray_workers(address, Bounds(settings.item_seconds, settings.item_bytes))


def _report(result: "Result", out: str, drafts: bool) -> None:
    from pipelines.cli.terminal import complain, name_bad, say

    name_bad(result.bad)
    if result.gone_on:
        say(f"Went on after {result.gone_on:,} samples that were packed when it was stopped.")
    if result.afresh:
        complain(f"Started afresh: {result.afresh} changed since the run that was stopped.")
    for name, split in result.manifest.splits.items():
        lengths = "".join(f", {seconds / 60:.1f} min of {field}" for field, seconds in split.seconds.items())
        say(f"{name:<6} {split.samples:>7,} samples in {len(split.shards)} shards{lengths}")
    if result.bad:
        whole = len(result.bad) - result.fields_left_out
        say(f"Left out: {whole} items or lines, and {result.fields_left_out} fields of items that were packed.")
    _report_left_out(result.drafts_left_out, result.notes_unused, drafts)
    if kept_drafts := sum(result.manifest.drafts.values()):
        say(f"{kept_drafts} notes are a model's drafts as they were, and marked so beside the notes.")
    _report_teacher(result.teacher_removed)
    if result.manifest.sealed:
        say(f"The tars of notes are encrypted with the key '{result.manifest.sealed.key}'.")
    say(f"Packed into {out}. Next: pride check {out}")


def _report_notes(result: "Rejoined", out: str, drafts: bool) -> None:
    from pipelines.cli.terminal import complain, name_bad, say

    name_bad(result.bad)
    for mended in result.mended[:_SHOWN]:
        complain(f"Mended: {mended}")
    if result.targets:
        complain(f"{len(result.targets)} targets agreed on in the notes differ from the packed ones, which stay:")
        for key, field in result.targets[:_SHOWN]:
            complain(f"  {key}: {field}")
        complain("  To take them over, pack the items again.")
    _report_left_out(result.drafts_left_out, result.notes_unused, drafts)
    _report_teacher(result.teacher_removed)
    samples = sum(split.samples for split in result.manifest.splits.values())
    say(f"Notes of {result.changed:,} of {samples:,} samples changed; {result.rewritten} of its tars are new.")
    if result.manifest.sealed:
        say(f"The tars of notes are encrypted with the key '{result.manifest.sealed.key}'.")


def _report_left_out(drafts_left_out: int, notes_unused: int, kept: bool) -> None:
    from pipelines.cli.terminal import complain, say

    if drafts_left_out:
        hint = "; --drafts keeps those among the notes, marked" if not kept else ""
        say(f"Left out: {drafts_left_out} values that are a model's drafts as they were{hint}.")
    if notes_unused:
        complain(f"{notes_unused} notes are on items that were not given.")


def _report_teacher(removed: int) -> None:
    from pipelines.cli.terminal import complain

    if removed:
        complain(f"{removed} teacher tars removed: they fitted other samples. Run `pride teach` again.")


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(pack)
