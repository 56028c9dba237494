"""Records without the personal data that was found in them: each part gives way to what it was, as ``<EMAIL>``.

Times of turns, media and everything else stay. Somebody who is named as the speaker of a turn becomes ``speaker N``, so
that it can still be told who says what. Ids and groups stay too: they hold records together, and an audit names what
is found in them. What no pattern finds is not redacted: an audit of the result says what is left, not that it is safe.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.privacy.finder import Finder
from pipelines.privacy.records import SPEAKER, Where, replaced
from pride_mm.errors import BadSamples, UserError
from pride_mm.files import write_jsonl
from pride_mm.progress import Progress, silent
from pride_mm.records import read_lines
from pride_mm.schema import Schema


@dataclass
class Redacted:
    """What was written: records, and how many parts of their texts gave way."""

    records: int = 0
    parts: int = 0


def redact(files: list[Path], out: Path, schema: Schema, finder: Finder, progress: Progress = silent) -> Redacted:
    """Write each file anew into the folder ``out``, under its own name, whole or not at all.

    Raises:
        UserError: a line is no record, or a file would be written over itself or over another.
    """
    done = Redacted()
    named = Counter(path.name for path in files)
    if twice := [name for name, count in named.items() if count > 1]:
        raise UserError(f"--redact: several files are called {twice[0]}: redact one folder at a time.")
    for path in files:
        if (out / path.name).resolve() == path.resolve():
            raise UserError(f"--redact {out} would write over {path}: give another folder.")
    for path in files:
        write_jsonl(out / path.name, _lines(path, schema, finder, done, progress))
    return done


def _lines(path: Path, schema: Schema, finder: Finder, done: Redacted, progress: Progress) -> Iterator[dict[str, Any]]:
    for _, record in read_lines(path, BadSamples(0)):
        speakers: dict[str, str] = {}

        def change(where: Where, text: str, speakers: dict[str, str] = speakers) -> str:
            found = finder.find(text)
            done.parts += len(found)
            if found and where.field.endswith(SPEAKER):
                return speakers.setdefault(text, f"speaker {len(speakers) + 1}")
            for one in reversed(found):
                text = f"{text[: one.start]}<{one.kind.upper()}>{text[one.end :]}"
            return text

        yield replaced(record, schema, change)
        done.records += 1
        progress(done.records, None, path.name)
