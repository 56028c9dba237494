import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from annotate.project import Project
from annotate.pulling import pull_file
from annotate.server import LocalServer
from annotate.studio import Studio, connect
from annotate.watch import HEADER, PATH, Hints, Watch
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Item, read_annotations
from pride_mm.schema import Schema, Turn

pytestmark = pytest.mark.label_studio
KEY = b"k" * 32
SAID = "confidential words"


@pytest.fixture
def item() -> Item:
    talk = (Turn(speaker="a", text="b"),)
    return Item(id="i-1", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"talk": talk}})


def note(text: str) -> list[dict]:
    return [{"id": "x", "from_name": "note", "to_name": "talk", "type": "textarea", "value": {"text": [text]}}]


@contextmanager
def watching(studio: Studio, project: Project, out: Path, every: float = 600) -> Iterator[tuple[Watch, list[str]]]:
    told: list[str] = []
    watch = Watch(
        studio,
        lambda: project.numbers,
        lambda: pull_file(project, KEY, out, True, BadSamples()),
        out,
        told.append,
        every,
    )
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), daemon=True)
    thread.start()
    try:
        within(60, lambda: len(hooks(studio, project)) == 1)
        yield watch, told
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def hooks(studio: Studio, project: Project) -> list:
    return [hook for hook in studio.client.webhooks.list() if hook.project in project.numbers]


def within(seconds: float, true: Callable[[], bool]) -> float:
    begin = time.monotonic()
    while not true():
        assert time.monotonic() < begin + seconds
        time.sleep(0.1)
    return time.monotonic() - begin


def test_a_change_is_in_the_file_within_seconds_and_told_without_its_text(
    studio: Studio, server: LocalServer, every_kind: Schema, item: Item, tmp_path: Path
) -> None:
    project = Project(studio, every_kind, f"T {uuid.uuid4().hex[:8]}")
    project.push([item])
    (task,) = project.tasks()
    out = tmp_path / "annotations.jsonl"

    def now() -> list:
        return [a.values.get("note") for a in read_annotations(out, every_kind, BadSamples())]

    with watching(studio, project, out) as (watch, told):
        assert now() == []
        made = studio.client.annotations.create(id=task.number, result=note(SAID))
        assert within(20, lambda: now() == [SAID]) < 20
        studio.client.annotations.update(id=made.id, result=note(SAID + "!"))
        within(20, lambda: now() == [SAID + "!"])
        forged = httpx.post(watch._hints.url, json={"action": "ANNOTATION_CREATED"}, trust_env=False)
        assert forged.status_code == 403
        assert httpx.post(watch._hints.url, headers={HEADER: "guess"}, trust_env=False).status_code == 403
        assert httpx.get(watch._hints.url, trust_env=False).status_code == 405
        assert httpx.get(watch._hints.url.replace(PATH, "/"), trust_env=False).status_code == 404
        studio.client.annotations.delete(id=made.id)
        within(20, lambda: now() == [])
    assert [line.split("  ") for line in told[1:]] == [
        ["i-1", told[1].split("  ")[1], what] for what in ("added", "changed", "gone")
    ]
    assert told[1].split("  ")[1].startswith("expert-")
    assert SAID not in "".join(told)
    assert SAID not in server.log.read_text()
    assert watch._hints.secret not in server.log.read_text()
    assert hooks(studio, project) == [], "it has gone as it came"


def test_a_forged_hint_does_not_even_cause_a_pull() -> None:
    from starlette.testclient import TestClient

    hints = Hints()
    client = TestClient(hints.app())
    assert client.post(PATH, headers={HEADER: hints.secret[:-1]}).status_code == 403
    assert not hints.arrived.is_set()
    assert client.post(PATH, headers={HEADER: hints.secret}, content=b"x" * 100_000).status_code == 204
    assert hints.arrived.is_set()


@pytest.mark.slow
def test_it_outlives_a_restart_of_the_server_and_clears_away_what_a_killed_one_left(
    copied: Path, every_kind: Schema, item: Item, tmp_path: Path
) -> None:
    out = tmp_path / "annotations.jsonl"
    with LocalServer(copied, 0) as server:
        studio = connect(server.url, server.credentials.token)
        project = Project(studio, every_kind, f"T {uuid.uuid4().hex[:8]}")
        project.push([item])
        left = f"http://127.0.0.1:1{PATH}"  # nobody listens there
        studio.client.webhooks.create(project=project.numbers[0], url=left, actions=["ANNOTATION_CREATED"])
        (task,) = project.tasks()
        told: list[str] = []
        pull = lambda: pull_file(project, KEY, out, True, BadSamples())  # noqa: E731
        watch = Watch(studio, lambda: project.numbers, pull, out, told.append, every=5)
        stop = threading.Event()
        thread = threading.Thread(target=watch.run, args=(stop,), daemon=True)
        thread.start()
        within(60, lambda: [hook.url for hook in studio.client.webhooks.list()] == [watch._hints.url])
    within(30, lambda: any("Trying again." in line for line in told))
    with LocalServer(copied, server.port):
        within(30, lambda: "Label Studio answers again" in told)
        studio.client.annotations.create(id=task.number, result=note(SAID))
        within(20, lambda: any(line.startswith("i-1  ") for line in told))
        stop.set()
        thread.join(30)
        assert studio.client.webhooks.list() == []
    assert len([line for line in told if "Trying again." in line]) == 1, "said once"


def test_what_fails_at_first_stops_it(studio: Studio, every_kind: Schema, tmp_path: Path) -> None:
    project = Project(studio, every_kind, "No such project")
    out = tmp_path / "a.jsonl"
    pull = lambda: pull_file(project, KEY, out, True, BadSamples())  # noqa: E731
    with pytest.raises(UserError, match="No project 'No such project'"):
        Watch(studio, lambda: project.numbers, pull, out, print).run()
    assert not out.exists()
