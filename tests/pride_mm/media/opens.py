"""Run as a program, in a process that may die: what one decoder, asked through our functions, does and leaves behind.

``opens.py DECODER FOLDER`` prints as JSON: what came of reading every file of the folder, as bytes and as a path, in
every way; what a thousand opens take for good, by case (KiB, descriptors, threads); and whether threads, and a process
forked after frames were read, read the same frames.
"""

import ctypes
import gc
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from pride_mm.media import MediaError, probe, read_audio, read_frames, verify

WARM_UP, OPENS = 30, 200
Read = Callable[[Any], object]


def ways(decoder: Any) -> dict[str, Read]:
    """What is asked of a file; decord is never asked for sound."""
    by_pyav: dict[str, Read] = {
        "probe": probe,
        "pictures verified": lambda source: verify(source, video=True),
        "sound verified": lambda source: verify(source, audio=True),
    }
    return {
        "frames": lambda source: read_frames(source, 12, 32, backend=decoder),
        "sound": lambda source: read_audio(source, 16000, backend="auto" if decoder == "decord" else decoder),
    } | (by_pyav if decoder == "pyav" else {})


def outcomes(decoder: str, folder: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.iterdir()):
        for way, read in ways(decoder).items():
            both = {_outcome(read, path), _outcome(read, path.read_bytes())}
            found.setdefault(path.stem, {})[way] = " or ".join(sorted(both))
    return found


def _outcome(read: Read, source: Any) -> str:
    try:
        read(source)
    except MediaError as error:
        return str(error)
    return "read"


def leaks(decoder: Any, folder: Path) -> dict[str, list[float]]:
    file = {path.stem: path.read_bytes() for path in folder.iterdir()}
    asked = ways(decoder)

    def frame(source: bytes) -> object:
        return read_frames(source, 1, 32, backend=decoder)

    cases: dict[str, tuple[Read, bytes]] = {
        "a frame": (frame, file["good"]),
        "an open that fails": (frame, file["no moov"]),
        "half a clip": (frame, file["half"]),
        "no pictures": (frame, file["sound only"]),
        "sound": (asked["sound"], file["sound only"]),
        "no sound": (asked["sound"], file["pictures only"]),
    }
    if decoder == "pyav":
        cases |= {
            "sound of a clip": (asked["sound"], file["good"]),
            "probe": (probe, file["good"]),
            "a probe that fails": (probe, file["no moov"]),
        }
    return {name: _grown(read, source) for name, (read, source) in cases.items()}


def _grown(read: Read, source: bytes) -> list[float]:
    before = (0, 0, 0)
    for number in range(WARM_UP + OPENS):
        if number == WARM_UP:
            before = taken()
        with suppress(MediaError):
            read(source)
    return [round((after - then) * 1000 / OPENS, 1) for after, then in zip(taken(), before, strict=True)]


def taken() -> tuple[int, int, int]:
    """KiB of memory, descriptors and threads of this process."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    held = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024, *held


def seen(decoder: Any, source: bytes) -> str:
    return hashlib.sha256(read_frames(source, 6, 64, backend=decoder).numpy().tobytes()).hexdigest()


def by_threads_and_forks(decoder: str, source: bytes) -> int:
    """How many different answers 4 threads of 10 reads, and 2 forks, give; 1 is right."""
    answers = {seen(decoder, source)}
    with ThreadPoolExecutor(4) as threads:
        answers |= set(threads.map(lambda _: seen(decoder, source), range(40)))
    with multiprocessing.get_context("fork").Pool(2) as forks:
        answers |= set(forks.starmap(seen, [(decoder, source)] * 6))
    return len(answers)


def main() -> None:
    torch.set_num_threads(1)
    decoder, folder = sys.argv[1], Path(sys.argv[2])
    answers = by_threads_and_forks(decoder, (folder / "good.mp4").read_bytes())
    json.dump({"outcomes": outcomes(decoder, folder), "leaks": leaks(decoder, folder), "answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
