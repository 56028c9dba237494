"""The documents say nothing that isn't so: commands and their options, links, Python, and the site's map."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pipelines.cli import app

ROOT = Path(__file__).parent.parent
NAMED = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
DOCUMENTS = [*(ROOT / name for name in NAMED), *sorted((ROOT / "docs").glob("*.md"))]
IDS = [path.name for path in DOCUMENTS]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SHELL = ("", "console", "bash", "sh", "text")


def commands(text: str) -> list[str]:
    """What stands behind ``pride`` wherever a document shows a command: in a line of a shell, or in backticks."""
    lines = []
    for kind, block in _FENCED.findall(text):
        if kind in _SHELL:
            joined = block.replace("\\\n", " ")
            prompted = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
            typed = prompted or [line for line in joined.splitlines() if line[:1].isalpha() or line[:1] == " "]
            lines += [found for line in typed for found in re.findall(r"(?:^|[ ;&])pride ([a-z][^\n|&;#]*)", line)]
    lines += re.findall(r"`pride ([a-z][^`]*)`", _FENCED.sub("", text).replace("\n", " "))
    return [line for line in lines if not line.startswith("label COMMAND")]


def command_of(line: str) -> tuple[Any, list[str]]:
    """The command that is typed, and the words behind it; raises KeyError where there is none."""
    command, words = get_command(app), line.split()
    while hasattr(command, "commands"):
        if not words:
            return command, words
        # 'pride eval RUN' is 'pride eval score RUN'
        command, score = command.commands.get(words[0]), command.commands.get("score")
        words, command = (words[1:], command) if command is not None else (words, score)
        if command is None:
            raise KeyError(line)
    return command, words


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_command_exists_with_its_options(path: Path) -> None:
    for line in commands(path.read_text()):
        command, _ = command_of(line)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) <= known | {"--help"}, line


def test_commands_are_found_where_they_stand() -> None:
    assert len(commands((ROOT / "README.md").read_text())) > 20
    shown = "```console\n$ pride pack x --out y | less\n48 of them\n```\nand `pride check\nshards` or `pridefully`\n"
    assert commands(shown) == ["pack x --out y ", "check shards"]
    with pytest.raises(KeyError):
        command_of("nosuch thing")


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_every_link_leads_somewhere(path: Path) -> None:
    for name, anchor in re.findall(r"\]\((?!http|mailto)([^)#]*)(#[^)]*)?\)", path.read_text()):
        target = path.parent / name if name else path
        assert target.exists(), name
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
            assert anchor[1:] in slugs, name + anchor


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_its_python_is_python_and_imports_what_there_is(path: Path) -> None:
    from importlib import import_module

    for kind, block in _FENCED.findall(path.read_text()):
        for node in ast.walk(ast.parse(block)) if kind == "python" else ():
            if isinstance(node, ast.ImportFrom):
                assert all(hasattr(import_module(str(node.module)), name.name) for name in node.names), block


def test_the_site_shows_every_document_and_every_module_that_it_names() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    assert sorted(pages(site["nav"])) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    modules = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert len(modules) > 10
    for module in modules:
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
