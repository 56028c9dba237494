"""Answers that people have rated, read off a corpus with scales among its notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.sources import Request, load_source
from pipelines.sources.corpus import load_corpus
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.metrics.empathy import Rated
from pride_mm.fields import Kind
from pride_mm.schema import load_schema


@dataclass(frozen=True)
class RatedAnswers:
    """The answers, the titles of the scales by name, and the corpus's name."""

    answers: Sequence[Rated]
    titles: dict[str, str]
    corpus: str


def rated(corpus: str, path: str, bad: BadSamples) -> RatedAnswers:
    """Read the rated answers of a corpus: its response, the turn before it, and all scales among its notes.

    Args:
        corpus: name in ``configs/corpus``, or a TOML.
        path: where the corpus lies.
        bad: counts rows that cannot be read.

    Raises:
        UserError: no such corpus, or one that rates nothing on a scale.
    """
    described = load_corpus(corpus, None, ())
    schema = load_schema(described.schema_name)
    titles = {field.name: field.label for field in schema.privileged if field.kind == Kind.SCALE}
    if not titles:
        raise UserError(f"The schema '{schema.name}' of '{corpus}' has no scale among its notes: nothing is rated.")
    answers = []
    with TemporaryDirectory() as work:
        for entry in load_source(described.source)(Request(described, schema, path, Path(work)), bad):
            turns: Any = entry.item.inputs.get(schema.dialogue.name)
            response = entry.item.targets.get(schema.response.name)
            values = {name: value for note in entry.annotations for name, value in note.values.items()}
            levels = {name: int(values[name]) for name in titles if name in values}  # type: ignore[arg-type]
            if turns and response and levels:
                answers.append(Rated(turns[-1].text, str(response), entry.item.group, levels))
    if not answers:
        raise UserError(f"No rated answer of '{described.corpus}' found at {path}: give the folder of that corpus.")
    return RatedAnswers(answers, titles, described.corpus)
