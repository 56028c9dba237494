"""A Label Studio of one's own: on loopback, with SQLite or PostgreSQL, without a word to the outside.

Label Studio is started as a program from an environment of its own (its pins exclude torch's). Its
defaults send task and note texts to its makers with every request; ``environment`` turns that off
and sends whatever has no switch to a proxy that does not exist. It runs in a process group of its
own, so that Ctrl-C stops it by our hand, and holds the lock of its data folder as long as it lives. Should
this process be killed, a shell that waits on a pipe of ours stops the server (only the shell's own death
before ours would leave it running).
"""

import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from annotate.page.clips import refuse_links
from annotate.server.credentials import Credentials, ensure_credentials
from annotate.server.database import Database, chosen_database, remember_database, require_database
from pride_mm.errors import UserError
from pride_mm.progress import Progress, silent

HOST = "127.0.0.1"
_FIRST_START = 300.0  # seconds; the first start makes the database, measured at 55 to 72 on two busy cores
_HOW_TO_GET = (
    "Get it with 'make setup' in a checkout, or 'pip install label-studio==1.23.2' in an environment of its own and "
    "LABEL_STUDIO_COMMAND set to its bin/label-studio."
)
# Waits until our end of the pipe closes, then stops the group of the server: first gently, then for good.
_LEASH = """
read -r line
kill -s TERM -- -$0 2>/dev/null || exit 0
for second in 1 2 3 4 5 6 7 8; do sleep 1; kill -s 0 -- -$0 2>/dev/null || exit 0; done
kill -s KILL -- -$0 2>/dev/null
"""
# Webhooks and ML backends may reach loopback and nothing else: every address but 127.0.0.0/8 is banned.
_NOT_LOOPBACK = "0.0.0.0/2,64.0.0.0/3,96.0.0.0/4,112.0.0.0/5,120.0.0.0/6,124.0.0.0/7,126.0.0.0/8,128.0.0.0/1,::/0"


def find_command(command: str | None = None) -> Path:
    """The ``label-studio`` program: the one given, beside the checkout, or on the PATH; raises UserError."""
    given = command or os.environ.get("LABEL_STUDIO_COMMAND")
    if given:
        found = shutil.which(given)
        if not found:
            raise UserError(f"No program '{given}' (from LABEL_STUDIO_COMMAND or --command). {_HOW_TO_GET}")
        return Path(found).absolute()
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        beside = folder / ".venv-label-studio" / "bin" / "label-studio"
        if beside.is_file():
            return beside.absolute()
    found = shutil.which("label-studio")
    if not found:
        raise UserError(f"Label Studio is not installed. {_HOW_TO_GET}")
    return Path(found).absolute()


def environment(
    data_dir: Path, credentials: Credentials, database: tuple[Database, str] | None = None
) -> dict[str, str]:
    """The whole environment of the server: nothing of ours is passed on but the PATH and the language.

    ``database`` comes with its password; None is SQLite in the data folder.
    """
    home = str(data_dir / "home")
    blackhole = f"http://{HOST}:9"
    ours = {
        "BASE_DATA_DIR": str(data_dir / "studio"),
        "USERNAME": credentials.email,
        "PASSWORD": credentials.password,
        "USER_TOKEN": credentials.token,
        "ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(media_root(data_dir)),
        "CORS_ALLOW_ALL_ORIGINS": "false",
        "ALLOWED_HOSTS": f"{HOST},localhost",
        "LS_CSP_REPORT_ONLY": "false",
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": _NOT_LOOPBACK,
        **(database[0].environment(database[1]) if database else {}),
    }
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **kept,
        **{f"LABEL_STUDIO_{name}": value for name, value in ours.items()},
        "HOME": home,
        "XDG_CONFIG_HOME": f"{home}/config",
        "XDG_DATA_HOME": f"{home}/share",
        "XDG_CACHE_HOME": f"{home}/cache",
        "HTTP_PROXY": blackhole,
        "HTTPS_PROXY": blackhole,
        "http_proxy": blackhole,
        "https_proxy": blackhole,
        "NO_PROXY": f"{HOST},localhost",
        "no_proxy": f"{HOST},localhost",
    }


def media_root(data_dir: Path) -> Path:
    """The only folder whose files the server in ``data_dir`` serves."""
    return data_dir.absolute() / "media"


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    # Label Studio itself would silently take the next free port.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise UserError(f"Port {port} needs an administrator; give another with --port, 1024 or above.") from None
        except (OSError, OverflowError):
            raise UserError(_taken(port)) from None
    if answers(port):  # where a port may be bound a second time, by a narrower address
        raise UserError(_taken(port))


def answers(port: int) -> bool:
    """True where somebody takes connections at this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((HOST, port)) == 0


def _taken(port: int) -> str:
    return f"Port {port} is taken; stop what listens there, or give another with --port."


def ask(port: int, path: str, token: str = "") -> tuple[int, bytes]:
    """GET ``path`` from loopback, past every proxy; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Token {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class LocalServer:
    """A Label Studio server as a context manager.

    Args:
        data_dir: where everything of it lives: database, media, log, token, key of the pseudonyms (mode 0700).
        port: of 127.0.0.1; 0 takes any free one.
        command: the ``label-studio`` program; None looks for it as ``find_command`` says.
        progress: called with seconds waited while it starts.
        database: the URL of a PostgreSQL; None is SQLite, or the database that the folder was first started with.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 8080,
        command: str | None = None,
        progress: Progress = silent,
        database: str | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self._given = command
        self._progress = progress
        self._url = database
        self._database: tuple[Database, str] | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def media_root(self) -> Path:
        return media_root(self.data_dir)

    @property
    def log(self) -> Path:
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int | None:
        """The server's process, None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start and wait until it answers as ours; raises UserError with what to do, leaving nothing running."""
        command = find_command(self._given)
        self.port = self.port or free_port()
        _require_free(self.port)
        self._database = chosen_database(self.data_dir, self._url)
        if self._database:
            require_database(command, *self._database, {"PATH": os.environ.get("PATH", os.defpath)})
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)
        self._take_lock()
        try:
            for folder in (self.media_root, self.data_dir / "studio", self.data_dir / "home"):
                folder.mkdir(exist_ok=True, mode=0o700)
            refuse_links(self.media_root)
            self.credentials = ensure_credentials(self.data_dir, self.url)
            self._launch(command)
            self._wait()
            if self._database:
                remember_database(self.data_dir, self._database[0])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and whatever it started; harmless when it does not run."""
        process, self._process = self._process, None
        leash, self._leash = self._leash, None
        if leash is not None:  # first: a group that is gone may be another's soon
            leash.kill()
            leash.wait()
            assert leash.stdin is not None
            leash.stdin.close()
        if process is not None:
            # not SIGINT: whoever is started in the background of a script ignores it
            for sign, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 4.0)):
                try:
                    os.killpg(process.pid, sign)
                    process.wait(patience)
                    break
                except ProcessLookupError:
                    process.wait()
                    break
                except subprocess.TimeoutExpired:
                    continue
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait(self) -> None:
        """Block until the server ends by itself, which is an error; Ctrl-C comes through as KeyboardInterrupt."""
        assert self._process is not None, "start() first"
        code = self._process.wait()
        raise UserError(f"Label Studio stopped by itself (exit code {code}); its last words are in {self.log}.")

    def _take_lock(self) -> None:
        lock = os.fdopen(os.open(self.data_dir / "server.lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            lock.close()
            raise UserError(
                f"A server already runs on {self.data_dir} (process {pid or 'unknown'}): use it, stop it, "
                "or give another --data-dir."
            ) from None
        self._lock = lock

    def _launch(self, command: Path) -> None:
        assert self._lock is not None
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                [command, "start", "--no-browser", "--internal-host", HOST, "--port", str(self.port)],
                env=environment(self.data_dir, self.credentials, self._database),
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                pass_fds=(self._lock.fileno(),),  # the lock lives as long as the server, even if we are killed
            )
        self._leash = subprocess.Popen(
            ["/bin/sh", "-c", _LEASH, str(self._process.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{self._process.pid}\n")
        self._lock.flush()

    def _wait(self) -> None:
        assert self._process is not None
        begin = time.monotonic()
        first = not any((self.data_dir / name).exists() for name in ("studio/label_studio.sqlite3", "database.json"))
        note = "Label Studio starts for the first time, about a minute" if first else "Label Studio starts"
        while ask(self.port, "/health")[0] != 200:
            waited = time.monotonic() - begin
            self._progress(int(waited), None, note)
            if self._process.poll() is not None:
                raise UserError(
                    f"Label Studio could not start (exit code {self._process.returncode}); see the end of {self.log}."
                )
            if waited > _FIRST_START:
                raise UserError(f"Label Studio did not answer in {_FIRST_START:.0f} s; see the end of {self.log}.")
            time.sleep(0.3)
        self._verify()

    def _verify(self) -> None:
        status, body = ask(self.port, "/api/current-user/whoami", self.credentials.token)
        try:
            email = json.loads(body).get("email") if status == 200 else None
        except ValueError:
            email = None
        if email != self.credentials.email:
            raise UserError(
                f"What answers at {self.url} does not know the token in {self.data_dir / 'credentials.json'}: the "
                "database is of another run. Restore that file, or give another --data-dir (or another --database)."
            )
