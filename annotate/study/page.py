"""The page of a study: the dialogue, two answers side by side, and one choice an aspect.

Text only: clips are not shown. What is shown goes into Paragraphs and Text, neither of which renders markup.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import annotate.page
from annotate.page.radios import tell_apart
from annotate.study.plan import Shown
from pride_mm.evaluation.pairs import Pair
from pride_mm.evaluation.preference import ASPECTS, SIDES

PAIR, DIALOGUE = "Pair", "Dialogue"
NOTHING = "(no answer)"
_STYLES = (Path(annotate.page.__path__[0]) / "label_page.css", Path(__file__).with_name("study_page.css"))
_KEYS = ("123", "qwe", "asd", "zxc")  # a row of the keyboard an aspect; none is Label Studio's own
_OPTIONS = {"A": "Answer A", "B": "Answer B", "tie": "Equally good"}
_TASK = (
    "Read the dialogue, then the two answers to its last turn, and say which is better, four times. The answers stand "
    "in random order. Judge each question by itself, and longer is not better."
)


def study_config() -> str:
    """The page as Label Studio's XML."""
    root = ElementTree.Element("View")
    ElementTree.SubElement(root, "Style").text = "\n".join(path.read_text(encoding="utf-8") for path in _STYLES)
    body = _box(root, "pride-page")
    form = _box(body, "pride-notes")
    _header(_box(form, "pride-hint"), _TASK, 6)
    answers = _box(form, "pride-answers")
    for side in ("A", "B"):
        box = _box(answers, "pride-answer")
        _header(box, _OPTIONS[side], 5)
        ElementTree.SubElement(box, "Text", name=side, value=f"${side}")
    for (name, question), keys in zip(ASPECTS.items(), _KEYS, strict=True):
        _question(form, name, question, keys)
    talk = _box(body, "pride-clip pride-mute")
    _header(talk, f"${PAIR}", 6)
    ElementTree.SubElement(
        talk, "Paragraphs", name=DIALOGUE, value=f"${DIALOGUE}", layout="dialogue", nameKey="speaker", textKey="text"
    )
    tell_apart(root)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def task_data(shown: Shown, pair: Pair) -> dict[str, Any]:
    """What Label Studio is told of a pair: the dialogue and two answers, and nothing of whose they are."""
    first, second = (answer or NOTHING for answer in pair.answers)
    a, b = (first, second) if shown.first == "A" else (second, first)
    turns = [{"speaker": turn.speaker, "text": turn.text} for turn in pair.turns]
    return {PAIR: shown.name, DIALOGUE: turns, "A": a, "B": b}


def _question(form: ElementTree.Element, name: str, question: str, keys: str) -> None:
    box = _box(form, "pride-field")
    _header(box, name.capitalize(), 5)
    _header(_box(box, "pride-hint"), question, 6)
    choices = ElementTree.SubElement(
        box, "Choices", name=name, toName=DIALOGUE, choice="single-radio", layout="inline", showInline="true",
        required="true", requiredMessage=f"{name.capitalize()} is still open.",
    )  # fmt: skip
    for side, key in zip(SIDES, keys, strict=True):
        ElementTree.SubElement(choices, "Choice", value=_OPTIONS[side], alias=side, hotkey=key)


def _box(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, "View", className=name)


def _header(parent: ElementTree.Element, text: str, size: int) -> None:
    ElementTree.SubElement(parent, "Header", value=text, size=str(size))
