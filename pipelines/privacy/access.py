"""Who may read a file of this machine, as its permissions and those of the folders above it say."""

import grp
import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Access:
    """A file that holds notes.

    Attributes:
        name: as people call it.
        mode: as ``ls -l`` writes it; empty where the place doesn't say.
        readers: who may read it.
        others: whether anybody on the machine may.
        encrypted: whether it is of use only with a key.
    """

    name: str
    mode: str
    readers: str
    others: bool
    encrypted: bool

    @property
    def open(self) -> bool:
        """Whether anybody may read the notes in it."""
        return self.others and not self.encrypted


def access(path: Path, encrypted: bool = False) -> Access:
    """Who may read a file; owners of the folders above and access control lists are not looked at."""
    about = path.stat()
    others = _may(about.st_mode, stat.S_IROTH) and _reached(path, stat.S_IXOTH)
    readers = [_user(about.st_uid)]
    if _may(about.st_mode, stat.S_IRGRP) and _reached(path, stat.S_IXGRP | stat.S_IXOTH):
        readers.append(f"group {_group(about.st_gid)}")
    readers += ["everybody"] if others else []
    return Access(str(path), stat.filemode(about.st_mode), ", ".join(readers), others, encrypted)


def elsewhere(name: str, encrypted: bool) -> Access:
    """A file behind a URL: its server knows who may read it."""
    return Access(name, "", "whom the server lets", False, encrypted)


def _may(mode: int, wanted: int) -> bool:
    return bool(mode & wanted)


def _reached(path: Path, wanted: int) -> bool:
    return all(_may(os.stat(folder).st_mode, wanted) for folder in path.resolve().parents)


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)
