"""``artifact.json``: what an artifact consists of, so that a missing or damaged file is found by its name."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pride_mm.errors import UserError
from pride_mm.files import write_json
from pride_mm.schema import Frozen

RECORD = "artifact.json"
CARD = "README.md"
ALLOWED = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md")
"""Endings of what may be in an artifact: weights, settings, tokenizer and card; nothing that runs."""


class ArtifactRecord(Frozen):
    """The files of an artifact with their SHA-256, and the schema they serve."""

    format: Literal[1] = 1
    schema_sha256: str
    files: dict[str, str]


def write_record(folder: Path, schema_sha256: str) -> None:
    """Write the record of everything else in ``folder``; it comes last."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != RECORD}
    write_json(folder / RECORD, ArtifactRecord(schema_sha256=schema_sha256, files=files).model_dump())


def is_artifact(folder: Path) -> bool:
    """Whether an export wrote this folder."""
    return (folder / RECORD).is_file()


def check_files(folder: Path) -> ArtifactRecord:
    """See that every file of an artifact is there as it was exported.

    Raises:
        UserError: not an artifact, or a file that is missing or changed, by its name.
    """
    if not folder.is_dir():
        raise UserError(f"No artifact at {folder}; `pride export RUN --out {folder}` makes one.")
    if not is_artifact(folder):
        raise UserError(f"{folder} is no artifact: {RECORD} is missing. `pride export RUN --out ARTIFACT` makes one.")
    try:
        record = ArtifactRecord.model_validate_json((folder / RECORD).read_bytes())
    except ValidationError:
        raise UserError(f"{folder / RECORD} is not readable by this version. Export the run again.") from None
    for name, digest in record.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{name} is missing in {folder}. Copy it again, or export the run again.")
        if name != CARD and _sha256(path) != digest:
            raise UserError(f"{name} in {folder} is not what was exported. Copy it again, or export the run again.")
    return record


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
