"""A real process for tests: ``pride serve`` or ``pride app`` as it is typed, its address, and its log."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRIDE = "from pipelines.cli import main; main()"
SECONDS = 350


@dataclass
class Served:
    """``url`` ends in ``/v1``; ``log`` is all that the process has written."""

    process: subprocess.Popen[bytes]
    file: Path
    url: str = ""

    @property
    def log(self) -> str:
        return self.file.read_text()


@contextmanager
def served(artifact: Path, work: Path, *options: str, key: str | None = None) -> Iterator[Served]:
    """``pride serve``, on a free port of loopback, for as long as the block lasts."""
    with started(["serve", str(artifact), "--port", "0", *options], r"served at (http\S+/v1)", work, key) as made:
        yield made


@contextmanager
def started(command: list[str], url: str, work: Path, key: str | None = None) -> Iterator[Served]:
    """The process, for as long as the block lasts; ``url`` is what it says when it has started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("PRIDE_API_KEY", None)
    if key is not None:
        environment["PRIDE_API_KEY"] = key
    log = work / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", PRIDE, *command], stdout=file, stderr=file, env=environment, cwd=ROOT
        )
    made = Served(process, log)
    try:
        until = time.monotonic() + SECONDS
        while not (found := re.search(url, made.log)):
            assert process.poll() is None, made.log
            assert time.monotonic() < until, f"it does not start: {made.log}"
            time.sleep(0.05)
        made.url = found[1]
        yield made
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
