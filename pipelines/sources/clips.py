"""Rows that are an item each: a manifest beside media files, or any table that a description maps to the schema.

Without fields in the corpus's description, columns named like the schema's fields are taken.
"""

from collections.abc import Iterator

from pipelines.sources import Request
from pipelines.sources.corpus import TABLE
from pipelines.sources.mapping import Entry, Mapper
from pipelines.sources.tables import find_parts, shares
from pride_mm.errors import BadSamples


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Yield one entry a row; a file that isn't there is bad."""
    parts = find_parts(request.path, request.corpus.table)
    count = 0
    for part, share in zip(parts, shares(parts, request.limit), strict=True):
        mapper = Mapper(request, bad, part.folder)
        if part.columns is not None:
            mapper.check_columns(part.columns, part.name)
        taken = 0
        for row in part.rows(bad):
            if taken == share:
                break
            entry = mapper.entry(row._replace(columns={TABLE: part.name, **row.columns}))
            if entry is not None:
                taken, count = taken + 1, count + 1
                request.progress(count, request.limit)
                yield entry
