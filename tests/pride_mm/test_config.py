"""Settings: found by name or path, all mistakes in one message, each with the nearest right name."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from pride_mm.config import CONFIGS, find_config, load_settings, mistakes
from pride_mm.errors import UserError
from pride_mm.schema import Frozen


class Optim(Frozen):
    rate: Annotated[float, Field(gt=0)] = 0.1
    epochs: int = 1


class Run(Frozen):
    name: str = "x"
    optim: Optim = Optim()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('name = "first"\n[optim]\nrate = 0.5\n')
    return path


def test_a_file_is_read_and_set_from_the_line_on_top(path: Path) -> None:
    assert load_settings(Run, path) == Run(name="first", optim=Optim(rate=0.5))
    given = load_settings(Run, path, ["name=second", "optim.epochs=3", 'optim.rate="2e-1"', "optim.rate=3e-4"])
    assert given == Run(name="second", optim=Optim(rate=3e-4, epochs=3))


def test_what_looks_like_no_toml_is_a_word(path: Path) -> None:
    assert load_settings(Run, path, ["name=runs/a=b"]).name == "runs/a=b"
    assert load_settings(Run, path, ["name="]).name == ""


def test_all_mistakes_come_at_once_with_the_nearest_right_name(path: Path) -> None:
    with pytest.raises(UserError) as refused:
        load_settings(Run, path, ["nmae=x", "optim.epoch=3", "optim.qqqq=1", "optim.rate=-1"])
    lines = str(refused.value).splitlines()
    assert lines[0] == f"4 mistakes in {path}:"
    assert sorted(lines[1:]) == [
        "  nmae: no such setting; did you mean 'name'?",
        "  optim.epoch: no such setting; did you mean 'epochs'?",
        "  optim.qqqq: no such setting; allowed: rate, epochs",
        "  optim.rate: Input should be greater than 0",
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rate", r"--set takes key=value, not 'rate'; for example --set optim.lr=3e-4"),
        ("=3", r"--set takes key=value, not '=3'"),
        ("name.first=3", r"--set name.first=3: 'name' is a value, not a table"),
        ("optim.rate=fast", r"1 mistake in .*run.toml:\n  optim.rate: Input should be a valid number"),
        ("optim.rate=inf", "optim.rate: Input should be a finite number"),
        ("optim=3", "optim: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_set_says_what_is_right(path: Path, override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_settings(Run, path, [override])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = \n", "run.toml is not TOML: .*line 1"),
        (b"\xff\xfe", "run.toml is not text in UTF-8"),
        (None, "No settings"),
    ],
)
def test_a_file_that_cannot_be_read(path: Path, content: bytes | None, said: str) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_settings(Run, path)


def test_configs_are_found_by_path_before_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config("run", path) == path
    assert find_config("run", "plain") == CONFIGS / "run" / "plain.toml"
    monkeypatch.chdir(path.parent)
    Path("plain").touch()
    assert find_config("run", "plain") == Path("plain")


def test_a_name_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(
        UserError,
        match=r"No run 'plian': give a path to a .toml file, or one of: on_policy, paper, plain, privileged, whole\.",
    ):
        find_config("run", "plian")
    with pytest.raises(
        UserError,
        match=r"No prompt 'x': give a path to a .j2 file, or one of: draft, empathy_reasoning, judge, notes_only\.",
    ):
        find_config("prompt", "x", ".j2")


def test_mistakes_never_show_what_was_given() -> None:
    with pytest.raises(ValidationError) as refused:
        Run.model_validate({"name": ["SECRET"], "optim": {"rate": "SECRET"}})
    said = mistakes(refused.value)
    assert [line.split(":")[0] for line in said] == ["name", "optim.rate"]
    assert "SECRET" not in " ".join(said)
