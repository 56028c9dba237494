"""Servers that fail in every way that servers do: one clear line each, and nothing of token or text in it."""

import http.server
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from annotate.studio import Unanswered, connect
from pipelines.cli import run
from pride_mm.errors import UserError
from pride_mm.records import Item, write_records
from pride_mm.schema import Turn

HOST, TOKEN, TEXT = "127.0.0.1", "e" * 40, "CONFIDENTIAL words of a client"
Answer = tuple[int, bytes, str] | None
HTML = f"<!doctype html><html><body>{TEXT} Page not found</body></html>".encode() * 500


def reply(status: int, value: object) -> Answer:
    return status, json.dumps(value).encode(), "application/json"


@contextmanager
def serving(answer: Callable[[str, str], Answer]) -> Iterator[str]:
    """A small server; ``answer`` is given method and path, None cuts the connection."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            given = answer(self.command, self.path.split("?")[0])
            if given is None:
                self.close_connection = True
                return
            status, content, kind = given
            try:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.send_header("set-cookie", "sessionid=SESSION")
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


def fine_until(path: str, then: Callable[[], Answer]) -> Callable[[str, str], Answer]:
    """Answers like Label Studio up to the requests for ``path``."""

    def answer(method: str, asked: str) -> Answer:
        if path in asked:
            return then()
        if "whoami" in asked:
            return reply(200, {"id": 1, "email": "a@example.com"})
        if asked.startswith("/api/users"):
            return reply(200, [{"id": 1, "email": "a@example.com", "first_name": "", "last_name": ""}])
        if method == "POST" and asked.startswith("/api/projects"):
            return reply(201, {"id": 3, "title": "x", "label_config": "<View/>"})
        if asked.startswith("/api/projects"):
            return reply(200, {"count": 0, "next": None, "previous": None, "results": []})
        return reply(200, {"tasks": [], "total": 0, "total_annotations": 0, "total_predictions": 0})

    return answer


def slow() -> Answer:
    time.sleep(3)
    return None


FAILURES: dict[str, tuple[Callable[[], Answer], str]] = {
    "a wrong token": (lambda: reply(401, {"detail": f"Invalid token. {TOKEN}"}), "refuses the token"),
    "no permission": (lambda: reply(403, {"detail": TEXT}), "may not do this"),
    "a broken server": (lambda: reply(500, {"detail": TEXT, "exc_info": TEXT}), "failed with HTTP 500"),
    "a page": (lambda: (404, HTML, "text/html"), r"is not Label Studio|has not what was asked for"),
    "a page that is fine": (lambda: (200, HTML, "text/html"), "is not Label Studio"),
    "a refusal that echoes": (lambda: reply(400, {"validation_errors": [TEXT]}), "failed with HTTP 400"),
    "a cut connection": (lambda: None, "stopped answering"),
    "half of an answer": (lambda: (200, b'{"id": 1, "ema', "application/json"), "is not Label Studio"),
    "no answer": (slow, "stopped answering"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("path", ["whoami", "/api/projects", "/import"])
def test_a_failure_is_one_line_without_token_or_text(
    failure: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from annotate import studio
    from annotate.exchange import pushing

    monkeypatch.setattr(pushing, "_PATIENCE", (0.0,))
    monkeypatch.setattr(studio, "TIMEOUT", 0.5)
    monkeypatch.chdir(tmp_path)
    talk = (Turn(speaker="a", text=TEXT),)
    item = Item(id="i", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"dialogue": talk}})
    write_records(Path("items.jsonl"), [item])
    then, said = FAILURES[failure]
    with serving(fine_until(path, then)) as url:
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        assert run(["label", "push", "items.jsonl", "--schema", "empathetic_dialogues"]) == 2
    shown = capsys.readouterr()
    line = shown.err.strip()
    assert "\n" not in line
    assert re.search(said, line), line
    assert len(line) < 400
    for secret in (TOKEN, TEXT, "SESSION", "sessionid", "Traceback"):
        assert secret not in shown.out + shown.err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "No Label Studio answers at http://127.0.0.1:9"),
        ("http://nowhere.invalid", "nowhere.invalid"),
        ("127.0.0.1:8080", "is not an address"),
        ("ftp://127.0.0.1", "is not an address"),
        ("", "is not an address"),
    ],
)
def test_a_wrong_address_is_one_line(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LABEL_STUDIO_URL", url or " ")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    assert run(["label", "pull"]) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert TOKEN not in line


def test_what_may_have_arrived_is_told_from_what_was_refused() -> None:
    with serving(fine_until("/import", lambda: reply(500, {}))) as url:
        studio = connect(url, TOKEN)
        with pytest.raises(Unanswered):
            studio.send("sending", "api/projects/1/import", [])
    with serving(fine_until("/import", lambda: reply(400, {}))) as url:
        studio = connect(url, TOKEN)
        with pytest.raises(UserError) as caught:
            studio.send("sending", "api/projects/1/import", [])
        assert not isinstance(caught.value, Unanswered)


def test_writes_are_sent_once() -> None:
    asked: list[str] = []

    def answer(method: str, path: str) -> Answer:
        if method == "POST":
            asked.append(path)
            return reply(503, {})
        return fine_until("nothing", lambda: None)(method, path)

    with serving(answer) as url:
        studio = connect(url, TOKEN)
        for send in (
            lambda: studio.send("sending", "api/projects/1/import", []),
            lambda: studio.call("making", studio.client.projects.create, title="x", label_config="<View/>"),
            lambda: studio.call("adding", studio.client.annotations.create, id=1, result=[]),
        ):
            with pytest.raises(UserError):
                send()
    assert len(asked) == 3
