import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from annotate.exchange.project import Project
from annotate.exchange.pulling import pull_file
from annotate.exchange.watch import HEADER, PATH, Hints, Watch
from annotate.server.local import LocalServer
from annotate.studio import Studio, connect
from pipelines.cli import app, run
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


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_takes_its_hooks_away_when_it_is_stopped(
    studio: Studio, server: LocalServer, pride: Schema, item: Item, tmp_path: Path, sign: signal.Signals
) -> None:
    title = f"T {uuid.uuid4().hex[:8]}"
    project = Project(studio, pride, title)
    project.push([item.model_copy(update={"inputs": {pride.dialogue.name: item.inputs["talk"]}})])
    (task,) = project.tasks()
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "label", "watch", "--project", title,
               "--data-dir", str(server.data_dir), "--out", str(tmp_path / "a.jsonl")]  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LABEL_STUDIO")}
    pride_watch = subprocess.Popen(
        command, cwd=Path(__file__).parents[3], env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        within(60, lambda: len(hooks(studio, project)) == 1)
        result = {"id": "x", "from_name": "situation", "to_name": "dialogue", "type": "textarea"}
        studio.client.annotations.create(id=task.number, result=[{**result, "value": {"text": [SAID]}}])
        assert pride_watch.stdout is not None
        told = ""
        while not told.endswith("added\n"):
            told += (line := pride_watch.stdout.readline())
            assert line
        assert SAID in (tmp_path / "a.jsonl").read_text()
        pride_watch.send_signal(sign)
        told += pride_watch.communicate(timeout=30)[0]
    finally:
        pride_watch.kill()
    assert pride_watch.returncode == 0
    assert re.search(r"^\d\d:\d\d:\d\d  i-1  expert-[0-9a-f]{8}  added$", told, re.MULTILINE)
    assert "Stopped" in told
    assert SAID not in told
    assert hooks(studio, project) == []


def test_what_cannot_work_is_one_line_and_exit_code_2(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = (["watch"], ["status"], ["experts", "add", "ana"])

    def complaints() -> list[str]:
        assert [run(["label", *command]) for command in commands] == [2, 2, 2]
        return capsys.readouterr().err.splitlines()

    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    assert all("No Label Studio in label-studio" in line for line in complaints())
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "c" * 40)
    nobody = complaints()
    assert len(nobody) == 3
    assert all("No Label Studio answers" in line for line in nobody)
    monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
    refused = complaints()
    assert len(refused) == 3
    assert all("refuses the token" in line for line in refused)


def test_help_has_an_example_for_every_command() -> None:
    for command in ("watch", "status", "experts add", "experts assign"):
        shown = CliRunner().invoke(app, ["label", *command.split(), "--help"]).output
        assert f"Example: pride label {command}" in " ".join(shown.split())
