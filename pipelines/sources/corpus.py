"""How a corpus is described: which columns of its rows feed which fields of the schema.

A description is a TOML file in ``configs/corpus``; it is the only place beside the schema where a
field is named. Code knows sources (where rows come from), never columns or fields.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Setting

from pride_mm.config import find_config, load_settings
from pride_mm.errors import UserError
from pride_mm.records import Origin
from pride_mm.schema import Frozen

_SLOT = re.compile(r"\{([^{}|]+)((?:\|[a-z]+)*)\}")
_FILTERS = {
    "stem": lambda text: Path(text).stem,
    "key": lambda text: re.sub(r"[^A-Za-z0-9_-]+", "_", text),
    "lower": str.lower,
}
LINE = "line"  # every row has it: its line in the file


def _check_template(template: str) -> str:
    for filters in _SLOT.findall(template):
        unknown = [name for name in filters[1].split("|") if name and name not in _FILTERS]
        if unknown:
            raise ValueError(f"no filter '{unknown[0]}' in '{template}' (allowed: {', '.join(_FILTERS)})")
    return template


def _one_or_many(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


Template = Annotated[str, BeforeValidator(lambda given: _check_template(given) if isinstance(given, str) else given)]
Templates = Annotated[tuple[Template, ...], BeforeValidator(_one_or_many)]


class Band(Frozen):
    """A range of numbers that becomes one word; the first band that fits wins."""

    value: str
    below: float | None = None
    up_to: float | None = None

    def holds(self, number: float) -> bool:
        """Whether ``number`` is in the band."""
        return (self.below is not None and number < self.below) or (self.up_to is not None and number <= self.up_to)


class Column(Frozen):
    """What is done to a column before anything reads it."""

    rename: dict[str, str] = {}
    bands: tuple[Band, ...] = ()
    case: Literal["keep", "sentence"] = "keep"

    def mend(self, value: Any) -> Any:
        """The value as the fields see it; raises ValueError where no band holds it."""
        if not isinstance(value, str | int | float):
            return value
        if self.bands:
            number = float(value)
            for band in self.bands:
                if band.holds(number):
                    return band.value
            raise ValueError(f"{number:g} is in no band")
        if self.case == "sentence" and isinstance(value, str):
            value = sentence_case(value)
        return self.rename.get(str(value), value)


class Rule(Frozen):
    """Where one field's value comes from: a column as it is, or a text made of columns.

    ``start`` and ``end`` name columns with seconds, for media. ``speaker`` is who says the only turn
    of a transcript column. ``when`` keeps the rule to rows whose column has one of the values.
    """

    column: str | None = None
    template: Template | None = None
    start: str | None = None
    end: str | None = None
    speaker: str = "speaker"
    when: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _one_way(self) -> "Rule":
        if (self.column is None) == (self.template is None):
            raise ValueError("give either 'column' or 'template'")
        return self

    @property
    def columns(self) -> set[str]:
        """The columns it reads."""
        named = {self.column, self.start, self.end, *self.when} | set(slots(self.template or ""))
        return {name for name in named if name is not None}


class Corpus(Frozen):
    """A description of a corpus.

    ``id``, ``group`` and ``split`` are templates; of several, the first whose columns are all filled
    is taken. Without ``field``, columns named like the schema's fields are taken.
    """

    corpus: Annotated[str, Setting(min_length=1)]
    source: str
    schema_name: str = "pride"
    description: str = ""
    licence: str = ""
    id: Templates = ("{id}",)
    group: Templates = ("{group}",)
    split: Templates = ()
    aliases: dict[str, str] = {}
    columns: dict[str, Column] = {}
    field: dict[str, Rule] = {}
    annotator: Annotated[str, Setting(min_length=1)] = "corpus"
    origin: Origin = "corpus"
    answers: Literal["all", "first", "last"] = "all"

    @property
    def wanted(self) -> set[str]:
        """The columns that a table has to have, where the fields are given."""
        named: set[str] = set()
        if self.field:
            named |= {name for rule in self.field.values() for name in rule.columns}
            for templates in (self.id, self.group, self.split):
                named |= set(slots(templates[0])) if len(templates) == 1 else set()
        return named - {LINE}


def sentence_case(text: str) -> str:
    """Text in capitals as a sentence: only the first letter and the pronoun I stay."""
    lowered = re.sub(r"\bi\b", "I", text.lower())
    return lowered[:1].upper() + lowered[1:]


def slots(template: str) -> list[str]:
    """The columns that a template names."""
    return [name for name, _ in _SLOT.findall(template)]


def render(template: str, columns: Mapping[str, Any]) -> str | None:
    """Fill a template; None where one of its columns is empty or missing."""
    if any(columns.get(name) in (None, "") for name in slots(template)):
        return None

    def fill(slot: re.Match[str]) -> str:
        text = str(columns[slot[1]])
        for name in slot[2].split("|")[1:]:
            text = _FILTERS[name](text)
        return text

    return _SLOT.sub(fill, template)


def first_of(templates: tuple[str, ...], columns: Mapping[str, Any]) -> str | None:
    """The first template that can be filled."""
    return next((text for template in templates if (text := render(template, columns)) is not None), None)


def load_corpus(name: str | Path, schema_name: str | None = None) -> Corpus:
    """Read a description by name (``mosi``) or path.

    Where another schema is asked for than the one the description is made for, a description of the
    same corpus in the same folder that is made for it takes its place.
    """
    path = find_config("corpus", name)
    corpus = load_settings(Corpus, path)
    if schema_name in (None, corpus.schema_name):
        return corpus
    for beside in sorted(path.parent.glob("*.toml")):
        try:
            other = load_settings(Corpus, beside)
        except UserError:
            continue  # not ours to judge: it was not asked for
        if (other.corpus, other.schema_name) == (corpus.corpus, schema_name):
            return other
    return corpus
