"""One real Label Studio for all tests of this folder, started once; a schema with every kind."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from annotate.server.local import LocalServer, find_command
from annotate.studio import Studio, connect
from pride_mm.errors import UserError
from pride_mm.records import Item
from pride_mm.schema import Media, Schema, Turn, load_schema
from tests.browser import headless

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
def server(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[LocalServer]:
    """A server of our own. Its first start takes about a minute, so that one of pytest's workers does it for all."""
    try:
        find_command()
    except UserError as error:
        pytest.skip(str(error))
    ours = LocalServer(tmp_path_factory.mktemp("label-studio"), port=0)
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    made = shared / "label-studio-made"
    with FileLock(shared / "label-studio.lock"):
        if made.is_dir():
            _copy(made, ours.data_dir)
            ours.start()
        else:
            ours.start()
            _copy(ours.data_dir, shared / "label-studio-making").rename(made)
    yield ours
    ours.stop()


def _copy(folder: Path, to: Path) -> Path:
    """A data folder that knows a server's database and no clip."""
    for part in ("studio", "home"):
        shutil.copytree(folder / part, to / part)
    shutil.copy(folder / "credentials.json", to)
    return to


@pytest.fixture
def copied(server: LocalServer, tmp_path: Path) -> Path:
    """A data folder like the running server's, which spares a test the minute that a first start takes."""
    return _copy(server.data_dir, tmp_path / "ls")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of the machine, a module's own."""
    with headless() as running:
        yield running


@pytest.fixture
def signed_in(browser: Any, server: LocalServer) -> Iterator[Callable[..., Any]]:
    """Opens pages of the server as its owner: ``signed_in(width=1280, height=900)`` is a Playwright page.

    The page's ``strayed`` lists requests that left the server; a test may add them up.
    """
    contexts = []

    def open_page(width: int = 1280, height: int = 900) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, base_url=server.url)
        contexts.append(context)
        page = context.new_page()
        page.strayed = []
        page.on("request", lambda request: page.strayed.append(request.url) if _strays(request.url, server) else None)
        page.goto("/user/login/")
        page.fill("input[name=email]", server.credentials.email)
        page.fill("input[name=password]", server.credentials.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        return page

    yield open_page
    for context in contexts:
        context.close()


def _strays(url: str, server: LocalServer) -> bool:
    return not url.startswith((server.url, "data:", "blob:", "about:"))


@pytest.fixture
def open_task(signed_in: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the next task of a project (its address, as ``Project.addresses`` has it) for labelling."""

    def open_at(address: str, width: int = 1280, height: int = 900, wait: float = 60) -> Any:
        page = signed_in(width, height)
        page.goto(f"{address}?labeling=1")
        page.wait_for_selector(".pride-notes textarea", timeout=wait * 1000)
        return page

    return open_at
