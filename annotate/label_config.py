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
from typing import Literal, get_args
from xml.etree import ElementTree

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
_SYNC = "clip"
_SELECT = {"layout": "select"}
_INLINE = {"layout": "inline", "showInline": "true"}
_STYLE = """
.pride-page { display: grid; grid-template-columns: minmax(540px, 43%) minmax(0, 1fr); gap: 28px; align-items: start; }
.pride-page { padding-right: 36px; }
.pride-clip { min-width: 0; position: sticky; top: 0; max-height: calc(100vh - 120px); overflow: hidden auto; }
.pride-notes { min-width: 0; max-width: 720px; }
.pride-step { margin-top: 14px; border-top: 2px solid #2f6f6b; }
.pride-field { margin: 8px 0; padding: 6px 14px 10px; border: 1px solid #dde2ea; border-radius: 8px; }
.pride-field h1, .pride-field h2, .pride-field h3, .pride-field h4, .pride-field h5, .pride-field h6 {
  font-size: 16px !important; margin: 4px 0 !important; }
.pride-hint h1, .pride-hint h2, .pride-hint h3, .pride-hint h4, .pride-hint h5, .pride-hint h6 {
  font-size: 14px !important; font-weight: 400 !important; line-height: 1.4 !important; opacity: 0.75; }
.pride-turn { margin: 8px 0; padding: 0 10px; border-left: 3px solid #2f6f6b; }
.pride-turn h1, .pride-turn h2, .pride-turn h3, .pride-turn h4, .pride-turn h5, .pride-turn h6 {
  font-size: 13px !important; margin: 0 !important; color: #2f6f6b; }
"""


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
    ElementTree.SubElement(root, "Style").text = _STYLE
    body = _box(root, "pride-page")
    clip = _box(body, "pride-clip")
    _header(clip, f"${ITEM}", size=6)
    for field in page.shown:
        OBJECTS.get(field.kind, _shown_text)(field, page, clip)
    notes = _box(body, "pride-notes")
    for number, step in enumerate([*_STEPS, None], 1):
        fields = [f for f in page.controls if f.step == step]
        if not fields:
            continue
        title = f"{number} · {step.capitalize()}" if step else "Besides"
        _header(_box(notes, "pride-step"), title, size=4)
        for field in fields:
            _field(field, page, notes)
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


def _plain(text: str) -> str:
    """Text of the schema that Label Studio must not take for the name of a variable."""
    return text.replace("$", "$\u200b").replace("{{", "{\u200b{")


def _field(field: Field, page: Page, parent: ElementTree.Element) -> None:
    box = _box(parent, "pride-field")
    _header(box, _plain(field.label) + (" *" if field.required else ""), size=5)
    hint = " ".join(part for part in (field.guideline, _HOW.get(field.kind, "")) if part)
    if hint:
        ElementTree.SubElement(_box(box, "pride-hint"), "Header", value=_plain(hint), size="6")
    CONTROLS[field.kind](field, page, box)


def _required(field: Field) -> dict[str, str]:
    if not field.required:
        return {}
    return {"required": "true", "requiredMessage": f"{_plain(field.label)} is still open."}


def _video(field: Field, page: Page, parent: ElementTree.Element) -> None:
    ElementTree.SubElement(
        parent, "Video", name=field.name, value=f"${field.name}", sync=_SYNC, frameRate=f"${FPS}", height="300"
    )


def _audio(field: Field, page: Page, parent: ElementTree.Element) -> None:
    ElementTree.SubElement(parent, "Audio", name=field.name, value=f"${field.name}", sync=_SYNC, height="80")


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


def _options(tag: ElementTree.Element, options: tuple[str, ...], kind: str = "Choice") -> None:
    for option in options:
        ElementTree.SubElement(tag, kind, value=_plain(option), alias=option)


def _choices(
    parent: ElementTree.Element, name: str, to: str, options: tuple[str, ...], choice: str
) -> ElementTree.Element:
    tag = ElementTree.SubElement(parent, "Choices", name=name, toName=to, choice=choice)
    tag.attrib |= _SELECT if len(options) > _MANY_OPTIONS else _INLINE
    _options(tag, options)
    return tag


def _choice(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, OptionsField)
    many = isinstance(field, ChoicesField)
    choice = "multiple" if many else "single-radio"
    tag = _choices(parent, field.name, page.schema.dialogue.name, field.options, choice)
    tag.attrib |= _required(field)


def _scale(field: Field, page: Page, parent: ElementTree.Element) -> None:
    assert isinstance(field, ScaleField)
    to = page.schema.dialogue.name
    if field.high - field.low < MANY_LEVELS:
        levels = tuple(str(level) for level in range(field.low, field.high + 1))
        tag = _choices(parent, field.name, to, levels, "single-radio")
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
    _options(ElementTree.SubElement(parent, tag, name=field.name, toName=page.marked.name), field.options, "Label")


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
