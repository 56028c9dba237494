"""Texts made of columns: ``{name}``, and ``{name|filter}`` for what is done to it on the way."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

_SLOT = re.compile(r"\{([^{}|]+)((?:\|[a-z]+)*)\}")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


def named_split(text: str) -> str | None:
    """The split that a file's or a folder's name tells, such as ``dev_sent_emo``; None where it tells none."""
    return next((SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", text.lower()) if word in SPLIT_NAMES), None)


_FILTERS = {
    "stem": lambda text: Path(text).stem,
    "key": lambda text: re.sub(r"[^A-Za-z0-9_-]+", "_", text),
    "lower": str.lower,
    "split": lambda text: named_split(text) or "",
}


def _check_template(template: str) -> str:
    for filters in _SLOT.findall(template):
        unknown = [name for name in filters[1].split("|") if name and name not in _FILTERS]
        if unknown:
            raise ValueError(f"no filter '{unknown[0]}' in '{template}' (allowed: {', '.join(_FILTERS)})")
    return template


def one_or_many(given: Any) -> Any:
    """A text alone is one of many."""
    return (given,) if isinstance(given, str) else given


Template = Annotated[str, BeforeValidator(lambda given: _check_template(given) if isinstance(given, str) else given)]
Templates = Annotated[tuple[Template, ...], BeforeValidator(one_or_many)]


def slots(template: str) -> list[str]:
    """The columns that a template names."""
    return [name for name, _ in _SLOT.findall(template)]


def render(template: str, columns: Mapping[str, Any]) -> str | None:
    """Fill a template; None where one of its columns is empty or missing."""
    if any(columns.get(name) in (None, "") for name in slots(template)):
        return None

    def fill(slot: re.Match[str]) -> str:
        text = str(columns[slot[1]])
        for name in slot[2].split("|")[1:]:
            text = _FILTERS[name](text)
        return text

    return _SLOT.sub(fill, template)


def first_of(templates: tuple[str, ...], columns: Mapping[str, Any]) -> str | None:
    """The first template that can be filled with something."""
    return next((text for template in templates if (text := render(template, columns))), None)
