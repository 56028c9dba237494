"""A real Label Studio that asks a real model for drafts when a task is opened."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from annotate.drafts.backend import Assistant, AssistServer, item_of
from annotate.exchange.project import Project
from annotate.page.provenance import predictions_of
from annotate.server.local import LocalServer
from annotate.studio import Studio
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Item
from pride_mm.schema import Schema, Turn
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.drafting import Drafter, DraftPrompt
from pride_mm.teacher.local_writer import LocalWriter
from pride_mm.teacher.scoring import Teacher

pytestmark = pytest.mark.label_studio
SECRET = "zebra crossing at midnight"


@pytest.fixture(scope="module")
def project(studio: Studio, pride: Schema) -> Project:
    """A project of two text dialogues."""
    made = Project(studio, pride, f"B {uuid.uuid4().hex[:8]}")
    talk = (Turn(speaker="client", text=SECRET), Turn(speaker="helper", text="Where?"))
    items = [Item(id=name, corpus="t", group=name, inputs={}) for name in ("one", "two", "three")]
    made.push([item.model_copy(update={"inputs": {"dialogue": talk}}) for item in items])
    return made


@pytest.fixture(scope="module")
def assistant(project: Project, pride: Schema, small_model: Path) -> Assistant:
    writer = LocalWriter(Teacher(*load_backbone(small_model)), max_tokens=8)
    drafter = Drafter(DraftPrompt.load(pride), writer, BadSamples())
    return Assistant(project, drafter, [pride.get("feelings"), pride.get("expression")], "small@1")


@pytest.fixture
def running(assistant: Assistant) -> Iterator[AssistServer]:
    with AssistServer(assistant, 0) as server:
        yield server


def opened(server: LocalServer, task: int, project: int) -> dict[str, Any]:
    """What the page gets when somebody opens a task."""
    answer = httpx.get(
        f"{server.url}/api/tasks/{task}/?project={project}",
        headers={"Authorization": f"Token {server.credentials.token}"}, timeout=60, trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 200
    result: dict[str, Any] = answer.json()
    return result


def test_opening_a_task_drafts_it_once(
    server: LocalServer, running: AssistServer, project: Project, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    one, two, three = sorted(project.tasks(), key=lambda task: task.number)
    assert not any(task.predictions for task in (one, two, three))
    before = time.monotonic()
    (prediction,) = opened(server, one.number, one.project)["predictions"]
    assert prediction["model_version"] == "small@1"
    assert 0 < prediction["score"] < 1
    (read,) = predictions_of([prediction], one.context)
    assert read.values.keys() == {"feelings", "expression"}
    assert [p["id"] for p in opened(server, one.number, one.project)["predictions"]] == [prediction["id"]]
    (listed, other, _) = sorted(project.tasks(), key=lambda task: task.number)
    assert [p["id"] for p in listed.predictions] == [prediction["id"]], "it is stored"
    assert not other.predictions, "only what is opened is drafted"
    # in the stream of tasks the page is filled in with it, too
    stream = httpx.get(
        f"{server.url}/api/projects/{one.project}/next", trust_env=False, timeout=60,
        headers={"Authorization": f"Token {server.credentials.token}"},
    )  # fmt: skip
    assert [p["model_version"] for p in stream.json()["predictions"]] == ["small@1"]
    assert time.monotonic() - before < 60
    said = caplog.text + "".join(capfd.readouterr())
    assert SECRET not in said
    assert server.credentials.token not in said


def test_what_is_drafted_is_not_drafted_again(assistant: Assistant, project: Project) -> None:
    task = next(project.tasks())
    sent = {"id": 77, "project": task.project, "data": {"dialogue": [{"speaker": "a", "text": "Hello."}]}}
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(assistant.draft(sent))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers[0] is answers[1] is answers[2], "those who asked at once got the same draft"


def test_it_answers_as_the_protocol_says(running: AssistServer, project: Project) -> None:
    with httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client:
        assert client.get("/health").json()["status"] == "UP"
        assert client.get("/versions").json() == {"versions": ["small@1"]}
        token = {"access_token": "a" * 40, "project": "1.2", "schema": "<View/>"}
        assert client.post("/setup", json=token).json() == {"model_version": "small@1"}
        assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200
        task = next(project.tasks())
        good = {"id": 1, "project": task.project, "data": {"dialogue": [{"speaker": "a", "text": "I am tired."}]}}
        strange = [{"id": 2, "project": task.project, "data": {"text": "x"}}, {"id": 3, "project": 10**6, "data": {}}]
        answer = client.post("/predict", json={"tasks": [good, *strange]}).json()
        assert [len(result) for result in answer["results"]] == [1, 0, 0], "one for each task, in order"
        for wrong in (b"", b"not json", b"[]", b'{"tasks": 3}', b'{"tasks": ["x"]}', b"[" * 100_000):
            assert client.post("/predict", content=wrong).status_code == 400
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 400
        assert client.get("/predict").status_code == 405


def test_a_failing_model_says_nothing_of_the_task(
    project: Project, pride: Schema, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def fits(self, chat: Any) -> bool:
            raise RuntimeError(f"cannot read {chat}")

        write = fits

    drafter = Drafter(DraftPrompt.load(pride), Broken(), BadSamples())  # type: ignore[arg-type]
    task = next(project.tasks())
    with AssistServer(Assistant(project, drafter, [pride.get("feelings")], "broken@1"), 0) as server:
        sent = {"id": 1, "project": task.project, "data": {"dialogue": [{"speaker": "a", "text": SECRET}]}}
        answer = httpx.post(f"{server.url}/predict", json={"tasks": [sent]}, trust_env=False)
    assert answer.status_code == 500
    assert SECRET not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_it_is_known_while_it_runs_and_forgotten_afterwards(assistant: Assistant, project: Project) -> None:
    client, (number,) = project.studio.client, project.parts()
    left = AssistServer(assistant, 0)
    left.__enter__()
    assert [one.title for one in client.ml.list(project=number)] == ["small@1"]
    # the machine went down: nobody answers, and nobody was told
    left._stop()
    with AssistServer(assistant, 0) as again:
        assert [one.url for one in client.ml.list(project=number)] == [again.url]
        assert not [h for h in client.webhooks.list(project=str(number)) if h.url.endswith("/webhook")], (
            "annotations are not sent to it"
        )
        with pytest.raises(UserError, match="is taken"):
            AssistServer(assistant, again.port).__enter__()
    assert not client.ml.list(project=number)
    assert client.projects.get(number).model_version == "small@1", "its drafts are shown all the same"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{again.url}/health", trust_env=False)


def test_the_command_starts_and_stops_cleanly(
    server: LocalServer, project: Project, small_model: Path, tmp_path: Path
) -> None:
    (number,) = project.parts()
    pride_command = [sys.executable, "-c", "from pipelines.cli import main; main()", "label", "assist", "--port", "0"]
    where = ["--data-dir", os.fspath(server.data_dir), "--project", project.title, "--field", "expression"]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LABEL_STUDIO")}
    process = subprocess.Popen(
        [*pride_command, "--teacher", os.fspath(small_model), *where], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**environ, "PYTHONPATH": os.fspath(Path(__file__).parents[3]), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert "drafts what is opened in" in process.stdout.readline()
    (one,) = project.studio.client.ml.list(project=number)
    *_, three = sorted(project.tasks(), key=lambda task: task.number)
    assert any(p["model_version"] == one.title for p in opened(server, three.number, number)["predictions"])
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Stopped" in said
    assert not project.studio.client.ml.list(project=number)


def test_inputs_of_every_kind_come_back_from_a_tasks_data(every_kind: Schema) -> None:
    talk = [{"speaker": "a", "text": "b", "start": 0.5, "end": 1.0}]
    item = item_of(every_kind, {"Item": "i-1", "Fps": 25.0, "clip": "/data/x.mp4", "talk": talk, "topic": "work"})
    assert item is not None
    assert item.id == "i-1"
    assert item.inputs == {"talk": (Turn(speaker="a", text="b", start=0.5, end=1.0),), "topic": "work"}
    assert item_of(every_kind, {"talk": talk, "topic": "elsewhere"}).inputs.keys() == {"talk"}  # type: ignore[union-attr]
    assert item_of(every_kind, {"topic": "work"}) is None
    assert json.dumps([t.model_dump() for t in item.inputs["talk"]])  # type: ignore[union-attr]
