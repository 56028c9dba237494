"""One sample to look at: as lines for the terminal, and as one HTML page that opens offline.

Notes are on it only where they are asked for.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pride_mm.data.members import is_media
from pride_mm.data.render import render
from pride_mm.data.shards import DEFAULT_ROLES, Sample, ShardSet
from pride_mm.media import MediaError, probe, read_audio, read_frames
from pride_mm.page import svg, write_page
from pride_mm.schema import AudioField, Field, MediaData, Role, Schema, Turn, VideoField

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_TEMPLATE = Path(__file__).parent / "templates" / "show.html.j2"
_COLUMNS = 600
_STRIP_HEIGHT = 160
_ABSENT = "absent"
_SPEAKERS = ("#c46a2b", "#5b6fa8", "#8d8d3f", "#8a4f7d")


@dataclass(frozen=True)
class Line:
    """One field of a sample in words."""

    role: Role
    label: str
    text: str
    present: bool


def load(shards: ShardSet, key: str | None = None, notes: bool = False) -> tuple[str, Sample]:
    """The split and the sample of a key, or the very first sample.

    Raises:
        UserError: there is no such key, or the notes are asked for and not here.
        SampleError: the sample is broken.
    """
    split, place = shards.find(key) if key is not None else (next(iter(shards.splits)), 0)
    roles = (*DEFAULT_ROLES, Role.PRIVILEGED) if notes else DEFAULT_ROLES
    return split, shards.samples(split, roles)[place]


def describe(sample: Sample, schema: Schema) -> list[Line]:
    """Each field of a sample in words; privileged ones only where the sample has them."""
    lines = []
    values: dict[Role, Mapping[str, Any]] = {Role.INPUT: sample.inputs, Role.TARGET: sample.targets}
    if sample.privileged is not None:
        values[Role.PRIVILEGED] = sample.privileged
    for field in schema.field:
        if field.role in values:
            value = values[field.role].get(field.name)
            text = _ABSENT if value is None else _media_words(value) if is_media(field) else render(field, value)
            model = sample.drafts.get(field.name)
            label = f"{field.label} (draft of {model}, left as it was)" if model else field.label
            lines.append(Line(field.role, label, text, value is not None))
    return lines


def _media_words(data: MediaData) -> str:
    if isinstance(data, tuple):
        return f"{len(data)} pictures; {sum(map(len, data)):,} bytes"
    try:
        info = probe(data)
    except MediaError as error:
        return str(error)
    words = []
    if info.video is not None:
        video = info.video
        words.append(f"{video.width}x{video.height}, {video.frames} frames, {video.duration:.1f} s")
    if info.audio is not None:
        words.append(f"{info.audio.codec} at {info.audio.rate} Hz, {info.audio.duration:.1f} s")
    return f"{'; '.join(words)}; {len(data):,} bytes"


def write_sample_page(path: Path, sample: Sample, schema: Schema, split: str) -> None:
    """Write one sample as a self-contained page: clip, frames, sound, turns, targets, and notes where it has them."""
    lines = describe(sample, schema)
    dialogue = sample.inputs.get(schema.dialogue.name, ())
    write_page(
        path,
        _TEMPLATE,
        title=f"Sample {sample.key}",
        split=split,
        corpus=sample.corpus,
        turns=dialogue,
        media=[
            _media(field, sample.inputs[field.name], dialogue)
            for field in schema.inputs
            if is_media(field) and field.name in sample.inputs
        ],
        absent=[line.label for line in lines if line.role is Role.INPUT and not line.present],
        targets=[line for line in lines if line.role is Role.TARGET],
        notes=[line for line in lines if line.role is Role.PRIVILEGED] if sample.privileged is not None else None,
    )


def _media(field: Field, data: Any, turns: Any) -> dict[str, Any] | None:
    """What the page shows of one field: the player, and a picture of what the student sees or hears."""
    if not isinstance(data, bytes | tuple):
        return None
    shown: dict[str, Any] = {
        "label": field.label,
        "words": "",
        "video": None,
        "audio": None,
        "frames": (),
        "wave": None,
    }
    try:
        shown["words"] = _media_words(data)
        if isinstance(field, VideoField):
            shown["video"] = _uri("video/mp4", data) if isinstance(data, bytes) else None
            shown["frames"] = [
                _jpeg(frame) for frame in read_frames(data, field.frames, max(field.size, _STRIP_HEIGHT))
            ]
        elif isinstance(field, AudioField) and isinstance(data, bytes):
            shown["audio"] = _uri("audio/ogg" if data.startswith(b"OggS") else "audio/flac", data)
            shown["wave"] = svg(waveform(read_audio(data, field.rate), field.rate, turns))
    except MediaError as error:
        shown["words"] = str(error)
    return shown


def _uri(kind: str, data: bytes) -> Markup:
    # base64 holds nothing that would end an attribute
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")


def _jpeg(frame: "Tensor") -> Markup:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=85)
    return _uri("image/jpeg", buffer.getvalue())


def waveform(sound: "Tensor", rate: int, turns: Sequence[Turn] = ()) -> "Figure":
    """Loudest and quietest sample of each column of a picture, over seconds; behind it who speaks when, where known."""
    import numpy as np
    from matplotlib.figure import Figure

    columns = np.array_split(sound.numpy(), min(_COLUMNS, len(sound)))
    seconds = np.linspace(0, len(sound) / rate, len(columns))
    figure = Figure(figsize=(9, 1.6))
    axes = figure.subplots()
    axes.fill_between(seconds, [c.min() for c in columns], [c.max() for c in columns], color="#2f6f6b", linewidth=0.3)
    peak = max(float(sound.abs().max()), 1e-3)
    speakers = list(dict.fromkeys(turn.speaker for turn in turns))
    for turn in turns:
        if turn.start is not None and turn.end is not None:
            colour = _SPEAKERS[speakers.index(turn.speaker) % len(_SPEAKERS)]
            axes.axvspan(turn.start, turn.end, color=colour, alpha=0.14, linewidth=0)
            axes.text(turn.start, 1.1 * peak, f" {turn.speaker}", fontsize=8, color=colour, va="bottom", clip_on=True)
    axes.set(xlabel="seconds", yticks=[], xlim=(0, len(sound) / rate), ylim=(-1.05 * peak, 1.45 * peak))
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    return figure


def summary(sample: Sample, schema: Schema, split: str) -> Sequence[str]:
    """The lines that the terminal shows."""
    head = [f"{sample.key}  ({split}, {sample.corpus})"]
    for role in Role:
        lines = [line for line in describe(sample, schema) if line.role is role]
        head += ["", f"{role.value}:"] if lines else []
        for line in lines:
            first, *rest = line.text.splitlines() or [""]
            head += [f"  {line.label}: {first}", *(f"    {more}" for more in rest)]
    return head
