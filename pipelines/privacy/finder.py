"""What in a text looks like somebody's data: mails, phone numbers, addresses on the net, numbers of cards and accounts.

The patterns and their check sums are Presidio's; nothing is fetched. A pattern needs no model; a name does: a spaCy
model that the deployer trusts and gives. What is found is a hint and no proof: a voice, a face, a postal address or a
story that only one person can have lived are not found.
"""

import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pride_mm.errors import UserError

# What people call it, by Presidio's name.
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "URL": "url",
    "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "mac",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "CRYPTO": "wallet",
    "US_SSN": "ssn",
    "PERSON": "name",
}
# spaCy's models for English say PERSON, those for other languages PER.
_PEOPLE = ("PERSON", "PER")
# Below this are patterns that fit any number of that length.
_SURE = 0.5
# A missing blank after a full stop ("me.it was") looks like a host; one that is meant has a scheme, www or a path.
_ADDRESS = re.compile(r"https?://|www\.|/", re.IGNORECASE)
# What a text must have for any pattern to fit: few have, and looking closely is slow.
_WORTH = re.compile(
    r"@|www|://|\.\w{2,}/|(?:\d\W{0,3}){6}|[0-9a-f]{1,4}[:.-][0-9a-f]{1,4}[:.-]|\b[13][a-z0-9]{25}", re.I
)


class Found(NamedTuple):
    """A part of a text, from its first character to before its last, and what it looks like."""

    start: int
    end: int
    kind: str


class Finder:
    """Finds personal data in texts.

    Args:
        names: a spaCy model, by its folder or package; names of people are not looked for without one.

    Raises:
        UserError: Presidio isn't installed, or there is no such model.
    """

    def __init__(self, names: str | None = None) -> None:
        if find_spec("presidio_analyzer") is None:
            raise UserError("Looking for personal data needs a package: pip install 'pride-mm[privacy]'.")
        self._patterns = _patterns()
        self._model = _load_model(names) if names else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of personal data that are looked for."""
        return tuple(kind for kind in KINDS.values() if kind != "name" or self._model is not None)

    def find(self, text: str) -> list[Found]:
        """The personal data in a text, in order; where two overlap, the surer and then the longer one."""
        found = sorted(self._candidates(text), key=lambda one: (-one[0], one[1].start - one[1].end))
        kept: list[Found] = []
        for _, one in found:
            if all(one.end <= other.start or other.end <= one.start for other in kept):
                kept.append(one)
        return sorted(kept)

    def _candidates(self, text: str) -> Iterator[tuple[float, Found]]:
        if _WORTH.search(text):
            for recogniser in self._patterns:
                for one in recogniser.analyze(text, recogniser.supported_entities, None) or ():
                    sure = one.score >= _SURE or one.entity_type == "PHONE_NUMBER"  # these are valid ones
                    if sure and (one.entity_type != "URL" or _ADDRESS.search(text, one.start, one.end)):
                        yield one.score, Found(one.start, one.end, KINDS[one.entity_type])
        if self._model is not None:
            for one in self._model(text).ents:
                if one.label_ in _PEOPLE:
                    yield 0.4, Found(one.start_char, one.end_char, "name")


def _patterns() -> list[Any]:
    from presidio_analyzer import predefined_recognizers as known
    from tldextract import TLDExtract

    suffixes = TLDExtract(cache_dir=None, suffix_list_urls=())  # the list that comes with it

    class Email(known.EmailRecognizer):  # type: ignore[misc]  # Presidio's fetches the list anew
        def validate_result(self, pattern_text: str) -> bool:
            return bool(suffixes(pattern_text).fqdn)

    return [
        Email(),
        known.PhoneRecognizer(),
        known.UrlRecognizer(),
        known.IpRecognizer(),
        known.MacAddressRecognizer(),
        known.CreditCardRecognizer(),
        known.IbanRecognizer(),
        known.CryptoRecognizer(),
        known.UsSsnRecognizer(),
    ]


def _load_model(names: str) -> Callable[[str], Any]:
    import spacy

    try:
        model: Callable[[str], Any] = spacy.load(Path(names) if Path(names).is_dir() else names)
    except (OSError, ImportError, ValueError):
        raise UserError(
            f"--names takes a spaCy model that finds people, as a folder or an installed package, not '{names}'."
        ) from None
    return model
