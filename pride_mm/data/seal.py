"""Tars of notes that only a key opens: every member sealed for itself, so that a tar is read as any other.

A sealed tar is a tar: the same keys in the same order, the same index, read by ranges and gone on with after a stop.
What lies in its members is AES-256-SIV (RFC 5297) of the note, padded to whole blocks of the tar, with the sample's key
and the member's name as associated data. SIV needs no nonce: the same note under the same key is the same bytes, so a
set that is packed again is the same again. A byte that was changed, and a member that was put in another's place, are
found when they are opened.

What stays readable: the keys of samples, the names of fields, each note's length in steps of 512 bytes, and that a note
is the same as in an older copy under the same key. An older copy of a whole member is not told from a newer one here;
the manifest's SHA-256 tells, and `pride check` compares it. The key is in the environment only, written nowhere.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field as Setting

from pride_mm.errors import SampleError, UserError
from pride_mm.fields import Frozen

NOTES_KEY = "PRIDE_NOTES_KEY"
_TAG, _BLOCK, _PAD = 16, 512, b"\x80"
_DIGITS = re.compile(r"[0-9a-fA-F]{64}")
_MAKE = "`openssl rand -hex 32` makes one"


class Sealing(Frozen):
    """How the notes of a set are sealed: by what, and by which key, of which this is a name and no part."""

    format: Literal[1] = 1
    cipher: Literal["AES-256-SIV"] = "AES-256-SIV"
    key: Annotated[str, Setting(pattern=r"^[0-9a-f]{16}$")]


class Seal:
    """One key, ready to seal and to open.

    Args:
        key: 32 bytes from a random source.

    Attributes:
        about: what a manifest keeps of it.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError(f"a key has 32 bytes, not {len(key)}")
        self._key, self._cipher = key, AESSIV(_derived(key, b"members", 64))
        self.about = Sealing(key=_derived(key, b"name", 8).hex())

    def __reduce__(self) -> tuple[type["Seal"], tuple[bytes]]:
        return type(self), (self._key,)

    def seal(self, key: str, members: Mapping[str, bytes]) -> dict[str, bytes]:
        """The members of a sample, sealed: each by its suffix."""
        return {suffix: self._cipher.encrypt(_padded(data), _bound(key, suffix)) for suffix, data in members.items()}

    def open(self, tar: str, key: str, members: Mapping[str, bytes]) -> dict[str, bytes]:
        """What ``seal`` was given; raises SampleError with tar, key and field where a member is not what it made."""
        opened = {}
        for suffix, data in members.items():
            try:
                opened[suffix] = self._cipher.decrypt(data, _bound(key, suffix)).rstrip(b"\0")[:-1]
            except (InvalidTag, ValueError):
                reason = "the key doesn't open it: it was changed since it was encrypted, or belongs elsewhere"
                raise SampleError(f"{tar}: {key}", suffix.split(".")[1], reason) from None
        return opened


def _derived(key: bytes, use: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=b"pride-mm notes 1 " + use).derive(key)


def _bound(key: str, suffix: str) -> list[bytes]:
    return [key.encode(), suffix.encode()]


def _padded(data: bytes) -> bytes:
    """With the tag as many whole blocks as the tar gives it anyway: no length tells one choice from another."""
    marked = data + _PAD
    return marked + bytes(-(len(marked) + _TAG) % _BLOCK)


def can_open(about: Sealing | None, place: str) -> bool:
    """Whether notes can be read: they aren't sealed, or the key is here. Raises UserError where another one is."""
    return about is None or (bool(os.environ.get(NOTES_KEY)) and seal_of(about, place).about == about)


def new_seal() -> Seal:
    """The seal of the key in the environment; raises UserError where there is none, or it is none."""
    given = os.environ.get(NOTES_KEY, "")
    if not given:
        raise UserError(f"There is no key to encrypt notes with: put one into {NOTES_KEY}; {_MAKE}. Keep it safe.")
    return _seal(given)


def seal_of(about: Sealing, place: str) -> Seal:
    """The seal that opens the notes of a set.

    Args:
        about: as its manifest has it.
        place: of the set, for messages.

    Raises:
        UserError: the environment has no key, or another one.
    """
    given = os.environ.get(NOTES_KEY, "")
    if not given:
        raise UserError(
            f"The notes of {place} are encrypted: put the key '{about.key}' into {NOTES_KEY}; who packed them has it."
        )
    seal = _seal(given)
    if seal.about != about:
        raise UserError(
            f"The notes of {place} were encrypted with the key '{about.key}', and {NOTES_KEY} holds "
            f"'{seal.about.key}': put the right one there."
        )
    return seal


@lru_cache(maxsize=4)
def _seal(given: str) -> Seal:
    if not _DIGITS.fullmatch(given):
        raise UserError(f"{NOTES_KEY} holds no key: it takes 64 hexadecimal digits, not {len(given)} characters.")
    return Seal(bytes.fromhex(given))
