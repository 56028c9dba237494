"""Real clips beside planted defects: each made out of a real clip by the ffmpeg command line."""

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# what ffmpeg makes of a real clip, by the measure that should find it
DEFECTS = {
    "black": ["-vf", "geq=lum=16:cb=128:cr=128"],
    "frozen": ["-vf", "select=eq(n\\,3),loop=-1:1,setpts=N/15/TB", "-t", "2"],
    "silence": ["-c:v", "copy", "-af", "volume=-70dB"],
    "clipping": ["-c:v", "copy", "-af", "volume=40dB,aformat=sample_fmts=s16,volume=-6dB"],
    "face": ["-f", "lavfi", "-i", "mandelbrot=size=320x240:rate=15", "-map", "1:v", "-map", "0:a", "-t", "2"],
    "copies": ["-vf", "scale=-2:160,eq=brightness=0.02", "-crf", "30", "-c:a", "aac", "-b:a", "48k"],
}


@pytest.fixture(scope="session")
def make_clip() -> Callable[[Path, Path, list[str]], Path]:
    def make(source: Path, path: Path, options: list[str]) -> Path:
        inputs = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-i", str(source)]
        subprocess.run([*inputs, *options, "-threads", "1", str(path)], check=True)
        return path

    return make


@pytest.fixture(scope="session")
def good(data_dir: Path) -> list[dict[str, Any]]:
    """Ten short MOSI clips with their words, and two sounds of RAVDESS: real and as they should be."""
    with (data_dir / "mosi_mini" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if 2 < float(row["duration"]) < 4 and len(row["text"]) > 30]
    items = []
    for row in rows[::8][:10]:
        path = str(data_dir / "mosi_mini" / row["file"])
        items.append(line(Path(path).stem, row["video_id"], path, row["text"].capitalize()))
    for path in sorted((data_dir / "ravdess" / "audio16k").glob("*.flac"))[:2]:
        turns = [{"speaker": "actor", "text": "Kids are talking by the door."}]
        items.append(
            {
                "id": path.stem,
                "corpus": "real",
                "group": "actor",
                "inputs": {"audio": {"path": str(path)}, "dialogue": turns},
            }
        )
    return items


def line(key: str, group: str, path: str, text: str, **more: Any) -> dict[str, Any]:
    """An item of a clip with one turn."""
    media = {"path": path}
    inputs = {"video": media, "audio": media, "dialogue": [{"speaker": "speaker", "text": text}]}
    return {"id": key, "corpus": "real", "group": group, "inputs": inputs, "targets": {}, **more}


@pytest.fixture(scope="session")
def defects(
    tmp_path_factory: pytest.TempPathFactory,
    good: list[dict[str, Any]],
    make_clip: Callable[[Path, Path, list[str]], Path],
) -> list[dict[str, Any]]:
    """One item for each way to be bad; its id is the measure that should find it."""
    folder = tmp_path_factory.mktemp("defects")
    source = Path(good[0]["inputs"]["video"]["path"])
    text = good[0]["inputs"]["dialogue"][0]["text"]
    items = []
    for name, options in DEFECTS.items():
        made = make_clip(source, folder / f"{name}.mp4", options)
        said = text if name == "copies" else f"This one is about something else, and it is called {name}."
        items.append(line(name, f"group of {name}", str(made), said))
    broken = folder / "unreadable.mp4"
    broken.write_bytes(source.read_bytes()[:5000])
    items.append(line("unreadable", "a", str(broken), "This file was cut off in the middle of the way."))
    spoken = [{"speaker": "a", "text": "Ich habe heute meine Arbeit verloren und weiß nicht weiter."}]
    items.append({"id": "language", "corpus": "real", "group": "b", "inputs": {"dialogue": spoken}, "targets": {}})
    answer = "I am so sorry that you lost the job that you loved so much."
    said = [{"speaker": "a", "text": f"He only said: {answer}"}]
    items.append(
        {"id": "overlap", "corpus": "real", "group": "c", "inputs": {"dialogue": said}, "targets": {"response": answer}}
    )
    return items


@pytest.fixture(scope="session")
def write_items() -> Callable[[Path, list[dict[str, Any]]], Path]:
    def write(path: Path, items: list[dict[str, Any]]) -> Path:
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return path

    return write
