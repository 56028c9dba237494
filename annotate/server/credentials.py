"""What only the owner of a data folder may read: the server's user and token, and the key of the pseudonyms.

Every file here is made with mode 0600 and appears whole or not at all.
"""

import json
import os
import secrets
from pathlib import Path

from pydantic import ValidationError

from pride_mm.errors import UserError
from pride_mm.schema import Frozen

_CREDENTIALS = "credentials.json"
_KEY = "pseudonyms.key"
OWNER = "owner@pride.invalid"


class Credentials(Frozen):
    """Where a server answers, and the user and token that it was first started with."""

    url: str
    email: str = OWNER
    password: str
    token: str

    def __repr__(self) -> str:
        return f"Credentials(url={self.url!r}, email={self.email!r})"

    __str__ = __repr__


def write_secret(path: Path, text: str) -> None:
    """Write ``text`` so that only its owner can read it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_credentials(data_dir: Path) -> Credentials:
    """The credentials of the server in ``data_dir``; raises UserError where there are none."""
    path = data_dir / _CREDENTIALS
    try:
        return Credentials.model_validate(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"No Label Studio in {data_dir}: start one with 'pride label serve --data-dir {data_dir}', "
            "or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY for a server that exists."
        ) from None
    except (ValueError, ValidationError):
        raise UserError(
            f"{path} is not what 'pride label serve' wrote; restore it, or start afresh elsewhere."
        ) from None


def ensure_credentials(data_dir: Path, url: str) -> Credentials:
    """The credentials of ``data_dir`` at ``url``; user, password and token are made up once and then kept."""
    path = data_dir / _CREDENTIALS
    if path.exists():
        credentials = read_credentials(data_dir).model_copy(update={"url": url})
    else:
        credentials = Credentials(url=url, password=secrets.token_urlsafe(18), token=secrets.token_hex(20))
    write_secret(path, credentials.model_dump_json(indent=2) + "\n")
    return credentials


def pseudonym_key(data_dir: Path) -> bytes:
    """The key that turns the e-mail addresses of annotators into pseudonyms; made once, never part of a record."""
    path = data_dir / _KEY
    if not path.exists():
        write_secret(path, secrets.token_hex(32) + "\n")
    return bytes.fromhex(path.read_text().strip())
