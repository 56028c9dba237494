"""The real command, really killed: what it leaves is gone on with, and the end is the same."""

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PRIDE = [sys.executable, "-c", "from pipelines.cli import main; main()"]
SETTINGS = ["--set", "video.mode=copy", "--set", "shard_samples=9"]
KILLS = 20


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()) if path.is_file()
    }


@pytest.fixture(scope="module")
def given(
    tmp_path_factory: pytest.TempPathFactory, clip_items: list[dict[str, Any]], write_lines: Callable[..., Path]
) -> list[str]:
    """The arguments of a packing of 56 items with clips, sound and notes, one of them broken."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "broken.mp4").write_bytes(b"no clip")
    items = [{**item, "id": f"{item['id']}_{copy}"} for copy in range(4) for item in clip_items]
    items[5] = {**items[5], "inputs": {**items[5]["inputs"], "video": {"path": "broken.mp4"}}}
    notes = [{"item": item["id"], "privileged": {"situation": f"Of {item['id']}."}} for item in items[::3]]
    files = write_lines(folder / "items.jsonl", items), write_lines(folder / "notes.jsonl", notes)
    return ["pack", str(files[0]), "--notes", str(files[1]), *SETTINGS]


def start(arguments: list[str], **more: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [*PRIDE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        **more,
    )


@pytest.fixture(scope="module")
def never_killed(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("never") / "out"
    process = start([*given, "--out", str(out), "--workers", "2"])
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "video: broken.mp4" in said[1]
    return hashes(out)


def steps(work: Path) -> tuple[int, ...]:
    """Changes whenever the packing has got further."""
    sizes = []
    for name in ("plan.sqlite", "job.json", "samples.jsonl", "shards.jsonl"):
        try:
            sizes.append((work / name).stat().st_size)
        except FileNotFoundError:
            sizes.append(-1)
    return tuple(sizes)


def kill_after(process: subprocess.Popen[str], work: Path, changes: int, seconds: float) -> bool:
    """Kill the process and all it started, so many steps and seconds on; False where it was done before."""
    last = steps(work)
    while changes and process.poll() is None:
        if (now := steps(work)) != last:
            last, changes = now, changes - 1
        time.sleep(0.002)
    time.sleep(seconds)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    return alive


def test_killed_twenty_times_it_ends_with_the_same_bytes(
    given: list[str], never_killed: dict[str, str], tmp_path: Path
) -> None:
    chance, out = random.Random(5), tmp_path / "out"
    kills = gone_on = 0
    while kills < KILLS or out.exists():
        arguments = [*given, "--out", str(out), "--workers", str(chance.choice([1, 2, 3]))]
        process = start(arguments)
        killed = kills < KILLS and kill_after(process, out / ".work", chance.randrange(12), chance.uniform(0, 0.05))
        said, complaints = process.communicate(timeout=120)
        if killed:
            kills += 1
            if (out / "manifest.json").exists():  # killed when all was done but the last sweep
                assert hashes(out) == never_killed
            continue
        assert process.returncode == 0, complaints
        assert "Started afresh" not in complaints
        gone_on += "Went on after" in said
        assert "video: broken.mp4" in complaints, "what was bad before the kill is still said"
        assert hashes(out) == never_killed
        assert not (out / ".work").exists()
        shutil.rmtree(out)
    assert gone_on


def test_a_full_disk_stops_with_one_line_and_is_gone_on_with(
    given: list[str], never_killed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [*given, "--out", str(out), "--workers", "1"]

    def no_file_over_300_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    process = start(arguments, preexec_fn=no_file_over_300_kb)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said.splitlines()[-1].startswith("No room left for ")
    assert "Traceback" not in said
    assert not (out / "manifest.json").exists()
    process = start(arguments)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert hashes(out) == never_killed


def test_two_at_once_in_one_folder_are_refused(given: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start([*given, "--out", str(out), "--workers", "1"])
    while not (out / ".work" / "job.json").exists() and first.poll() is None:
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)
    second = start([*given, "--out", str(out)])
    _, said = second.communicate(timeout=60)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert second.returncode == 2
    assert said == f"Another `pride pack` is at work on {out}: wait for it, or stop it.\n"


def test_what_has_changed_is_not_gone_on_with(given: list[str], never_killed: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start([*given, "--out", str(out), "--workers", "1", "--set", "seed=1"])
    assert kill_after(process, out / ".work", 8, 0)
    process.communicate()
    process = start([*given, "--out", str(out)])
    _, said = process.communicate(timeout=120)
    assert "Started afresh: settings changed since the run that was stopped." in said
    assert hashes(out) == never_killed
