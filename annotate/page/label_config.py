"""The labelling page, derived from the schema: inputs become object tags, notes and targets become controls.

Label Studio refuses a task that lacks a variable of its page, and a video tag without a video is
no use to an expert. So a page is made for a *set of media*: the items that have video and sound, those
that have sound only, those with text only; each set has a project of its own. The controls stand in
the order of the reasoning steps, each under its title and guideline.

Names in task data that are no field's begin with a capital letter, which a field's name cannot.
Values are shown by Video, Audio, Paragraphs and Text only, none of which renders markup.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args
from xml.etree import ElementTree

from annotate.page.hotkeys import NO_KEY, hotkeys, options_of
from annotate.page.radios import tell_apart
from pride_mm.schema import (
    ChoicesField,
    Field,
    FieldBase,
    Kind,
    OptionsField,
    Role,
    ScaleField,
    Schema,
    Span,
    TextField,
    Turn,
    Value,
)

ITEM, FPS = "Item", "Fps"
MEDIA = (Kind.VIDEO, Kind.AUDIO)
Step = Literal["feelings", "situation", "response"]
_STEPS: tuple[Step, ...] = get_args(Step)
_MANY_OPTIONS = 12  # more are offered in a drop-down list, fewer side by side
MANY_LEVELS = 11
_LONG_GUIDELINE = 240  # characters; a longer one can be folded away
_SYNC = "clip"
_SOUND = {Kind.AUDIO: "pride-heard", Kind.VIDEO: "pride-seen"}
_SELECT = {"layout": "select"}
_INLINE = {"layout": "inline", "showInline": "true"}
_STYLE = Path(__file__).with_name("label_page.css")


@dataclass(frozen=True)
class Page:
    """The labelling page of a schema for items that have the media named in ``media``."""

    schema: Schema
    media: tuple[str, ...]

    @property
    def name(self) -> str:
        """What sets this page's items apart, as people read it."""
        return " + ".join(self.media) or "text"

    @cached_property
    def shown(self) -> tuple[Field, ...]:
        """The inputs on the page."""
        return tuple(f for f in self.schema.inputs if f.kind not in MEDIA or f.name in self.media)

    @cached_property
    def marked(self) -> Field | None:
        """The input that time segments are marked on: sound before video, None where there is neither."""
        present = [f for kind in (Kind.AUDIO, Kind.VIDEO) for f in self.shown if f.kind is kind]
        return present[0] if present else None

    @cached_property
    def controls(self) -> tuple[Field, ...]:
        """The fields that the expert fills in, in the order of the reasoning steps."""
        asked = [f for f in self.schema.field if f.role is not Role.INPUT]
        fit = [f for f in asked if f.kind is not Kind.SPANS or self.marked is not None]
        return tuple(sorted(fit, key=lambda f: _STEPS.index(f.step) if f.step else len(_STEPS)))

    @cached_property
    def keys(self) -> Mapping[str, tuple[str, ...]]:
        """The keys of each control's options."""
        return hotkeys(self.controls)

    def control(self, name: str) -> Field | None:
        """The control called ``name``, if the page has it."""
        return next((f for f in self.controls if f.name == name), None)


def page_of(schema: Schema, inputs: Mapping[str, Value]) -> Page:
    """The page for an item with these inputs."""
    return Page(schema, tuple(f.name for f in schema.of(Role.INPUT, *MEDIA) if f.name in inputs))


def turn_name(field: FieldBase, turn: int | str) -> str:
    """The name of a turn's own control; no field's name holds a hyphen."""
    return f"{field.name}-{turn}"


def label_config(page: Page) -> str:
    """The page as Label Studio's XML, the same for the same page."""
    root = ElementTree.Element("View")
    ElementTree.SubElement(root, "Style").text = _STYLE.read_text(encoding="utf-8")
    body = _box(root, "pride-page")
    notes = _box(body, "pride-notes")
    _how_to(notes, page)
    for number, step in enumerate([*_STEPS, None], 1):
        fields = [f for f in page.controls if f.step == step]
        if not fields:
            continue
        title = f"{number} · {step.capitalize()}" if step else "Besides"
        _header(_box(notes, "pride-step"), title, size=4)
        for field in fields:
            _field(field, page, notes)
    clip = _box(body, f"pride-clip {_SOUND[page.marked.kind] if page.marked else 'pride-mute'}")
    _header(clip, f"${ITEM}", size=6)
    for field in page.shown:
        OBJECTS.get(field.kind, _shown_text)(field, page, clip)
    tell_apart(root)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def control_names(config: str) -> frozenset[tuple[str, str, tuple[str, ...]]]:
    """The controls of a page as (tag, name, options): what its results depend on. Empty where it is no XML."""
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError:
        return frozenset()
    return frozenset(
        (tag.tag, tag.get("name", ""), tuple(child.get("alias", child.get("value", "")) for child in tag))
        for tag in root.iter()
        if tag.get("toName")
    )


def task_data(
    page: Page, item: str, inputs: Mapping[str, Value], urls: Mapping[str, str], fps: float
) -> dict[str, object]:
    """The data of an item's task: media as addresses, turns as they are, other inputs as text."""
    data: dict[str, object] = {ITEM: item, FPS: fps}
    for field in page.shown:
        if field.name in urls:
            data[field.name] = urls[field.name]
        elif field.kind is Kind.DIALOGUE:
            data[field.name] = [_turn(turn, page.marked is not None) for turn in inputs[field.name]]  # type: ignore[union-attr]
        else:
            data[field.name] = _as_text(inputs.get(field.name, ""))
    return data


def _turn(turn: object, timed: bool) -> dict[str, object]:
    """A turn of the transcript; without a clip its times would only give play buttons that play nothing."""
    assert isinstance(turn, Turn)
    return turn.model_dump(exclude_none=True, exclude=set() if timed else {"start", "end"})


def _as_text(value: Value) -> str:
    if isinstance(value, tuple):
        parts = [f"{v.start:.1f}-{v.end:.1f} s {v.label}" if isinstance(v, Span) else str(v or "-") for v in value]
        return ", ".join(parts)
    return str(value)


def _box(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, "View", className=name)


def _header(parent: ElementTree.Element, text: str, size: int) -> None:
    ElementTree.SubElement(parent, "Header", value=text, size=str(size))


def _how_to(parent: ElementTree.Element, page: Page) -> None:
    """What an expert has to know of the page itself, folded away until it is asked for."""
    hint = _box(_box(parent, "pride-how"), "pride-hint")
    folds = ElementTree.SubElement(hint, "Collapse", bordered="false")
    panel = ElementTree.SubElement(folds, "Panel", value="How this page works")
    for line in _HOW_TO if page.marked is None else (*_HOW_TO, *_HOW_TO_PLAY):
        _header(panel, line, size=6)


def _plain(text: str) -> str:
    """Text of the schema that Label Studio must not take for the name of a variable."""
    return text.replace("$", "$\u200b").replace("{{", "{\u200b{")


def _field(field: Field, page: Page, parent: ElementTree.Element) -> None:
    box = _box(parent, "pride-field")
    _header(box, _plain(field.label) + (" *" if field.required else ""), size=5)
    _hint(box, " ".join(part for part in (field.guideline, _HOW.get(field.kind, "")) if part))
    CONTROLS[field.kind](field, page, box)


def _hint(parent: ElementTree.Element, text: str, title: str = "Guideline") -> None:
    """The guideline of a field; a long one is open at first and can be folded away."""
    hint = _box(parent, "pride-hint")
    if len(text) > _LONG_GUIDELINE:
        folds = ElementTree.SubElement(hint, "Collapse", bordered="false", open="true")
        hint = ElementTree.SubElement(folds, "Panel", value=title)
    if text:
        _header(hint, _plain(text), size=6)


def _required(field: Field) -> dict[str, str]:
    if not field.required:
        return {}
    return {"required": "true", "requiredMessage": f"{_plain(field.label)} is still open."}


def _video(field: Field, page: Page, parent: ElementTree.Element) -> None:
    ElementTree.SubElement(
        parent, "Video", name=field.name, value=f"${field.name}", sync=_SYNC, frameRate=f"${FPS}", height="260"
    )


def _audio(field: Field, page: Page, parent: ElementTree.Element) -> None:
    ElementTree.SubElement(parent, "Audio", name=field.name, value=f"${field.name}", sync=_SYNC, height="72")


def _dialogue(field: Field, page: Page, parent: ElementTree.Element) -> None:
    tag = ElementTree.SubElement(
        parent, "Paragraphs", name=field.name, value=f"${field.name}", layout="dialogue", nameKey="speaker",
        textKey="text",
    )  # fmt: skip
    if page.marked is not None:
        tag.attrib |= {"audioUrl": f"${page.marked.name}", "sync": _SYNC}


def _shown_text(field: Field, page: Page, parent: ElementTree.Element) -> None:
    _header(parent, _plain(field.label), size=6)
    ElementTree.SubElement(parent, "Text", name=field.name, value=f"${field.name}")


def _options(
    tag: ElementTree.Element, options: tuple[str, ...], keys: tuple[str, ...] | None, kind: str = "Choice"
) -> None:
    """One tag an option. A key that is no key still has to differ from all others of its kind."""
    for number, option in enumerate(options):
        key = keys[number] if keys else f"{NO_KEY}{tag.get('name', '')}{number}"
        ElementTree.SubElement(tag, kind, value=_plain(option), alias=option, hotkey=key)


def _choices(
    parent: ElementTree.Element,
    name: str,
    to: str,
    options: tuple[str, ...],
    choice: str,
    keys: tuple[str, ...] | None = None,
) -> ElementTree.Element:
    tag = ElementTree.SubElement(parent, "Choices", name=name, toName=to, choice=choice)
    folded = len(options) > _MANY_OPTIONS
    tag.attrib |= _SELECT if folded else _INLINE
    _options(tag, options, None if folded else keys)
    return tag


def _choice(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, OptionsField)
    many = isinstance(field, ChoicesField)
    choice = "multiple" if many else "single-radio"
    tag = _choices(parent, field.name, page.schema.dialogue.name, field.options, choice, page.keys.get(field.name))
    tag.attrib |= _required(field)


def _scale(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, ScaleField)
    to = page.schema.dialogue.name
    if field.high - field.low < MANY_LEVELS:
        tag = _choices(parent, field.name, to, options_of(field), "single-radio", page.keys.get(field.name))
    else:
        tag = ElementTree.SubElement(
            parent, "Number", name=field.name, toName=to, min=str(field.low), max=str(field.high), step="1"
        )
    tag.attrib |= _required(field)


def _text(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, TextField)
    tag = ElementTree.SubElement(
        parent, "TextArea", name=field.name, toName=page.schema.dialogue.name, rows=str(field.rows),
        maxSubmissions="1",
        placeholder="Shift+Enter keeps the text in the draft; Submit keeps everything.", editable="true",
    )  # fmt: skip
    tag.attrib |= _required(field)


def _turn_choice(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, OptionsField)
    turns = f"${page.schema.dialogue.name}"
    flag = "{{idx}}"
    repeater = ElementTree.SubElement(parent, "Repeater", on=turns, indexFlag=flag)
    box = _box(repeater, "pride-turn")
    text = f"{page.schema.dialogue.name}-{turn_name(field, flag)}"
    _header(box, f"{turns}[{flag}].speaker", size=6)
    ElementTree.SubElement(box, "Text", name=text, value=f"{turns}[{flag}].text")
    _choices(box, turn_name(field, flag), text, field.options, "single").attrib.update(_required(field))


def _spans(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, OptionsField)
    assert page.marked is not None
    tag = "Labels" if page.marked.kind is Kind.AUDIO else "TimelineLabels"
    labels = ElementTree.SubElement(parent, tag, name=field.name, toName=page.marked.name)
    _options(labels, field.options, page.keys.get(field.name), "Label")


_HOW_TO = (
    "Fields marked * are needed before you can submit. Letters and digits in brackets are the keys of an option; "
    "press a key again to take it back where the mark is a square.",
    "A text is kept as a draft only after Add or Shift+Enter. Submit keeps everything, added or not.",
    "Where a text was filled in for you, a model drafted it: read it as a stranger's and change what is wrong.",
)
_HOW_TO_PLAY = (
    "Shift+Space plays and stops the clip, also while you write. A click on a turn goes to its place.",
    "A marked moment: click it to choose it, drag its edges, Backspace removes it.",
)

Builder = Callable[[Field, Page, ElementTree.Element], None]

OBJECTS: dict[Kind, Builder] = {Kind.VIDEO: _video, Kind.AUDIO: _audio, Kind.DIALOGUE: _dialogue}
CONTROLS: dict[Kind, Builder] = {
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.CHOICES: _choice,
    Kind.SCALE: _scale,
    Kind.TURN_CHOICE: _turn_choice,
    Kind.SPANS: _spans,
}
_HOW: dict[Kind, str] = {Kind.SPANS: "Choose a label, then draw over the moment on the time line."}
