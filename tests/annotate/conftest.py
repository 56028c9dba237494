"""One real Label Studio for all tests of this folder, started once; a schema with every kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate.server import LocalServer, find_command
from annotate.studio import Studio, connect
from pride_mm.errors import UserError
from pride_mm.records import Item
from pride_mm.schema import Media, Schema, Turn, load_schema

EVERY_KIND = {
    "name": "every_kind",
    "field": [
        {"name": "clip", "kind": "video", "role": "input"},
        {"name": "voice", "kind": "audio", "role": "input"},
        {"name": "talk", "kind": "dialogue", "role": "input"},
        {"name": "topic", "kind": "choice", "role": "input", "options": ["work", "home"]},
        {"name": "note", "kind": "text", "role": "privileged", "step": "situation", "guideline": "Costs $5 {{idx}}?"},
        {"name": "cause", "kind": "choice", "role": "privileged", "options": ["$loss", 'a "b" <c>', "é"]},
        {"name": "needs", "kind": "choices", "role": "privileged", "options": ["rest", "help", "ear"]},
        {"name": "warmth", "kind": "scale", "role": "privileged", "low": -1, "high": 2, "required": True},
        {"name": "depth", "kind": "scale", "role": "privileged", "low": 0, "high": 100},
        {"name": "mood", "kind": "turn_choice", "role": "privileged", "step": "feelings", "options": ["up", "down"]},
        {"name": "moment", "kind": "spans", "role": "privileged", "step": "feelings", "options": ["shift", "pause"]},
        {"name": "reply", "kind": "text", "role": "target", "step": "response", "required": True},
    ],
}


@pytest.fixture(scope="session")
def every_kind() -> Schema:
    return Schema.model_validate(EVERY_KIND)


@pytest.fixture(scope="session")
def pride() -> Schema:
    return load_schema("pride")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server of our own; its first start takes about a minute."""
    try:
        find_command()
    except UserError as error:
        pytest.skip(str(error))
    with LocalServer(tmp_path_factory.mktemp("label-studio"), port=0) as running:
        yield running


@pytest.fixture(scope="session")
def studio(server: LocalServer) -> Studio:
    return connect(server.url, server.credentials.token)


@pytest.fixture(scope="session")
def items(data_dir: Path) -> list[Item]:
    """Items of the shipped clip schema: with video and sound, sound only, a part of a file, video only, text only."""
    clip = Media(path=str(data_dir / "mosi_mini/clips/03bSnISJMiM_1.mp4"))
    voice = Media(path=str(data_dir / "ravdess/audio16k/03-01-01-01-01-01-01.flac"))
    talk = (
        Turn(speaker="client", text="I <b>can't</b> sleep. אני עייף", start=0.0, end=1.5),
        Turn(speaker="helper", text="What keeps you awake?", start=1.5, end=2.0),
        Turn(speaker="client", text="我不知道。"),
    )
    media: dict[str, dict[str, Media]] = {
        "both": {"video": clip, "audio": clip},
        "sound": {"audio": voice},
        "part": {"audio": voice.model_copy(update={"start": 0.5, "end": 1.5})},
        "silent": {"video": clip},
        "words": {},
    }
    return [
        Item(id=name, corpus="test", group=name, inputs={}).model_copy(update={"inputs": {**given, "dialogue": talk}})
        for name, given in media.items()
    ]
