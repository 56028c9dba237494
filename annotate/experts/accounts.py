"""The accounts of the experts: made through the server's own invitation, so that each has a password that works.

Making a user by Label Studio's programming interface takes a password and ignores it; signing up by the
link that invites does not. Passwords are made up here, written once to a file that only its owner can
read, and kept nowhere else.

The community edition has no roles: everybody who can sign in can read, change and delete every project.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.server.credentials import write_secret
from annotate.studio import Studio
from pride_mm.errors import UserError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?")
_EMAIL = re.compile(r"[^\s@,;]{1,100}@[^\s@,;]{1,100}")
_NO_MAILBOX = "experts.invalid"
_OURS = "pride.invalid"  # users that stand for annotators loaded from records, and the owner of a server of ours


@dataclass(frozen=True)
class Expert:
    """A person who can sign in: what they are called in tabs and titles, and what they sign in with."""

    name: str
    email: str
    number: int


def name_of(email: str) -> str:
    """What the user of an address is called: its first half, as far as it fits into a title."""
    return re.sub(r"[^a-z0-9]+", "-", email.lower().partition("@")[0])[:15].strip("-") or "expert"


def experts(studio: Studio, chosen: Sequence[str] = ()) -> list[Expert]:
    """The experts of a server by name; all, or those ``chosen`` by name or address.

    Raises:
        UserError: one of the chosen isn't there, or two have one name.
    """
    found: dict[str, Expert] = {}
    for user in studio.call("listing the experts", studio.client.users.list):
        email = str(user.email).lower()
        domain = email.rpartition("@")[2]
        if domain == _OURS or domain.endswith(f".{_OURS}"):
            continue
        expert = Expert(name_of(email), email, int(user.id))
        if chosen and not {expert.name, email} & set(chosen):
            continue
        if expert.name in found:
            raise UserError(
                f"Two experts would be called '{expert.name}': {found[expert.name].email} and {email}. Choose one of "
                "them by address with --by."
            )
        found[expert.name] = expert
    missing = [given for given in chosen if not any(given in (e.name, e.email) for e in found.values())]
    if missing:
        raise UserError(f"No expert {', '.join(missing)} at {studio.url}; add them: pride label experts add NAME.")
    return [found[name] for name in sorted(found)]


def add_experts(studio: Studio, wanted: Iterable[str], folder: Path) -> tuple[list[Expert], list[Expert]]:
    """Make an account for each name or address that has none.

    Args:
        studio: the server.
        wanted: names such as ``ana``, who then sign in as ``ana@experts.invalid``, or addresses.
        folder: where a file per new expert goes, with address and password; only its owner can read it.

    Returns:
        Those made, and those who were there.

    Raises:
        UserError: a name that is none, or the server takes no one.
    """
    emails = list(dict.fromkeys(_address(given) for given in wanted))
    there = {expert.email: expert for expert in experts(studio)}
    clash = {name_of(email): email for email in there}
    for email in (email for email in emails if email not in there):
        if clash.setdefault(name_of(email), email) != email:
            raise UserError(f"{clash[name_of(email)]} and {email} would have one name; give one another address.")
    made = []
    for email in (email for email in emails if email not in there):
        password = secrets.token_urlsafe(12)
        # written first: an account whose password nobody knows would be of no use
        path = folder / f"{name_of(email)}.txt"
        write_secret(path, f"address  {studio.url}\nsign in  {email}\npassword {password}\n")
        try:
            studio.call(f"adding {email}", _sign_up, studio, email, password)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        made.append(email)
    now = {expert.email: expert for expert in experts(studio)}
    if lost := [email for email in made if email not in now]:
        raise UserError(
            f"Label Studio took {', '.join(lost)} without a word and has no such user; its log may say why."
        )
    return [now[email] for email in made], [there[email] for email in emails if email in there]


def _address(given: str) -> str:
    text = given.strip().lower()
    if _NAME.fullmatch(text):
        return f"{text}@{_NO_MAILBOX}"
    if _EMAIL.fullmatch(text) and not text.endswith(_OURS):
        return text
    raise UserError(f"'{given}' is neither a name (letters a-z, digits and hyphens, 15 at most) nor an e-mail address.")


def _sign_up(studio: Studio, email: str, password: str) -> None:
    """Follow the server's invitation as a browser would."""
    import httpx

    wrapper: Any = studio.client._client_wrapper
    authorised: Mapping[str, str] = {"Authorization": wrapper.get_headers()["Authorization"]}
    with httpx.Client(base_url=studio.url, timeout=60, trust_env=False) as visitor:
        answer = visitor.get("/api/invite", headers=authorised)
        link = answer.json().get("invite_url") if answer.status_code == 200 else None
        if not link:
            raise UserError(f"Label Studio at {studio.url} gives no invitation (HTTP {answer.status_code}).")
        visitor.get(link)
        form = {"email": email, "password": password, "csrfmiddlewaretoken": visitor.cookies.get("csrftoken", "")}
        answer = visitor.post(link, data=form, headers={"Referer": f"{studio.url}{link}"})
    if answer.status_code != 302:  # 200 is the form again, with what it did not like
        raise UserError(f"Label Studio at {studio.url} did not take {email} (HTTP {answer.status_code}).")
