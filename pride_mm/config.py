"""Settings from TOML, with ``--set key=value`` on top, all mistakes in one message.

The files live in ``configs/`` (``schema``, ``run``, ``prompt``, ``corpus``) and are found by name or by path.
"""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pride_mm.errors import UserError

Settings = TypeVar("Settings", bound=BaseModel)

_INSTALLED = Path(__file__).parent / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "configs"


def find_config(folder: str, name: str | Path, suffix: str = ".toml") -> Path:
    """The path of ``configs/FOLDER/NAME.toml``, or ``name`` itself where it is a file."""
    given = Path(name)
    if given.is_file():
        return given
    shipped = CONFIGS / folder / f"{name}{suffix}"
    if shipped.is_file():
        return shipped
    names = sorted(path.stem for path in (CONFIGS / folder).glob(f"*{suffix}"))
    raise UserError(f"No {folder} '{name}': give a path to a {suffix} file, or one of: {', '.join(names)}.")


def read_config(path: Path) -> str:
    """The text of a settings file; raises UserError where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8: give a {path.suffix or 'settings'} file.") from None
    except FileNotFoundError:
        raise UserError(f"No settings at {path}.") from None


def mistakes(error: ValidationError, root: str = "") -> list[str]:
    """One line a mistake, each with its path; never with the value that was given."""
    lines = []
    for mistake in error.errors(include_input=False, include_url=False):
        path = ".".join(str(part) for part in mistake["loc"]) or root
        lines.append(f"{path}: {mistake['msg']}" if path else mistake["msg"])
    return lines


def load_settings(model: type[Settings], path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read settings from TOML.

    Args:
        model: the pydantic model of the settings; it refuses unknown keys.
        path: the TOML file.
        overrides: ``key.path=value``, the value in TOML's notation; a bare word is a string.

    Raises:
        UserError: every mistake at once, each with its key and, for an unknown key, the nearest right one.
    """
    try:
        raw = tomllib.loads(read_config(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    for override in overrides:
        _override(raw, override)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [f"  {_with_hint(model, mistake)}" for mistake in error.errors(include_input=False)]
        count = f"{len(lines)} mistakes" if len(lines) > 1 else "1 mistake"
        raise UserError(f"{count} in {path}:\n" + "\n".join(lines)) from None


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes key=value, not '{override}'; for example --set optim.lr=3e-4.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    table = raw
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {override}: '{parent}' is a value, not a table.")
    table[last] = value


def _with_hint(model: type[BaseModel], mistake: Any) -> str:
    path = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] != "extra_forbidden":
        return f"{path}: {mistake['msg']}"
    known = _fields_at(model, mistake["loc"][:-1])
    near = difflib.get_close_matches(str(mistake["loc"][-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"allowed: {', '.join(known)}"
    return f"{path}: no such setting; {hint}"


def _fields_at(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    for part in loc:
        info = model.model_fields.get(str(part))
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            break
        model = info.annotation
    return list(model.model_fields)
