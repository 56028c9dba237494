"""Where a run's numbers go beside ``metrics.jsonl``: TensorBoard, W&B or trackio, by Accelerate. Numbers alone."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from pride_mm.errors import UserError
from pride_mm.schema import Frozen


def known_trackers(names: Sequence[str]) -> list[str] | None:
    """The same names, as Accelerate takes them; raises UserError where a package is missing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"trackers has '{name}', which is not installed: pip install {name}, or leave it out.")
    return list(names) or None


def flat(settings: Frozen) -> dict[str, Any]:
    """Settings by dotted name, each a number or a text."""
    return dict(_leaves("", settings.model_dump(mode="json")))


def _leaves(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _leaves(f"{prefix}{name}.", value)
        else:
            found.append((prefix + name, value if isinstance(value, bool | int | float | str) else str(value)))
    return found
