"""The embedded sample: dialogues, faces and voices made here, so that everything runs without any data.

Media go to ``media`` in the folder of the items; the notes of the script's experts become annotations.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.sample.clip import Take, draw, speak, write_clip
from pipelines.sample.script import SCRIPT, Dialogue, Mark, Script, load_script
from pipelines.sample.voice import Voice
from pipelines.sources import Request
from pipelines.sources.mapping import MEDIA, Entry
from pride_mm.errors import BadSamples, SampleError, UserError
from pride_mm.records import Annotation, item_from_json
from pride_mm.schema import Field, Kind, Role, Schema, parse_values

FOLDER = "media"


def read(request: Request, bad: BadSamples) -> Iterator[Entry]:
    """Make the clips one by one and yield their items; ``path`` may name another script's folder."""
    folder = SCRIPT if request.path is None else Path(request.path)
    if not folder.is_dir():
        raise UserError(
            f"No script at {folder}: leave the path out, or give a folder of TOML files like {SCRIPT.name}/."
        )
    script, voice = load_script(folder), Voice()
    _check_fields(script, request.schema)
    dialogues = script.dialogue[: request.limit]
    for number, dialogue in enumerate(dialogues):
        request.progress(number, len(dialogues), dialogue.id)
        take = speak(script, dialogue, voice)
        path = request.out.absolute() / FOLDER / f"{dialogue.id}.mp4"
        if any(field.kind in MEDIA for field in request.schema.inputs):
            write_clip(path, draw(script, dialogue, take), take)
        entry = _entry(request, script, dialogue, take, path, bad)
        if entry is not None:
            yield entry
    request.progress(len(dialogues), len(dialogues))


def _check_fields(script: Script, schema: Schema) -> None:
    """Refuse a schema that lacks a field of the script, before minutes of drawing."""
    named = {name for dialogue in script.dialogue for name in dialogue.targets}
    named |= {name for dialogue in script.dialogue for notes in dialogue.notes.values() for name in notes}
    for name in sorted(named):
        schema.get(name)


def _entry(
    request: Request, script: Script, dialogue: Dialogue, take: Take, path: Path, bad: BadSamples
) -> Entry | None:
    schema, speaker = request.schema, script.speaker[dialogue.speaker]
    inputs: dict[str, Any] = {field.name: {"path": str(path)} for field in schema.inputs if field.kind in MEDIA}
    inputs[schema.dialogue.name] = _turns(script, dialogue, take)
    raw = {"id": dialogue.id, "corpus": request.corpus.corpus, "group": dialogue.speaker, "split": speaker.split}
    item = item_from_json({**raw, "inputs": inputs, "targets": dialogue.targets}, schema, dialogue.id, bad)
    if item is None:
        return None
    annotations = []
    for annotator, notes in dialogue.notes.items():
        given = {name: _placed(schema.get(name), value, dialogue, take) for name, value in notes.items()}
        values, refused = parse_values(schema.of(Role.PRIVILEGED) + schema.targets, given, len(dialogue.say))
        for name, reason in refused:
            bad.add(SampleError(f"{dialogue.id} ({annotator})", name, reason))
        said = Annotation(item=dialogue.id, annotator=annotator, origin=script.origin, values={})
        annotations.append(said.model_copy(update={"values": values}))
    return Entry(dialogue.id, item, tuple(annotations))


def _turns(script: Script, dialogue: Dialogue, take: Take) -> list[dict[str, Any]]:
    turns = []
    for number, words in enumerate(dialogue.say):
        start, end = take.times.get(number, (None, None))
        speaker = script.listener if number % 2 else dialogue.speaker.capitalize()
        turns.append({"speaker": speaker, "text": words, "start": start, "end": end})
    return turns


def _placed(field: Field, value: Any, dialogue: Dialogue, take: Take) -> Any:
    """What the script leaves to the clip: spans by turn get their seconds, moods of turns get their silent ones.

    A list of one entry for each turn of the speaker is filled up with null for the listener's.
    """
    if field.kind is Kind.SPANS:
        return [_span(Mark.model_validate(mark), take) for mark in value]
    if field.kind is Kind.TURN_CHOICE and len(value) != len(dialogue.say):
        spread: list[str | None] = [None] * len(dialogue.say)
        spread[::2] = value
        return spread
    return value


def _span(mark: Mark, take: Take) -> dict[str, Any]:
    if mark.turn is not None:
        begin, end = take.times[mark.turn]
    else:
        assert mark.after is not None
        begin = take.times[mark.after][1]
        end = min((start for start, _ in take.times.values() if start > begin), default=take.seconds)
    length = end - begin
    return {
        "start": round(begin + mark.part[0] * length, 2),
        "end": round(begin + mark.part[1] * length, 2),
        "label": mark.label,
    }
