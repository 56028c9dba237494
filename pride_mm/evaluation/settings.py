"""The settings of a run as it has kept them, flat: ``optim.lr`` and so on."""

import json
from pathlib import Path
from typing import Any

from pride_mm.errors import UserError


def read_settings(run: Path) -> dict[str, Any]:
    """Raises UserError where the folder is no run."""
    path = run / "settings.json"
    if not path.is_file():
        raise UserError(f"{run} is not a run: it has no settings.json. Give a folder that 'pride train' has written.")
    try:
        return _flat(json.loads(path.read_bytes()))
    except json.JSONDecodeError:
        raise UserError(f"{path} is not JSON: run 'pride train' again under another name.") from None


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in value.items():
        flat |= _flat(entry, f"{prefix}{name}.") if isinstance(entry, dict) else {f"{prefix}{name}": entry}
    return flat
