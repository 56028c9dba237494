"""One item measured: few frames of its clips, its sound, its words. Runs in a process that may die.

Letters: ``F`` frames, ``H`` height, ``W`` width, ``N`` samples.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.quality import black, clipping, face, frozen, language, overlap, silence
from pipelines.quality.marks import Mark, picture_mark, sound_mark, text_mark
from pipelines.quality.measured import Figures, Measured
from pipelines.quality.settings import QualitySettings
from pride_mm.records import Item, to_json
from pride_mm.schema import AudioField, Media, Schema, Turn, VideoField


@dataclass(frozen=True)
class Task:
    """An item, the texts of its notes by field, and the digest of all that its figures depend on."""

    item: Item
    notes: dict[str, str]
    digest: str


def task_of(item: Item, notes: dict[str, str], settings: QualitySettings) -> Task:
    """Make a task; its digest changes with the item, its files, its notes and what is measured, not with thresholds."""
    files = []
    for value in item.inputs.values():
        if isinstance(value, Media) and Path(value.path).is_file():
            stat = Path(value.path).stat()
            files.append([stat.st_size, stat.st_mtime_ns])
    on = [name for name, rule in settings.rules().items() if rule.action != "off"]
    known = [to_json(item), files, notes, on, settings.frames, settings.limits.model_dump(), settings.language.allowed]
    return Task(item, notes, hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32])


def measure(schema: Schema, settings: QualitySettings, task: Task) -> Measured:
    """Measure one item; media that cannot be read are named in it."""
    from pipelines.quality.material import read_pictures, read_sound
    from pride_mm.media import MediaError

    figures: Figures = {}
    marks: dict[str, Mark] = {}
    broken: dict[str, str] = {}
    _text(schema, settings, task, figures, marks)
    for field in schema.inputs:
        media = task.item.inputs.get(field.name)
        if not isinstance(media, Media):
            continue
        try:
            if isinstance(field, VideoField) and settings.on(
                "unreadable", "black", "frozen", "face", "copies", "shared"
            ):
                frames = read_pictures(media, settings.frames, settings.limits)
                figures[field.name], marks[field.name] = _pictures(frames, settings), picture_mark(frames)
            elif isinstance(field, AudioField) and settings.on("unreadable", "silence", "clipping", "copies", "shared"):
                sound = read_sound(media, field.rate, settings.limits)
                figures[field.name], marks[field.name] = _sound(sound, field.rate), sound_mark(sound, field.rate)
        except MediaError as error:
            broken[field.name] = str(error)
    return Measured(task.item.id, task.digest, figures, marks, broken)


def _text(schema: Schema, settings: QualitySettings, task: Task, figures: Figures, marks: dict[str, Mark]) -> None:
    """What the words of an item are like; a field that has nothing to measure has no figure."""
    name, response = schema.dialogue.name, task.item.targets.get(schema.response.name)
    dialogue = task.item.inputs[name]
    turns = tuple(turn.text for turn in dialogue if isinstance(turn, Turn)) if isinstance(dialogue, tuple) else ()
    answer = response if isinstance(response, str) else ""
    figures[name] = _given(overlap=overlap.figure(answer, turns))
    for note, text in task.notes.items():
        figures[note] = _given(overlap=overlap.figure(answer, (text,)))
    if settings.on("language"):
        figures[name] |= _given(language=language.figure(" ".join((*turns, answer)), settings.language.allowed))
    if settings.on("copies", "shared"):
        marks[name] = text_mark((*turns, answer))


def _given(**figures: float | None) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if figure is not None}


def _pictures(frames: NDArray[np.uint8], settings: QualitySettings) -> dict[str, float]:
    figures = {"black": black.figure(frames), "frozen": frozen.figure(frames)}
    if settings.on("face"):
        figures["face"] = face.figure(frames)
    return figures


def _sound(sound: NDArray[np.float32], rate: int) -> dict[str, float]:
    return {"silence": silence.figure(sound, rate), "clipping": clipping.figure(sound)}
