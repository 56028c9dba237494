"""Clips: a manifest (CSV, TSV or JSON lines) beside media files.

Without fields in the corpus's description, columns named like the schema's fields are taken.
"""

from collections.abc import Iterator
from pathlib import Path

from pipelines.sources import Request
from pipelines.sources.mapping import Entry, Mapper
from pipelines.sources.rows import LINES, TABLES, header, read_rows
from pride_mm.errors import BadSamples, UserError


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry a row of the manifest; a file that isn't there is bad."""
    manifest = _manifest(request.path)
    mapper = Mapper(request.corpus, request.schema, bad, manifest.parent)
    columns = header(manifest)
    if columns is not None:
        mapper.check_columns(columns, manifest.name)
    count = 0
    for row in read_rows(manifest, bad):
        if count == request.limit:
            return
        entry = mapper.entry(row)
        if entry is not None:
            count += 1
            request.progress(count, request.limit)
            yield entry


def _manifest(given: str | None) -> Path:
    suffixes = ", ".join(TABLES + LINES)
    if given is None:
        raise UserError(f"Clips need the path of their manifest: a file ending in {suffixes}, beside the media.")
    path = Path(given)
    if path.is_dir():
        found = sorted(p for p in path.glob("manifest.*") if p.suffix.lower() in TABLES + LINES)
        if len(found) != 1:
            raise UserError(f"{path} holds {len(found)} manifests (manifest.csv, .jsonl); give the path of one.")
        return found[0]
    if not path.is_file():
        raise UserError(f"No manifest at {path}: give a file ending in {suffixes}, or the folder that holds it.")
    return path
