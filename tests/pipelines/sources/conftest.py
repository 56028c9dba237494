"""Taking a corpus in, as the command does; real clips, and a real recording made of them."""

import csv
import wave
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pipelines.sources import Request
from pipelines.sources.corpus import load_corpus
from pipelines.sources.intake import ITEMS, ingest
from pride_mm.errors import BadSamples
from pride_mm.records import Annotation, Item, read_annotations, read_items
from pride_mm.schema import load_schema

TakeIn = Callable[..., tuple[list[Item], list[Annotation], BadSamples]]
RATE = 16000


@pytest.fixture
def take_in(tmp_path: Path) -> TakeIn:
    """Ingest into a fresh folder and read back what was written: items, annotations, and the bad rows."""

    def run(
        corpus: str | Path,
        path: Path | str | None,
        schema: str | None = None,
        limit: int | None = None,
        max_bad: int = 0,
        change: tuple[str, ...] = (),
    ):
        described, bad = load_corpus(corpus, schema, change), BadSamples(max_bad)
        contract = load_schema(schema or described.schema_name)
        out = tmp_path / "out"
        ingest(Request(described, contract, None if path is None else str(path), out, limit), bad)
        nothing = BadSamples(0)
        items = list(read_items(out / ITEMS, contract, nothing))
        notes = out / "annotations.jsonl"
        return items, list(read_annotations(notes, contract, nothing)) if notes.exists() else [], bad

    return run


@pytest.fixture(scope="session")
def clips(data_dir: Path) -> list[Path]:
    """Real clips of a few seconds with pictures and sound."""
    return sorted((data_dir / "mosi_mini" / "clips").glob("*.mp4"))[:12]


class Said(NamedTuple):
    """A sentence of a recording: who says it, the words, and where its file begins and ends."""

    speaker: str
    words: str
    start: float
    end: float


class Recorded(NamedTuple):
    """A recording of real speech, and what is known of it."""

    path: Path
    sound: np.ndarray
    said: list[Said]


@pytest.fixture(scope="session")
def recorded(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two actors of RAVDESS take turns, a second and a half of silence after each sentence."""
    from pride_mm.media import read_audio

    with (data_dir / "ravdess" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "audio16k"]
    dogs = [row for row in rows if row["actor"] == "1" and row["statement"].startswith("Dogs")]
    kids = [row for row in rows if row["actor"] == "2" and row["statement"].startswith("Kids")]
    pieces, said, at = [], [], 0
    for row in (kids[0], dogs[0], kids[1], dogs[1]):
        sound = read_audio(data_dir / "ravdess" / row["file"], RATE).numpy()
        speaker = "Client" if row in kids else "Therapist"
        said.append(Said(speaker, f"{row['statement']}.", at / RATE, (at + len(sound)) / RATE))
        pieces += [sound, np.zeros(RATE * 3 // 2, np.float32)]
        at += len(sound) + RATE * 3 // 2
    whole = np.concatenate(pieces)
    path = tmp_path_factory.mktemp("recorded") / "session.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((whole * 32767).astype("<i2").tobytes())
    return Recorded(path, whole, said)
