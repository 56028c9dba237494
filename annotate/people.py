"""Who annotated: users of the server on one side, pseudonyms in our records on the other.

Annotators that we load from records are pseudonyms already. They become users whose address ends in
``ORIGIN.pride.invalid``, so that what a corpus or a model said is told from an expert's word for
ever after. Everybody else is a real person and an expert, whose address is turned into a pseudonym
with a key that stays in the server's data folder.
"""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from annotate.studio import Studio
from pride_mm.errors import UserError
from pride_mm.records import Origin

_ORIGINS: tuple[Origin, ...] = get_args(Origin)
_DOMAIN = ".pride.invalid"
_LONGEST = 200


@dataclass(frozen=True)
class Person:
    """An annotator as the records know them."""

    annotator: str
    origin: Origin


def address(person: Person) -> str:
    """The e-mail address of the user that stands for ``person``; never reaches a real mailbox."""
    slug = re.sub(r"[^a-z0-9]+", "-", person.annotator.lower()).strip("-")[:24] or "annotator"
    digest = hashlib.sha256(person.annotator.encode()).hexdigest()[:12]
    return f"{slug}-{digest}@{person.origin}{_DOMAIN}"


def person_of(user: Any, key: bytes) -> Person:
    """The annotator behind a user of the server, under a pseudonym."""
    email = str(user.email).lower()
    domain = email.rpartition("@")[2]
    code = hmac.new(key, email.encode(), hashlib.sha256).hexdigest()[:8]
    for origin in _ORIGINS:
        if domain == f"{origin}{_DOMAIN}":
            known = Person(str(user.first_name), origin)
            # a name that was changed on the server is not believed, but a model stays a model
            return known if user.first_name and address(known) == email else Person(f"{origin}-{code}", origin)
    return Person(f"expert-{code}", "expert")


def nameable(annotator: str) -> bool:
    """False for a pseudonym that the server would not keep as it is: white space around it, or control characters."""
    return annotator == annotator.strip() and not any(
        unicodedata.category(letter) in ("Cc", "Cs") for letter in annotator
    )


def people(studio: Studio, key: bytes) -> dict[int, Person]:
    """All users of the server by their number."""
    users = studio.call("listing the annotators", studio.client.users.list)
    return {user.id: person_of(user, key) for user in users}


def ensure_users(studio: Studio, wanted: Iterable[Person]) -> Mapping[Person, tuple[int, str]]:
    """The (number, address) of each person's user; made where there is none."""
    users = {user.email: user.id for user in studio.call("listing the annotators", studio.client.users.list)}
    found: dict[Person, tuple[int, str]] = {}
    for person in sorted(set(wanted), key=lambda p: (p.origin, p.annotator)):
        if len(person.annotator) > _LONGEST:
            raise UserError(f"An annotator's pseudonym has {len(person.annotator)} characters; {_LONGEST} are allowed.")
        email = address(person)
        if email not in users:
            made = studio.call(
                "adding an annotator", studio.client.users.create,
                username=email, email=email, first_name=person.annotator, last_name=f"({person.origin})",
            )  # fmt: skip
            users[email] = made.id
        found[person] = (users[email], email)
    return found
