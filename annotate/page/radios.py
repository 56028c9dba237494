"""Radio buttons that don't know each other.

Label Studio gives a radio button its option's text as a name, and of one name a browser lets one be chosen on the whole
page: a second field with an option 'neutral' would seem to take back the choice in the first. What is stored is the
option's alias, which stays as it is.
"""

from collections import Counter
from xml.etree import ElementTree

_NOTHING = "\u200b"  # a space without width: a text of its own that looks the same


def tell_apart(page: ElementTree.Element) -> None:
    """Make the texts of options differ that are those of radio buttons in several fields."""
    seen: Counter[str] = Counter()
    for field in page.iter("Choices"):
        if field.get("choice") == "single-radio":
            for option in field:
                text = option.get("value", "")
                option.set("value", text + _NOTHING * seen[text])
                seen[text] += 1
