import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from annotate.server import local as server_module
from annotate.server.credentials import Credentials, ensure_credentials, pseudonym_key, read_credentials
from annotate.server.local import HOST, LocalServer, ask, environment, find_command, free_port
from annotate.studio import connect
from pride_mm.errors import UserError

ROOT = Path(__file__).parents[3]
MADE_UP = Credentials(url="http://127.0.0.1:1", password="p" * 12, token="a" * 40)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_read_by_their_owner_only(tmp_path: Path) -> None:
    first = ensure_credentials(tmp_path / "ls", "http://127.0.0.1:8080")
    key = pseudonym_key(tmp_path / "ls")
    assert {mode(path) for path in (tmp_path / "ls").iterdir()} == {0o600}
    again = ensure_credentials(tmp_path / "ls", "http://127.0.0.1:9090")
    assert (again.token, again.password, again.url) == (first.token, first.password, "http://127.0.0.1:9090")
    assert read_credentials(tmp_path / "ls") == again
    assert pseudonym_key(tmp_path / "ls") == key
    assert first.token not in f"{first} {first!r}"


def test_nothing_of_ours_reaches_the_server_but_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECT_ANALYTICS", "true")
    monkeypatch.setenv("PORT", "1")
    given = environment(tmp_path, MADE_UP)
    assert given["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"
    assert given["LABEL_STUDIO_LATEST_VERSION_CHECK"] == "false"
    assert given["LABEL_STUDIO_SENTRY_DSN"] == given["LABEL_STUDIO_FRONTEND_SENTRY_DSN"] == ""
    assert given["HTTPS_PROXY"] == given["HTTP_PROXY"] == "http://127.0.0.1:9"
    assert given["HOME"].startswith(str(tmp_path))
    assert not {"COLLECT_ANALYTICS", "PORT"} & set(given)


def test_without_label_studio_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_COMMAND", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server_module, "__file__", str(tmp_path / "site-packages" / "annotate" / "server" / "local.py"))
    with pytest.raises(UserError, match=r"not installed.*make setup.*LABEL_STUDIO_COMMAND"):
        find_command()
    monkeypatch.setenv("LABEL_STUDIO_COMMAND", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"No program '.*nowhere'.*make setup"):
        LocalServer(tmp_path / "ls", 0).start()
    assert not (tmp_path / "ls").exists()


def test_a_command_that_ends_at_once_is_named_and_leaves_nothing_running(tmp_path: Path) -> None:
    false = shutil.which("false")
    with pytest.raises(UserError, match=r"could not start \(exit code 1\).*server.log"):
        LocalServer(tmp_path / "ls", 0, command=false).start()
    with pytest.raises(UserError, match="could not start"):
        LocalServer(tmp_path / "ls", 0, command=false).start()  # the lock was given back


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"Port {port} is taken.*--port"):
            LocalServer(tmp_path / "ls", port, command=shutil.which("true")).start()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "No Label Studio answers at http://127.0.0.1:9"),
        ("127.0.0.1:8080", "is not an address"),
        ("http://[", "is not an address"),
    ],
)
def test_a_server_that_is_not_there_is_one_line(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("[", r"\[")) as caught:
        connect(url, "a" * 40)
    assert "\n" not in str(caught.value)


def test_another_server_is_told_from_label_studio(tmp_path: Path) -> None:
    import http.server
    import threading

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer((HOST, 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="is not Label Studio"):
            connect(f"http://{HOST}:{other.server_port}", "a" * 40)
        other.shutdown()


@pytest.mark.label_studio
def test_the_running_server_sends_nothing_out_and_keeps_to_itself(server: LocalServer) -> None:
    assert server.pid is not None
    running = dict(
        line.split("=", 1) for line in Path(f"/proc/{server.pid}/environ").read_text().split("\0") if "=" in line
    )
    wanted = environment(server.data_dir, server.credentials)
    assert {name: running.get(name) for name in wanted} == wanted
    for path in ("server.log", "credentials.json", "studio/label_studio.sqlite3"):
        assert mode(server.data_dir / path) == 0o600
    assert mode(server.data_dir) == 0o700
    assert server.credentials.token not in server.log.read_text()


@pytest.mark.label_studio
def test_a_wrong_token_is_one_line_without_headers(server: LocalServer) -> None:
    with pytest.raises(UserError, match="refuses the token") as caught:
        connect(server.url, "b" * 40)
    assert "\n" not in str(caught.value)
    assert "cookie" not in str(caught.value)
    with pytest.raises(UserError, match="token"):
        connect(server.url, "not a tökén\n")


@pytest.mark.label_studio
def test_a_second_server_on_the_same_data_or_port_is_refused(server: LocalServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"already runs on .*process {server.pid}"):
        LocalServer(server.data_dir, 0).start()
    with pytest.raises(UserError, match=rf"Port {server.port} is taken"):
        LocalServer(tmp_path / "ls", server.port).start()
    assert ask(server.port, "/health")[0] == 200


@pytest.mark.label_studio
def test_only_the_media_folder_is_served(server: LocalServer, studio: object) -> None:
    (server.media_root / "open").mkdir(exist_ok=True)
    (server.media_root / "open" / "a.txt").write_text("not shared by any project")
    token = server.credentials.token
    for path in ("../credentials.json", "open/../../credentials.json", "/etc/passwd", "%2e%2e/credentials.json"):
        status, body = ask(server.port, f"/data/local-files/?d={path}", token)
        assert status != 200, path
        assert server.credentials.token.encode() not in body
    assert ask(server.port, "/data/local-files/?d=open/a.txt", token)[0] == 404
    assert not [path for path in server.media_root.rglob("*") if path.is_symlink()]


@pytest.mark.label_studio
def test_it_stops_and_starts_again_with_what_it_had(copied: Path) -> None:
    with LocalServer(copied, 0) as first:
        pid, port, token = first.pid, first.port, first.credentials.token
        assert pid is not None
        gone = connect(first.url, token)
    assert ask(port, "/health")[0] == 0
    with pytest.raises(UserError, match=r"No Label Studio answers at .* \(listing\)"):
        gone.call("listing", gone.client.users.list)
    assert first.pid is None
    assert not alive(pid)
    open_to_others = [path for path in copied.rglob("*") if path.is_file() and mode(path) & 0o077]
    assert not open_to_others
    with LocalServer(copied, port) as again:
        assert again.credentials.token == token
        connect(again.url, token)
    (copied / "credentials.json").unlink()
    with pytest.raises(UserError, match="does not know the token"):
        LocalServer(copied, 0).start()
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"--port {port}" not in left


@pytest.mark.label_studio
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_however_the_command_ends(copied: Path, sign: signal.Signals) -> None:
    """Of ``pride label serve`` itself; killed outright, the shell that waits for its end stops the server."""
    port = free_port()
    pride = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.cli import main; main()", "label", "serve", "--data-dir", copied,
         "--port", str(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert pride.stdout is not None
        for line in pride.stdout:
            if "stop it with Ctrl-C" in line:
                break
        server_pid = int((copied / "server.lock").read_text())
        assert alive(server_pid)
        pride.send_signal(sign)
        rest = pride.communicate(timeout=30)[0]
    finally:
        pride.kill()
    within(20, lambda: not alive(server_pid))
    assert ask(port, "/health")[0] == 0
    if sign is not signal.SIGKILL:
        assert pride.returncode == 0
        assert "everything is kept" in rest
    within(5, lambda: not children_named("read -r line", server_pid))
    with (copied / "server.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def children_named(words: str, last: int) -> list[str]:
    """Running commands that hold ``words`` and end with the number ``last``."""
    listed = subprocess.run(["ps", "-eo", "args", "ww"], capture_output=True, text=True, check=True).stdout
    return [listed] if words in listed and f" {last}\n" in listed else []


def within(seconds: float, true: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
