"""``artifact.json``: what an artifact consists of, so that a missing or damaged file is found by its name.

Promise: what is opened is what was exported, file by file; what could be loaded and was not exported is refused too.
Limit: hashes tell of damage, not of an attacker, who would write them anew.
"""

import hashlib
import json
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from pride_mm.errors import UserError
from pride_mm.files import write_json
from pride_mm.schema import Frozen, Schema
from pride_mm.serving.quantize import Quantization

RECORD = "artifact.json"
CARD = "README.md"
ALLOWED = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md", ".onnx")
"""Endings of what may be in an artifact: weights, settings, tokenizer and card; nothing that runs in Python."""
_LOADED = (".safetensors", ".json", ".jinja", ".model", ".onnx")
FORMAT: Final = 2


class ArtifactRecord(Frozen):
    """The files of an artifact with their SHA-256, the schema they serve, and how they are to be loaded."""

    format: Literal[2] = FORMAT
    schema_name: str
    schema_version: int
    schema_sha256: str
    quantization: Quantization = "none"
    files: dict[str, str]

    def check_schema(self, found: Schema) -> None:
        """Raises UserError where the schema inside is another one, or is read otherwise than when it was exported."""
        if (found.name, found.version) != (self.schema_name, self.schema_version):
            raise UserError(
                f"The artifact serves schema '{self.schema_name}' version {self.schema_version}, but its config.json "
                f"has '{found.name}' version {found.version}. Export the run again."
            )
        if found.sha256 != self.schema_sha256:
            raise UserError(
                f"The artifact's schema '{found.name}' version {found.version} is not what it was when exported: its "
                "fields differ, or another version of pride-mm wrote it. Export the run again with this one."
            )


def write_record(folder: Path, schema: Schema, quantization: Quantization = "none") -> None:
    """Write the record of everything else in ``folder``; it comes last."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.name != RECORD}
    record = ArtifactRecord(
        schema_name=schema.name,
        schema_version=schema.version,
        schema_sha256=schema.sha256,
        quantization=quantization,
        files=files,
    )
    write_json(folder / RECORD, record.model_dump())


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
    record = read_record(folder)
    for name, digest in record.files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{name} is missing in {folder}. Copy it again, or export the run again.")
        if name != CARD and _sha256(path) != digest:
            raise UserError(f"{name} in {folder} is not what was exported. Copy it again, or export the run again.")
    more = sorted(path.name for path in folder.iterdir() if path.suffix in _LOADED)
    strange = [name for name in more if name != RECORD and name not in record.files]
    if strange:
        raise UserError(f"{', '.join(strange[:5])} in {folder} was not exported. Take it out of there.")
    return record


def read_record(folder: Path) -> ArtifactRecord:
    """What an artifact says of itself; ``check_files`` sees whether it is so.

    Raises:
        UserError: of another version, or not readable.
    """
    path = folder / RECORD
    try:
        given = json.loads(path.read_bytes())
        version = given.get("format") if isinstance(given, dict) else None
        if isinstance(version, int) and version != FORMAT:
            raise UserError(f"{path} is of format {version}; this version reads {FORMAT}. Export the run again.")
        return ArtifactRecord.model_validate(given)
    except (ValidationError, ValueError):
        raise UserError(f"{path} is not readable by this version. Export the run again.") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
