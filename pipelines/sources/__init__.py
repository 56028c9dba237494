"""Where items come from. A source is one file with a ``read``; a corpus is a TOML that names its source."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.sources.corpus import Corpus
from pride_mm.errors import BadSamples, UserError
from pride_mm.progress import Progress, silent
from pride_mm.schema import Schema

if TYPE_CHECKING:
    from pipelines.sources.mapping import Entry


@dataclass(frozen=True)
class Request:
    """What a source is asked for.

    ``path`` is where the corpus lies (or its name, for a source that knows names); ``out`` is where
    generated media go; ``limit`` counts what the source calls a dialogue, None for all.
    """

    corpus: Corpus
    schema: Schema
    path: str | None
    out: Path
    limit: int | None = None
    progress: Progress = silent


Read = Callable[[Request, BadSamples], Iterator["Entry"]]

_SOURCES = {
    "clips": "pipelines.sources.clips",
    "demo": "pipelines.sources.demo",
    "dialogues": "pipelines.sources.dialogues",
    "elan": "pipelines.sources.elan",
    "label_studio": "pipelines.sources.label_studio",
    "recordings": "pipelines.sources.recordings",
}


def load_source(name: str) -> Read:
    """The source called ``name``, imported now; raises UserError that lists them."""
    if name not in _SOURCES:
        raise UserError(f"No source '{name}'; a corpus names one of: {', '.join(_SOURCES)}.")
    read: Read = importlib.import_module(_SOURCES[name]).read
    return read
