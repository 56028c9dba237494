"""Against a real Label Studio: each item is there exactly once, whatever was killed or cut off."""

import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from annotate.exchange import pushing
from annotate.exchange.listing import read_tasks
from annotate.exchange.project import Project
from annotate.exchange.pulling import pull_file
from annotate.exchange.table import read_table
from annotate.server.local import HOST, LocalServer
from annotate.studio import Studio, connect
from pride_mm.errors import BadSamples, UserError
from pride_mm.records import Annotation, Item, write_records
from pride_mm.schema import Media, Schema, Turn, Value, load_schema

pytestmark = pytest.mark.label_studio
KEY = b"k" * 32


def item(name: str, *texts: str) -> Item:
    talk = tuple(Turn(speaker="ab"[turn % 2], text=text) for turn, text in enumerate(texts or ("one", "two")))
    return Item(id=name, corpus="t", group=name, inputs={}).model_copy(update={"inputs": {"dialogue": talk}})


def said(name: str, annotator: str = "ana", **values: Value) -> Annotation:
    bare = Annotation(item=name, annotator=annotator, values={})
    return bare.model_copy(update={"values": values or {"emotion": "sad", "situation": f"of {name}"}})


@pytest.fixture(scope="module")
def texts() -> Schema:
    return load_schema("empathetic_dialogues")


@pytest.fixture
def title() -> str:
    return f"T {uuid.uuid4().hex[:8]}"


def counted(project: Project) -> Counter[str]:
    (number,) = project.numbers
    return Counter(str(raw["data"]["Item"]) for raw in read_tasks(project.studio, number, ("id", "data")))


def once(project: Project, items: list[Item], annotations: list[Annotation]) -> None:
    """Every item and every annotation is there, once."""
    assert counted(project) == Counter(one.id for one in items)
    found = Counter((one.item, one.annotator) for one in project.pull(KEY).annotations)
    assert found == Counter((one.item, one.annotator) for one in annotations)


def test_changed_items_are_updated_and_annotations_stay(
    studio: Studio, texts: Schema, title: str, tmp_path: Path
) -> None:
    project = Project(studio, texts, title)
    first = [item("kept"), item("new words"[:3]), item("longer"), item("draft"), item("free")]
    assert project.push(first, annotations=[said("new"), said("longer")]).tasks == 5
    before = {task.item: task for task in project.tasks()}
    studio.send("drafting", f"api/tasks/{before['draft'].number}/drafts", {"result": [], "lead_time": 1})
    column = {"Experts": "[ana]", "Item": "new", "Fps": 0.0, "dialogue": [{"speaker": "a", "text": "old"}] * 2}
    studio.client.tasks.update(id=str(before["new"].number), data=column)
    second = [
        item("kept"), item("new", "other", "words"), item("longer", "1", "2", "3"), item("draft", "1"),
        item("free", "1", "2", "3"), item("added"),
    ]  # fmt: skip
    bad = BadSamples()
    pushed = project.push(second, bad=bad)
    assert (pushed.tasks, pushed.updated, pushed.tasks_before, pushed.refused) == (1, 2, 1, 2)
    assert sorted(str(error).split(":")[0] for error in bad) == ["draft", "longer"]
    assert all("is annotated with 2 turns and now has" in str(error) for error in bad)
    (number,) = project.numbers
    after = {raw["data"]["Item"]: raw for raw in read_tasks(studio, number, ("id", "data", "meta"))}
    assert [turn["text"] for turn in after["new"]["data"]["dialogue"]] == ["other", "words"]
    assert after["new"]["data"]["Experts"] == "[ana]", "a column that somebody else added stays"
    assert len(after["free"]["data"]["dialogue"]) == 3
    assert len(after["longer"]["data"]["dialogue"]) == 2
    assert {task.item: task.number for task in project.tasks() if task.item != "added"} == {
        name: task.number for name, task in before.items()
    }
    assert [a["id"] for t in project.tasks() for a in t.annotations] == [
        a["id"] for t in before.values() for a in t.annotations
    ]
    again = project.push([one for one in second if one.id not in ("draft", "longer")])
    assert (again.tasks, again.updated, again.tasks_before) == (0, 0, 4)


def test_a_media_file_that_changed_is_pushed_anew(
    studio: Studio, server: LocalServer, pride: Schema, items: list[Item], title: str, tmp_path: Path
) -> None:
    sound = next(one for one in items if one.id == "sound")
    given = sound.inputs["audio"]
    assert isinstance(given, Media)
    copy = tmp_path / "voice.flac"
    copy.write_bytes(Path(given.path).read_bytes())
    moved = sound.model_copy(update={"inputs": {**sound.inputs, "audio": Media(path=str(copy))}})
    project = Project(studio, pride, title)
    assert project.push([moved], server.media_root).tasks == 1
    assert project.push([moved], server.media_root).tasks_before == 1
    os.utime(copy, (1, 1))
    assert project.push([moved], server.media_root).updated == 1
    copy.unlink()
    bad = BadSamples()
    assert project.push([moved], server.media_root, bad=bad).updated == 0
    assert "sound: audio: no file" in str(next(iter(bad)))


def test_a_thousand_items_take_a_few_calls_and_come_one_by_one(studio: Studio, texts: Schema, title: str) -> None:
    asked = 0
    ticks: list[tuple[int, int | None]] = []

    def stream() -> Iterator[Item]:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield item(f"i-{number:04d}")

    sent: list[int] = []
    project = Project(studio, texts, title)
    send = Studio.send

    class Counting(Studio):
        def send(self, doing: str, path: str, body: Any, **params: Any) -> Any:
            sent.append(asked)
            return send(self, doing, path, body, **params)

    project.studio = Counting(studio.url, studio.client)
    project.push(stream(), progress=lambda done, total=None, note="": ticks.append((done, total)), total=1000)
    assert len(sent) <= 5
    assert sent[0] < 600, "the first bulk goes before the second is made"
    assert ticks[-1] == (1000, 1000)


@pytest.mark.slow
def test_a_server_killed_in_the_middle(copied: Path, texts: Schema, title: str, tmp_path: Path) -> None:
    items = [item(f"i-{number:04d}") for number in range(2000)]
    annotations = [said(one.id) for one in items[::4]]
    out = tmp_path / "a.jsonl"

    def killing(server: LocalServer, at: int, after: float) -> Callable[..., None]:
        pid = server.pid
        assert pid is not None
        timers: list[threading.Timer] = []

        def tick(done: int, total: int | None = None, note: str = "") -> None:
            if done >= at and not timers:
                timers.append(threading.Timer(after, os.killpg, (pid, signal.SIGKILL)))
                timers[0].start()

        return tick

    with LocalServer(copied, 0) as server:
        project = Project(connect(server.url, server.credentials.token), texts, title)
        with pytest.raises(UserError, match=r"stopped answering|No Label Studio answers"):
            project.push(items, annotations=annotations, progress=killing(server, 1001, 0.15))
    with LocalServer(copied, 0) as server:
        project = Project(connect(server.url, server.credentials.token), texts, title)
        some = sum(counted(project).values())
        assert 0 < some < len(items)
        assert some % 500 == 0, "a bulk is there whole or not at all"
        pushed = project.push(items, annotations=annotations)
        assert (pushed.tasks, pushed.tasks_before) == (len(items) - some, some)
        once(project, items, annotations)
        with pytest.raises(UserError, match=r"stopped answering|No Label Studio answers"):
            pull_file(project, KEY, out, progress=killing(server, 400, 0.0))
        assert list(tmp_path.glob("a.*")) == [], "nothing that looks whole"
    with LocalServer(copied, 0) as server:
        project = Project(connect(server.url, server.credentials.token), texts, title)
        pull_file(project, KEY, out)
        assert [one.item for one in read_table(out, texts)] == [one.item for one in annotations]


@pytest.mark.slow
def test_a_client_killed_in_the_middle(
    studio: Studio, server: LocalServer, texts: Schema, title: str, tmp_path: Path
) -> None:
    items = [item(f"i-{number:04d}") for number in range(600)]
    annotations = [said(one.id) for one in items]
    write_records(tmp_path / "items.jsonl", items)
    write_records(tmp_path / "given.jsonl", annotations)
    where = ["--data-dir", str(server.data_dir), "--project", title, "--schema", texts.name]
    pride = [sys.executable, "-c", "from pipelines.cli import main; main()", "label"]
    push = [*pride, "push", "items.jsonl", "--annotations", "given.jsonl", *where]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}

    def started(command: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    client = started(push)
    project = Project(studio, texts, title)
    while client.poll() is None and not project.numbers:
        time.sleep(0.05)
    time.sleep(0.4)
    client.kill()
    client.wait()
    assert client.returncode == -signal.SIGKILL
    pushed = project.push(items, annotations=annotations)  # at once: what the dead client sent may still be on its way
    assert pushed.tasks + pushed.tasks_before == len(items)
    once(project, items, annotations)
    pull = [*pride, "pull", *where]
    client = started(pull)
    time.sleep(1.5)
    client.kill()
    client.wait()
    assert not (tmp_path / "annotations.jsonl").exists() or client.returncode == 0
    assert started(pull).wait() == 0
    assert sum(1 for _ in read_table(tmp_path / "annotations.jsonl", texts)) == len(items)


@contextmanager
def between(server: LocalServer, answer: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy before the server that fails on bulks: it cuts the answer off, is late with it, or loses the question."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            bulk = self.command == "POST" and self.path.split("?")[0].endswith("/import")
            if bulk:
                asked.append(self.path)
                if answer == "lost":
                    self._reply(502, b"<html>Bad gateway</html>")
                    return
                if answer == "late":
                    time.sleep(2.5)
            upstream = http.client.HTTPConnection(HOST, server.port)
            headers = {name: v for name, v in self.headers.items() if name.lower() not in ("host", "connection")}
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            content = response.read()
            if bulk and answer == "cut":
                self.close_connection = True
                return
            if bulk and answer == "504":
                self._reply(504, b"<html>Gateway time-out</html>")
                return
            self._reply(response.status, content, response.getheader("content-type") or "text/plain")

        def _reply(self, status: int, content: bytes, kind: str = "text/html") -> None:
            try:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # whoever asked has given up

        do_GET = do_POST = _pass  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{proxy.server_port}", asked
        proxy.shutdown()


@pytest.mark.parametrize("answer", ["cut", "504", "late"])
def test_a_bulk_without_an_answer_is_looked_for_and_not_sent_again(
    server: LocalServer, texts: Schema, title: str, answer: str
) -> None:
    items = [item(f"i-{number}") for number in range(600)]
    annotations = [said(one.id) for one in items[:20]]
    with between(server, answer) as (url, asked):
        studio = connect(url, server.credentials.token, timeout=2 if answer == "late" else 60)
        project = Project(studio, texts, title)
        pushed = project.push(items, annotations=annotations)
        assert (pushed.tasks, pushed.annotations, len(asked)) == (600, 20, 2)
    once(Project(connect(server.url, server.credentials.token), texts, title), items, annotations)


def test_a_bulk_that_never_arrived_is_said(
    server: LocalServer, texts: Schema, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "_PATIENCE", (0.0, 0.1))
    with between(server, "lost") as (url, asked):
        project = Project(connect(url, server.credentials.token), texts, title)
        with pytest.raises(UserError, match="HTTP 502"):
            project.push([item("i")])
        assert len(asked) == 1
    assert not counted(Project(connect(server.url, server.credentials.token), texts, title))


def test_what_two_pushes_send_at_once_is_there_once(studio: Studio, texts: Schema, title: str) -> None:
    """What a killed push had sent arrives after the next one has listed: here a second push, while the first sends."""
    items = [item(f"i-{number}") for number in range(100)]
    annotations = [said(one.id) for one in items]
    project = Project(studio, texts, title)
    project.push(items[:10])

    def stream() -> Iterator[Item]:
        yield from items[:80]
        assert Project(studio, texts, title).push(items[50:70], annotations=annotations[50:60]).tasks == 20
        yield from items[80:]

    pushed = project.push(stream(), annotations=annotations)
    assert (pushed.tasks, pushed.tasks_before) == (70, 30)
    assert (pushed.annotations, pushed.annotations_before) == (90, 10)
    once(project, items, annotations)


def test_an_item_that_is_there_twice_is_named(studio: Studio, texts: Schema, title: str) -> None:
    project = Project(studio, texts, title)
    project.push([item("i")])
    talk = [{"speaker": "a", "text": "b"}]
    again = {"data": {"Item": "i", "Fps": 0.0, "dialogue": talk}}
    studio.client.projects.import_tasks(id=project.numbers[0], request=[again, {"data": {**again["data"], "Item": 3}}])
    bad = BadSamples()
    assert project.push([item("i")], bad=bad).tasks_before == 1
    (error,) = bad
    assert "i: is there twice, as tasks" in str(error)
    assert json.dumps(talk) not in str(error)
