"""House rules that no linter knows."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = sorted(path for room in ("pride_mm", "annotate", "pipelines") for path in (ROOT / room).rglob("*.py"))
LONGEST = 400
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MACHINE = re.compile(r"(?<![\w.~}])/(?:work|root|home|tmp)/|(?<![\w.~}])/(?:work|root)\b")
INDEX_HOST = re.compile(r"--(?:extra-)?index-url|files\.pythonhosted|pypi\.org|test\.pypi", re.IGNORECASE)


def tracked() -> list[Path]:
    """Committed text files, but for this one, which has to spell what it looks for."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout")
    paths = [ROOT / name for name in listed.split("\0") if name]
    paths = [path for path in paths if path.is_file() and path != Path(__file__)]
    return [path for path in paths if b"\0" not in path.read_bytes()[:8000]]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_code_to_look_at() -> None:
    assert len(CODE) > 50


def test_no_file_is_too_long() -> None:
    long = {name(path): lines for path in CODE if (lines := len(path.read_text().splitlines())) > LONGEST}
    assert not long, f"over {LONGEST} lines; split by noun: {long}"


def _dangers(tree: ast.AST) -> list[str]:
    """What runs or may run what it reads: pickles, ``torch.load``, ``eval`` and ``exec``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in RUNS_WHAT_IT_READS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUNS_WHAT_IT_READS:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called] if called in ("eval", "exec", "torch.load", "torch.save") else []
    return found


@pytest.mark.parametrize("code", ["import pickle", "from pickle import loads", "torch.load(p)", "x = eval('1')"])
def test_dangers_are_found(code: str) -> None:
    assert _dangers(ast.parse(code))


def test_nothing_runs_what_it_reads() -> None:
    found = {name(path): calls for path in CODE if (calls := _dangers(ast.parse(path.read_text())))}
    assert not found, f"use safetensors and JSON instead: {found}"


def _lines(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name(path)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_one_machine() -> None:
    assert all(MACHINE.search(line) for line in ("see /work/x", '"/tmp/x"', "cd /root"))
    assert not MACHINE.search("mine/tmp/x, ~/work")
    assert not (found := _lines(MACHINE)), "\n".join(found)


def test_no_file_names_a_host_of_packages() -> None:
    assert INDEX_HOST.search("--index-url x")
    assert not (found := _lines(INDEX_HOST)), "\n".join(found)
