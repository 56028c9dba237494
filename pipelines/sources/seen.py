"""Names that were met before, on disk rather than in memory, so that a corpus may have any number of them."""

import sqlite3


class Seen:
    """Where each name was first met. Its file has no name and is gone with the process."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("CREATE TABLE seen (name BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def add(self, name: str, place: str) -> str | None:
        """Note a name; where it was met before, None where it is new."""
        key = name.encode("utf-8", "surrogatepass")
        if self._base.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, place)).rowcount:
            return None
        found = self._base.execute("SELECT place FROM seen WHERE name = ?", (key,)).fetchone()
        return str(found[0])
