"""The page itself, of Gradio's parts: what is on it, and what happens when somebody does something.

What no student takes isn't there: one that only reads has no microphone beside it. Gradio's own ways to run things by
name, to keep what was said in the browser, and to fetch what somebody names are off.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from pride_mm.errors import UserError
from pride_mm.schema import ChoiceField, ChoicesField, Field, Kind, ScaleField, TextField
from pride_mm.serving.batching import where
from pride_mm.serving.page import drawing
from pride_mm.serving.page.talk import Partner, Talk
from pride_mm.serving.page.votes import WORDS, Vote
from pride_mm.serving.uploads import ENDINGS, Upload, of_file

_log = logging.getLogger("pride.app")
_FAILED = "Something failed here; it is in the program's log."
_IDLE = 3600  # seconds after which the conversation of a page that nobody has open is forgotten
_CLEAN = (300, 900)  # seconds: how often uploads that were never sent are looked for, and how old they are then
LOOK = Path(__file__).with_name("look.css")
Shown = dict[Any, Any]


@dataclass(frozen=True)
class Desk:
    """What the page works with: its students, and what is done with a vote and around an answer.

    Attributes:
        partners: one, or two that are compared.
        at_once: lines answered side by side.
        waiting: lines that may wait.
        vote: keeps a vote.
        admit: raises UserError where nothing new is answered.
        count: told 1 when an answer begins, and -1 at its end.
    """

    partners: Sequence[Partner]
    at_once: int
    waiting: int
    vote: Callable[[Talk, Vote], None]
    admit: Callable[[], None]
    count: Callable[[int], None]

    @property
    def inputs(self) -> dict[str, Field]:
        """What at least one student takes, by name."""
        schemas = [partner.answerer.predictor.schema for partner in self.partners]
        return {field.name: field for schema in reversed(schemas) for field in schema.inputs}

    @property
    def is_blind(self) -> bool:
        """Whether two are compared."""
        return len(self.partners) > 1


def build(desk: Desk) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="PRIDE-MM", analytics_enabled=False, delete_cache=_CLEAN) as blocks:
        _Page(desk)
    blocks.queue(max_size=desk.waiting, api_open=False, default_concurrency_limit=desk.at_once)
    return blocks


class _Page:
    """The parts of the page by name, and what they do; made within ``gr.Blocks``."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.talk = desk, gr.State(time_to_live=_IDLE)
        kinds = {field.kind for field in desk.inputs.values()}
        gr.HTML(drawing.header([partner.name for partner in desk.partners]), elem_id="pride-top", padding=False)
        if desk.is_blind:
            with gr.Row(elem_id="pride-chats"):
                self.chats = [_chat("A"), _chat("B")]
            self.alert = gr.HTML(elem_id="pride-alert", padding=False)
            self._votes()
            self._input(kinds)
            self._camera()
            self.readings = self._revealed()
        else:
            with gr.Row(elem_id="pride-one"):
                with gr.Column(scale=7, min_width=280):
                    self.chats = [_chat("")]
                    self.alert = gr.HTML(elem_id="pride-alert", padding=False)
                    self._input(kinds)
                with gr.Column(scale=4, min_width=280):
                    self._camera()
                    self.readings = [gr.HTML(elem_id="pride-reading", padding=False)]
        self._wire()

    def _input(self, kinds: set[Kind]) -> None:
        """Where one says something: the box, the camera, other inputs, a new beginning."""
        hears, self.sees = Kind.AUDIO in kinds, Kind.VIDEO in kinds
        self.box = gr.MultimodalTextbox(
            sources=(["upload"] if hears or self.sees else []) + (["microphone"] if hears else []),
            file_types=[f".{ending}" for ending in ENDINGS],
            file_count="single",
            placeholder="Say something",
            show_label=False,
            label="What you say",
            autofocus=True,
            max_lines=6,
            elem_id="pride-box",
        )
        _uploaded(self.box)
        self.fields = {field.name: part for field in self.desk.inputs.values() if (part := _part(field)) is not None}
        with gr.Row(elem_id="pride-buttons"):
            self.open_camera = gr.Button("Camera", size="sm", visible=self.sees, elem_id="pride-open-camera")
            self.reset = gr.Button("New conversation", size="sm", elem_id="pride-reset")

    def _camera(self) -> None:
        with gr.Column(visible=False, elem_id="pride-camera", min_width=240) as self.panel:
            self.camera = gr.Video(
                sources=["webcam"],
                webcam_options=gr.WebcamOptions(mirror=False),  # Gradio would turn the clip, in this very process,
                include_audio=True,  # and take its sound away
                show_label=False,
                label="Camera",
                height=270,
                buttons=[],
            )
            _uploaded(self.camera)

    def _votes(self) -> None:
        self.votes: dict[Vote, gr.Button] = {}
        with gr.Row(elem_id="pride-votes", visible=False) as self.ballot:
            for vote, words in WORDS.items():
                self.votes[vote] = gr.Button(words, size="sm", elem_classes="pride-vote")
        self.hint = gr.HTML(elem_id="pride-hint", padding=False)

    def _revealed(self) -> list[gr.HTML]:
        with gr.Row(elem_id="pride-revealed", visible=False) as self.reveal:
            return [gr.HTML(padding=False, min_width=280), gr.HTML(padding=False, min_width=280)]

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        light: dict[str, Any] = {**quiet, "concurrency_limit": None}  # no line of somebody else is waited for
        everything = [
            self.talk,
            self.box,
            self.alert,
            self.open_camera,
            self.camera,
            self.panel,
            *self.chats,
            *self.readings,
        ]
        if self.desk.is_blind:
            everything += [self.ballot, self.hint, self.reveal]
        given = [self.talk, self.box, self.camera, *self.fields.values()]
        saying = self.box.submit(self.say, given, everything, concurrency_limit=self.desk.at_once, **quiet)
        self.reset.click(self.begin, None, everything, cancels=[saying], **light)
        self.open_camera.click(lambda: gr.update(visible=True), None, self.panel, **light)
        gr.on(None, self.open, None, everything, **light)
        if self.desk.is_blind:
            for vote, button in self.votes.items():
                button.click(self._voting(vote), self.talk, everything, **light)

    def open(self) -> Shown:
        """The first conversation of a page; who was quick has begun to write."""
        return self._shown(Talk.between(self.desk.partners))

    def begin(self) -> Shown:
        """A new conversation, and nothing of the one before."""
        empty = {self.box: gr.update(value=None, visible=True), self.camera: None, self.alert: ""}
        closed = {self.open_camera: gr.update(visible=self.sees), self.panel: gr.update(visible=False)}
        return {**self.open(), **empty, **closed}

    async def say(self, talk: Talk | None, box: Any, film: str | None, *values: Any) -> AsyncIterator[Shown]:
        """Say what is in the box, and show the answers as they are made."""
        talk = talk or Talk.between(self.desk.partners)
        line, files = box["text"] or "", [Path(file) for file in (*box["files"], *([film] if film else []))]
        self.desk.count(1)
        try:
            self.desk.admit()
            uploads = _read(files)
            first: Shown = {self.box: gr.update(value=None), self.camera: None, self.alert: ""}
            if film:
                first[self.panel] = gr.update(visible=False)
            others = {
                name: value for name, value in zip(self.fields, values, strict=True) if value not in ("", None, [])
            }
            async with aclosing(talk.say(line, uploads, others)) as saying:  # whoever goes away stops the student
                async for _ in saying:
                    yield {**self._shown(talk), **first}
                    first = {}
        except UserError as error:
            yield self._failed(talk, line, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it says may hold what was said
            _log.error("an answer failed: %s", where(error))
            yield self._failed(talk, line, _FAILED)
        finally:
            self.desk.count(-1)
            for file in files:
                with suppress(OSError):
                    file.unlink()

    def _voting(self, vote: Vote) -> Callable[[Talk | None], Shown]:
        def cast(talk: Talk | None) -> Shown:
            if talk is None or talk.saying is not None or talk.vote is not None or not talk.sides[0].turns:
                return {self.alert: drawing.alert("There is nothing to vote on: say something first.")}
            try:
                self.desk.vote(talk, vote)
            except OSError as error:
                return {self.alert: drawing.alert(f"The vote cannot be kept ({error.strerror}).")}
            talk.vote = vote
            over = dict.fromkeys((self.box, self.open_camera, self.panel), gr.update(visible=False))
            return {**self._shown(talk), **over, self.alert: ""}

        return cast

    def _failed(self, talk: Talk, line: str, why: str) -> Shown:
        """One line of what went wrong; the words come back, what was attached does not."""
        back = {"text": line, "files": []}
        return {**self._shown(talk), self.box: gr.update(value=back), self.camera: None, self.alert: drawing.alert(why)}

    def _shown(self, talk: Talk) -> Shown:
        """All that follows from a conversation. Of two students nobody is named, and nothing read, before the vote."""
        shown: Shown = {self.talk: talk}
        for side, chat, part in zip(talk.sides, self.chats, self.readings, strict=True):
            shown[chat] = drawing.bubbles(talk, side)
            name = side.partner.name if self.desk.is_blind else ""
            if not self.desk.is_blind or talk.vote:
                shown[part] = drawing.reading(side.partner.answerer.predictor.schema, side.reading, name)
        if self.desk.is_blind:
            can_vote = bool(talk.sides[0].turns) and talk.saying is None and talk.vote is None
            shown[self.ballot] = gr.update(visible=can_vote)
            shown[self.reveal] = gr.update(visible=talk.vote is not None)
            shown[self.hint] = drawing.hint(talk)
            if talk.vote is None:
                shown |= dict.fromkeys(self.readings, "")
        return shown


def _chat(label: str) -> gr.Chatbot:
    return gr.Chatbot(
        label=label or "Conversation",
        show_label=bool(label),
        height="60vh",
        render_markdown=False,  # what is said is text, whatever is in it; see drawing.bubbles
        buttons=[],
        feedback_options=None,
        elem_classes="pride-chat",
    )


def _uploaded(part: Any) -> None:
    """A part that takes what was uploaded here, and no address: Gradio would fetch what is there.

    The part is changed, not derived from: for each derived class Gradio writes a file beside this one.
    """
    move = part.async_move_resource_to_block_cache

    async def no_address(given: Any) -> str | None:
        if given is not None and "://" in str(given):
            raise gr.Error("Nothing is fetched: upload a file.", print_exception=False)
        moved: str | None = await move(given)
        return moved

    part.async_move_resource_to_block_cache = no_address


def _part(field: Field) -> Any:
    """The control for an input that is neither words of the talk nor media; None for what is spread over turns."""
    if isinstance(field, ChoiceField):
        return gr.Dropdown([("not said", ""), *((one, one) for one in field.options)], value="", label=field.label)
    if isinstance(field, ChoicesField):
        return gr.CheckboxGroup(list(field.options), label=field.label)
    if isinstance(field, ScaleField):
        levels = [(str(level), level) for level in range(field.low, field.high + 1)]
        return gr.Dropdown([("not said", None), *levels], value=None, label=field.label)
    if isinstance(field, TextField):
        return gr.Textbox(label=field.label, max_lines=field.rows)
    return None


def _read(files: Sequence[Path]) -> Mapping[Kind, Upload]:
    """The one clip or sound that came with a line."""
    if len(files) > 1:
        raise UserError("One clip or sound goes with a line: take the others away.")
    return dict(of_file(file) for file in files)
