"""Where a server of one's own keeps its tasks: SQLite in its data folder, or a PostgreSQL that is there.

The data folder remembers the database that it was first started with, without the password: a folder whose
tasks are in one database never starts on another, which would look as if all work were lost.
"""

import json
import os
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from annotate.server.credentials import write_secret
from pride_mm.errors import UserError
from pride_mm.schema import Frozen

_REMEMBERED = "database.json"
_SQLITE = Path("studio") / "label_studio.sqlite3"
_FORM = "give postgresql://USER@HOST:PORT/NAME, and the password in PGPASSWORD"
_PATIENCE = 20  # seconds that the database has for an answer
_NO_DRIVER, _NO_TRIGRAMS = 3, 4
_PROBE = f"""
import sys
try:
    import psycopg as driver
except ImportError:
    try:
        import psycopg2 as driver
    except ImportError:
        sys.exit({_NO_DRIVER})
try:
    with driver.connect("") as connection, connection.cursor() as cursor:
        cursor.execute("select 1 from pg_available_extensions where name = 'pg_trgm'")
        sys.exit(0 if cursor.fetchone() else {_NO_TRIGRAMS})
except driver.Error as error:
    sys.exit(" ".join(str(error).split()) or "refused")
"""


class Database(Frozen):
    """A PostgreSQL database; ``host`` that begins with a slash is the folder of its socket. Holds no password."""

    user: str
    host: str
    port: int
    name: str

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"postgresql://{self.user}@/{self.name}?host={self.host}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{self.user}@{host}:{self.port}/{self.name}"

    def environment(self, password: str) -> dict[str, str]:
        """What Label Studio reads, without its prefix."""
        return {
            "DJANGO_DB": "default",
            "POSTGRE_USER": self.user,
            "POSTGRE_PASSWORD": password,
            "POSTGRE_HOST": self.host,
            "POSTGRE_PORT": str(self.port),
            "POSTGRE_NAME": self.name,
        }


def parse_database(url: str) -> tuple[Database, str]:
    """The database of a URL, and its password (from the URL, else PGPASSWORD, else empty).

    Raises:
        UserError: it is no address of a PostgreSQL; the message holds nothing of what was given.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        query = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        host, port = query.pop("host", parts.hostname or ""), int(query.pop("port", parts.port or 5432))
    except ValueError:
        raise UserError(f"That is no address of a database; {_FORM}.") from None
    user, name = urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.path.lstrip("/"))
    if parts.scheme not in ("postgresql", "postgres") or not (user and host and name) or query:
        raise UserError(f"That is no address of a PostgreSQL that a server here can use; {_FORM}.")
    password = urllib.parse.unquote(parts.password or "") or os.environ.get("PGPASSWORD", "")
    return Database(user=user, host=host, port=port, name=name), password


def chosen_database(data_dir: Path, url: str | None) -> tuple[Database, str] | None:
    """The database of ``data_dir`` with its password, None for SQLite; one given by ``url`` must be the same.

    Raises:
        UserError: the folder's tasks are in another database, or its note of that cannot be read.
    """
    given = parse_database(url) if url else None
    path = data_dir / _REMEMBERED
    if path.exists():
        try:
            known = Database.model_validate(json.loads(path.read_text()))
        except (ValueError, ValidationError):
            raise UserError(f"{path} is not what 'pride label serve' wrote; restore it.") from None
        if given and given[0] != known:
            raise UserError(f"The tasks of {data_dir} are in {known}: give that, or another --data-dir.")
        return given or (known, os.environ.get("PGPASSWORD", ""))
    if given and (data_dir / _SQLITE).exists():
        raise UserError(f"The tasks of {data_dir} are in its own SQLite: leave --database out, or give another folder.")
    return given


def remember_database(data_dir: Path, database: Database) -> None:
    """Note in ``data_dir`` where its tasks are."""
    write_secret(data_dir / _REMEMBERED, database.model_dump_json(indent=2) + "\n")


def require_database(command: Path, database: Database, password: str, environment: Mapping[str, str]) -> None:
    """Connect once with Label Studio's own driver; raises UserError with what the database said.

    Args:
        command: the ``label-studio`` program, whose Python is asked.
        database: where.
        password: handed over in the environment, never on a command line.
        environment: the variables to start from.
    """
    python = command.resolve().with_name("python")
    if not python.exists():
        return  # installed in a way we don't know: Label Studio itself will say what is wrong, in its log
    asked = {
        **environment, "PGUSER": database.user, "PGPASSWORD": password, "PGHOST": database.host,
        "PGPORT": str(database.port), "PGDATABASE": database.name, "PGCONNECT_TIMEOUT": "8",
    }  # fmt: skip
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], env=asked, capture_output=True, text=True, timeout=_PATIENCE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(f"No database answers at {database} within {_PATIENCE} s; is it running?") from None
    if done.returncode == _NO_DRIVER:
        raise UserError(
            f"Label Studio's environment has no driver for PostgreSQL: {python} -m pip install 'psycopg[binary]'."
        )
    if done.returncode == _NO_TRIGRAMS:
        raise UserError(
            f"The PostgreSQL at {database} lacks the extension pg_trgm, which Label Studio needs: install it there "
            "(Debian: postgresql-contrib; most hosted ones have it)."
        )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"The database at {database} cannot be used: {said}")
