"""That the server speaks to nobody outside: every connection and every request that it makes is recorded while it is
used, by a hook of Python's own (``sys.addaudithook``) inside its process and those it starts."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from annotate.exchange.project import Project
from annotate.server import local as server_module
from annotate.server.local import HOST, LocalServer, ask, environment
from annotate.studio import connect
from pride_mm.records import Annotation, Item
from pride_mm.schema import Schema, Turn
from tests.browser import chromium

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]

SAID = "confidential words of a note"
RECORDER = """
import json, os, sys
path = os.environ["PRIDE_RECORD"]
def record(event, args):
    if event == "socket.connect":
        what = args[1]
    elif event == "socket.sendto":
        what = args[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        what = args[0]
    elif event == "http.client.send":
        what = bytes(args[1])[:80].decode("latin-1").partition("\\r\\n")[0]
    elif event == "subprocess.Popen":
        what = [str(part) for part in args[1]]
    else:
        return
    what = what.decode("latin-1") if isinstance(what, bytes) else what
    line = json.dumps([event, what]) + "\\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)
sys.addaudithook(record)
"""


class Proxy:
    """In place of the proxy that does not exist: notes which hosts are asked for, and hangs up."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listening.getsockname()[1]}"
        self.asked: list[str] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                caller = self._listening.accept()[0]
                with caller, suppress(OSError):
                    caller.settimeout(5)
                    self.asked.append(caller.recv(200).decode("latin-1").partition("\r\n")[0])

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@contextmanager
def recorded(folder: Path, changed: dict[str, str]) -> Iterator[tuple[LocalServer, Path, Proxy]]:
    """A server with the recorder in it, and the file of what it did; ``changed`` goes into its environment."""
    hook, record, proxy = folder.parent / "hook", folder.parent / "record.jsonl", Proxy()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(RECORDER)
    more = {"PYTHONPATH": str(hook), "PRIDE_RECORD": str(record), **changed}
    more |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy.url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "environment", lambda *given: {**environment(*given), **more})
        with LocalServer(folder, 0) as running:
            yield running, record, proxy
    proxy.close()


def seen(record: Path, *events: str) -> list:
    return [what for event, what in map(json.loads, record.read_text().splitlines()) if event in events]


@pytest.fixture
def words() -> list[Item]:
    talk = (Turn(speaker="a", text=SAID),)
    return [Item(id="i-1", corpus="t", group="g", inputs={}).model_copy(update={"inputs": {"dialogue": talk}})]


def use(server: LocalServer, schema: Schema, items: list[Item]) -> None:
    """Push items, annotate, read back, and open the pages that a person opens."""
    studio = connect(server.url, server.credentials.token)
    project = Project(studio, schema, f"T {uuid.uuid4().hex[:8]}")
    given = Annotation.model_validate({"item": items[0].id, "annotator": "a", "values": {}})
    project.push(items, server.media_root, [given.model_copy(update={"values": {"situation": SAID}})])
    assert project.pull(b"k" * 32).annotations[0].values["situation"] == SAID
    number = project.addresses[0].split("/")[-2]
    for path in ("/user/login/", "/projects/", f"/projects/{number}/data", "/heidi-tips", "/api/version"):
        assert ask(server.port, path, server.credentials.token)[0] in (200, 302, 404), path


def outside(address: object) -> bool:
    return not (isinstance(address, list) and address[0] in ("127.0.0.1", "::1", "localhost"))


def test_the_server_speaks_to_nobody_outside(copied: Path, pride: Schema, words: list[Item]) -> None:
    with recorded(copied, {}) as (server, record, proxy):
        use(server, pride, words)
        visit(server)
        time.sleep(1)
    connected = seen(record, "socket.connect", "socket.sendto")
    assert ["127.0.0.1", 6379] in connected, "the recorder works: the server looks for a redis when it starts"
    assert not [address for address in connected if outside(address)]
    looked_up = {str(name) for name in seen(record, "socket.getaddrinfo", "socket.gethostbyname")}
    assert looked_up <= {"127.0.0.1", "localhost", "::1", "None", socket.gethostname()}
    # the one thing without a switch: tips for its pages, without a word of ours; in earnest the proxy isn't there
    assert {line.split()[1] for line in proxy.asked} <= {"raw.githubusercontent.com:443"}
    assert SAID not in server.log.read_text()
    assert server.credentials.token not in server.log.read_text()


def test_with_its_makers_defaults_the_telemetry_is_seen(copied: Path, pride: Schema, words: list[Item]) -> None:
    """The positive control: the same use, and the same two recorders, without the settings that we make."""
    with recorded(copied, {"LABEL_STUDIO_COLLECT_ANALYTICS": "true"}) as (server, _, proxy):
        use(server, pride, words)
        deadline = time.monotonic() + 20
        while "CONNECT tele.labelstud.io:443 HTTP/1.0" not in {line.replace("1.1", "1.0") for line in proxy.asked}:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def visit(server: LocalServer) -> None:
    """Open the pages in a browser, where there is one, and see that they ask nobody else either."""
    found = chromium()
    if not found:
        return
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server.url}/user/login/")
        page.fill("input[name=email]", server.credentials.email)
        page.fill("input[name=password]", server.credentials.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        page.goto(f"{server.url}/projects/")
        page.wait_for_timeout(2000)
        browser.close()
    others = [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
    assert asked
    assert not others
