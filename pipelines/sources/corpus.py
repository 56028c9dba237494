"""How a corpus is described: which columns of its rows feed which fields of the schema.

A description is a TOML file in ``configs/corpus``; it is the only place beside the schema where a
field is named. Code knows sources (where rows come from), never columns or fields.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Setting

from pipelines.sources.templates import Template, Templates, one_or_many, slots
from pride_mm.config import find_config, load_settings
from pride_mm.errors import UserError
from pride_mm.records import Origin
from pride_mm.schema import Frozen

LINE, TABLE = "line", "table"  # every row has these: its line, and the name of its file or split
EVERY = "*"
Names = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]
Seconds = Annotated[float, Setting(gt=0)]


class Band(Frozen):
    """A range of numbers that becomes one word; the first band that fits wins."""

    value: str
    below: float | None = None
    up_to: float | None = None

    def holds(self, number: float) -> bool:
        """Whether ``number`` is in the band."""
        return (self.below is not None and number < self.below) or (self.up_to is not None and number <= self.up_to)


class Column(Frozen):
    """What is done to a column before anything reads it, in this order.

    ``replace`` changes pieces of a text; ``tidy`` takes out the spaces that a tokeniser put around punctuation;
    ``case`` makes sentences of capitals; ``rename`` and ``bands`` make a whole value another one.
    """

    replace: dict[str, str] = {}
    tidy: bool = False
    case: Literal["keep", "sentence"] = "keep"
    rename: dict[str, str] = {}
    bands: tuple[Band, ...] = ()

    def mend(self, value: Any) -> Any:
        """The value as the fields see it, of a list each entry; raises ValueError where no band holds it."""
        if isinstance(value, list):
            return [self.mend(entry) for entry in value]
        if not isinstance(value, str | int | float):
            return value
        if self.bands:
            try:
                number = float(value)
            except ValueError:  # its message would show what was given, and that may be a note
                raise ValueError("not a number, which its bands need") from None
            for band in self.bands:
                if band.holds(number):
                    return band.value
            raise ValueError(f"{number:g} is in no band")
        if isinstance(value, str):
            for old, new in self.replace.items():
                value = value.replace(old, new)
            value = tidied(value) if self.tidy else value
            value = sentence_case(value) if self.case == "sentence" else value
        return self.rename.get(str(value), value)


class Rule(Frozen):
    """Where one field's value comes from: a column, a text made of columns, or files found by such a text.

    Of ``column``, several may be named: the first that is filled is taken. Of ``file``, all that match are (``*``
    matches anything): of a clip exactly one, of a text the documents' text, of the turns a transcript. ``section`` is
    the heading whose part of the documents is meant. ``start`` and ``end`` name columns with seconds, for media.
    ``speaker`` is who says the only turn of a transcript column. ``when`` keeps the rule to rows whose column has one
    of the values. ``optional`` media may lack, all of them: where their folder isn't there, items go without.
    """

    column: Names = ()
    template: Template | None = None
    file: Template | None = None
    section: str | None = None
    start: str | None = None
    end: str | None = None
    speaker: str = "speaker"
    when: dict[str, tuple[str, ...]] = {}
    optional: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> "Rule":
        if [bool(self.column), self.template is not None, self.file is not None].count(True) != 1:
            raise ValueError("give either 'column', 'template' or 'file'")
        if self.section is not None and self.file is None:
            raise ValueError("'section' needs 'file'")
        return self

    @property
    def columns(self) -> set[str]:
        """The columns it cannot do without."""
        named = {*self.column[:1]} if len(self.column) == 1 else set()
        named |= {*slots(self.template or self.file or ""), *self.when}
        return named | {name for name in (self.start, self.end) if name is not None}


class Table(Frozen):
    """How the files of rows are read.

    Attributes:
        files: patterns of the files in a folder; all that match are read, in the order of splits, then of names.
            Without, a manifest is, else all tables that lie there.
        quoted: whether a CSV quotes its cells; without, a quote is a character like any other.
        beside: files whose rows go with those of ``files``, by a name: their columns are called ``NAME.COLUMN``.
        by: the columns that say which row goes with which.
    """

    files: Names = ()
    quoted: bool = True
    beside: dict[str, str] = {}
    by: Names = ()

    @model_validator(mode="after")
    def _keyed(self) -> "Table":
        if bool(self.beside) != bool(self.by):
            raise ValueError("'beside' and 'by' need each other")
        return self


class Turns(Frozen):
    """How dialogues lie in rows, and which items they make.

    A row with the column ``turns`` (a list of objects with ``speaker``, ``text`` and what else a corpus knows) is a
    dialogue; other rows are a turn each. ``aliases`` and ``columns`` of the corpus apply to what turns hold, too.

    Attributes:
        by: the columns whose values the rows of one dialogue share, where a row is a turn; such rows follow each other.
        order: the column with a turn's number.
        speakers: who speaks in turn, where no column says so.
        answering: whose turns are answers to learn; anyone's, where nobody is named.
        items: one for each of the ``answers``, only the ``first`` or the ``last`` of a dialogue; one for each of the
            ``turns``, with the next one as its answer where somebody else says it; or one for the ``whole`` dialogue,
            whose answer is in a column of its own.
        merge: turns of one speaker that follow each other become one.
    """

    by: Names = ()
    order: str | None = None
    speakers: Names = ()
    answering: Names = ()
    items: Literal["answers", "first", "last", "turns", "whole"] = "answers"
    merge: bool = False


class Recording(Frozen):
    """How a long recording becomes items.

    Attributes:
        responder: whose turns are answers to learn; anyone's, where nobody is named.
        max_turns: how many turns before an answer are taken.
        max_seconds: how long a clip may be.
        pause: seconds without a word that part two dialogues.
        join: cues of one speaker with less than so many seconds between them are one turn.
        model: a speech recogniser for recordings without a transcript: a folder, or a name that faster-whisper knows.
        language: what is spoken, as ``en``; None lets the recogniser find out.
    """

    responder: Names = ()
    max_turns: Annotated[int, Setting(ge=1)] = 8
    max_seconds: Seconds = 30.0
    pause: Seconds = 8.0
    join: Annotated[float, Setting(ge=0)] = 1.0
    model: str | None = None
    language: str | None = None


class Corpus(Frozen):
    """A description of a corpus.

    ``id``, ``group`` and ``split`` are templates; of several, the first whose columns are all filled
    is taken. Without ``field``, columns named like the schema's fields are taken. ``media`` is where relative paths
    of media and documents start: a folder, from the rows' own one. ``columns`` under the name ``*`` are all that have
    no entry of their own.
    """

    corpus: Annotated[str, Setting(min_length=1)]
    source: str
    schema_name: str = "pride"
    description: str = ""
    licence: str = ""
    id: Templates = ("{id}",)
    group: Templates = ("{group}",)
    split: Templates = ()
    media: str = ""
    annotator: Annotated[str, Setting(min_length=1)] = "corpus"
    origin: Origin = "corpus"
    table: Table = Table()
    turns: Turns = Turns()
    recording: Recording = Recording()
    aliases: dict[str, str] = {}
    columns: dict[str, Column] = {}
    field: dict[str, Rule] = {}

    @property
    def wanted(self) -> set[str]:
        """The columns that a table has to have, where the fields are given."""
        named: set[str] = set()
        if self.field:
            named |= {name for rule in self.field.values() for name in rule.columns}
            for templates in (self.id, self.group, self.split):
                named |= set(slots(templates[0])) if len(templates) == 1 else set()
        return named - {LINE, TABLE}

    def named(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Columns under the names they have here, those inside of objects as ``OUTER.INNER``, mended.

        Raises:
            BadColumn: a value is not UTF-8, or in no band.
        """
        found: dict[str, Any] = {}
        for given, value in _flat(columns):
            name = self.aliases.get(given, given)
            if name in found and found[name] not in (None, ""):
                continue  # an alias never hides what is there
            if isinstance(value, str) and not value.isascii() and _is_broken(value):
                raise BadColumn(name, "not UTF-8")
            column = self.columns.get(name) or (self.columns.get(EVERY) if isinstance(value, str) else None)
            try:
                found[name] = column.mend(value) if column is not None else value
            except ValueError as error:
                raise BadColumn(name, str(error)) from None
        return found


class BadColumn(ValueError):
    """A column whose value cannot be used."""

    def __init__(self, column: str, reason: str) -> None:
        self.column, self.reason = column, reason
        super().__init__(f"{column}: {reason}")


def _flat(columns: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in columns.items():
        found.append((f"{before}{name}", value))
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}.")
    return found


def _is_broken(text: str) -> bool:
    return any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)


def sentence_case(text: str) -> str:
    """Text in capitals as a sentence: only the first letter and the pronoun I stay."""
    lowered = re.sub(r"\bi\b", "I", text.lower())
    return lowered[:1].upper() + lowered[1:]


def tidied(text: str) -> str:
    """Tokenised text as people write it: no spaces before punctuation, nor around an apostrophe in a word."""
    text = re.sub(r"(?<=\w) ?(['’]) ?(?=(?:s|t|re|ve|ll|d|m)\b)", r"\1", text)
    return re.sub(r"(?<=[(\[]) | (?=[.,!?;:)\]%])", "", text)


def load_corpus(name: str | Path, schema_name: str | None = None, overrides: Sequence[str] = ()) -> Corpus:
    """Read a description by name (``mosi``) or path, ``key=value`` pairs on top.

    Where another schema is asked for than the one the description is made for, a description of the
    same corpus in the same folder that is made for it takes its place.
    """
    path = find_config("corpus", name)
    corpus = load_settings(Corpus, path, overrides)
    if schema_name in (None, corpus.schema_name):
        return corpus
    for beside in sorted(path.parent.glob("*.toml")):
        try:
            other = load_settings(Corpus, beside, overrides)
        except UserError:
            continue  # not ours to judge: it was not asked for
        if (other.corpus, other.schema_name) == (corpus.corpus, schema_name):
            return other
    return corpus
