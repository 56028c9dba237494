"""Annotations as rows: JSON lines and Parquet, of one shape that every reader infers or is told.

A row has every field of the schema, null where nothing was said, so that the lines of a file have one type.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pride_mm.errors import UserError
from pride_mm.files import whole_file
from pride_mm.records import Annotation, Draft, to_json
from pride_mm.schema import Field, Kind, Schema, parse_values

if TYPE_CHECKING:
    import pyarrow

_GROUP = 2000  # rows of a Parquet file that are held at once
PARQUET = ".parquet"
Row = dict[str, Any]


def fields_of(schema: Schema) -> tuple[Field, ...]:
    """The fields that an annotation may have, in the schema's order."""
    return tuple(field for field in schema.field if field in schema.privileged + schema.targets)


def row_of(annotation: Annotation, schema: Schema) -> Row:
    """An annotation with a place for every field."""
    raw, names = to_json(annotation), [field.name for field in fields_of(schema)]
    return {**raw, **{part: {name: raw[part].get(name) for name in names} for part in ("values", "drafts")}}


def annotation_of(row: Row, schema: Schema) -> Annotation:
    """The annotation of a row; raises UserError for one of another schema."""
    values, refused = parse_values(fields_of(schema), row["values"])
    if refused:
        raise UserError(f"Annotations of another schema: {refused[0][0]} of item {row['item']}: {refused[0][1]}")
    try:
        drafts = {name: Draft.model_validate(draft) for name, draft in row["drafts"].items() if draft is not None}
        bare = Annotation.model_validate({**row, "values": {}, "drafts": {}})
    except ValidationError:
        raise UserError(f"Not an annotation: a row of item {str(row.get('item'))[:64]}") from None
    return bare.model_copy(update={"values": values, "drafts": drafts})


def write_rows(path: Path, rows: Iterable[Row], schema: Schema) -> int:
    """Write rows as Parquet where the name ends so, else as JSON lines; whole or not at all. Returns how many."""
    with whole_file(path) as file:
        if path.suffix == PARQUET:
            return _write_parquet(file, iter(rows), schema)
        count = 0
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += 1
        return count


def read_rows(path: Path) -> Iterator[Row]:
    """The rows that ``write_rows`` wrote."""
    if path.suffix == PARQUET:
        from pyarrow import parquet

        for batch in parquet.ParquetFile(path).iter_batches(batch_size=_GROUP):
            yield from batch.to_pylist()
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_table(path: Path, schema: Schema) -> Iterator[Annotation]:
    """The annotations of a file that ``write_rows`` wrote."""
    return (annotation_of(row, schema) for row in read_rows(path))


def table_schema(schema: Schema) -> "pyarrow.Schema":
    """The types of the columns."""
    import pyarrow

    fields = fields_of(schema)
    draft = pyarrow.struct({"model": pyarrow.string(), "how": pyarrow.string(), "change": pyarrow.float64()})
    return pyarrow.schema(
        {
            **dict.fromkeys(("item", "annotator", "origin"), pyarrow.string()),
            "values": pyarrow.struct({field.name: COLUMNS[field.kind]() for field in fields}),
            "drafts": pyarrow.struct({field.name: draft for field in fields}),
        }
    )


def _write_parquet(file: Any, rows: Iterator[Row], schema: Schema) -> int:
    import pyarrow
    from pyarrow import parquet

    types, count = table_schema(schema), 0
    with parquet.ParquetWriter(file, types) as writer:
        while group := list(islice(rows, _GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, types))
            count += len(group)
    return count


def _string() -> Any:
    import pyarrow

    return pyarrow.string()


def _number() -> Any:
    import pyarrow

    return pyarrow.int64()


def _strings() -> Any:
    import pyarrow

    return pyarrow.list_(pyarrow.string())


def _spans() -> Any:
    import pyarrow

    span = {"start": pyarrow.float64(), "end": pyarrow.float64(), "label": pyarrow.string()}
    return pyarrow.list_(pyarrow.struct(span))


COLUMNS: dict[Kind, Callable[[], Any]] = {
    Kind.TEXT: _string,
    Kind.CHOICE: _string,
    Kind.CHOICES: _strings,
    Kind.SCALE: _number,
    Kind.TURN_CHOICE: _strings,
    Kind.SPANS: _spans,
}
