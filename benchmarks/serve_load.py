"""What `pride serve` takes: real HTTP clients on loopback, more and more of them, against a real process.

``python -m benchmarks.serve_load [--quick] [--data DIR]``. The student is a tiny one (260k parameters), so that it is
the server that is measured; clients and server share the machine. Each user asks again as soon as it has its answer
of 16 tokens, streamed; a tenth of the requests bring a sound or a clip of MOSI. Then so many requests with uploads are
sent, in whose middle the decoding processes are killed. All loops have a fixed count. ``lost`` counts requests without
a whole answer, ``p95_ms_at_8`` is milliseconds from a request to its last token with 8 users, ``growth_mib`` the
memory that the second half of the uploads adds to the server.
"""

import argparse
import base64
import json
import multiprocessing
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

PRIDE = "from pipelines.cli import main; main()"
TOKENS = 16


def _data_dir(given: Path | None) -> Path:
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = (given or Path(os.environ.get("PRIDE_DATA", beside))).resolve()
    if not (folder / "mosi_mini").is_dir() or not (folder / "stories260k-hf").is_dir():
        sys.exit(f"Needs mosi_mini and stories260k-hf: give their folder by --data or PRIDE_DATA (looked at {folder}).")
    return folder


def tiny_artifact(model: Path, work: Path) -> Path:
    """An untrained student on a model of 260k parameters, exported."""
    import torch

    from pride_mm.schema import load_schema
    from pride_mm.serving.export import export
    from pride_mm.student import Student, save_student
    from pride_mm.student.backbone import load_backbone

    backbone, tokenizer = load_backbone(model)
    torch.manual_seed(0)
    save_student(work / "student", Student.from_backbone(backbone, load_schema("pride"), layers=2), tokenizer)
    return export(work / "student", work / "tiny")


class Served:
    """The process, its address, what it takes and what it has written."""

    def __init__(self, artifact: Path, log: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PRIDE_API_KEY", None)
        with log.open("wb") as file:
            command = [sys.executable, "-c", PRIDE, "serve", str(artifact), "--port", "0"]
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        until = time.monotonic() + 300
        while not (found := re.search(r"served at (http\S+)/v1", log.read_text())):
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit(f"The server does not start: {log.read_text()}")
            time.sleep(0.1)
        self.url = found[1]

    def meter(self, name: str) -> float:
        page = httpx.get(f"{self.url}/metrics").text
        return float(next(line for line in page.splitlines() if line.startswith(name)).rpartition(" ")[2])

    @property
    def mebibytes(self) -> float:
        return self.meter("process_resident_memory_bytes") / 2**20

    def decoders(self) -> list[int]:
        """The processes that decode: the children of the process that forks them."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
        forks = {int(pid) for pid, parent, args in rows if int(parent) == self.process.pid and "forkserver" in args}
        return [int(pid) for pid, parent, _ in rows if int(parent) in forks]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def bodies(data: Path) -> tuple[bytes, list[bytes]]:
    """A request of words alone, and requests with a sound and with a clip."""
    from pride_mm.media import convert_audio

    clip = min((data / "mosi_mini").rglob("*.mp4"), key=lambda path: path.stat().st_size)
    flac = convert_audio(clip, 16000).loaded
    assert isinstance(flac, bytes)
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(flac).decode(), "format": "flac"}}
    url = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    seen = {"type": "video_url", "video_url": {"url": url}}
    text = {"type": "text", "text": "Once upon a time I lost my dog in the rain."}

    def body(*parts: dict[str, Any]) -> bytes:
        asked = {"messages": [{"role": "user", "content": [text, *parts]}], "max_tokens": TOKENS, "stream": True}
        return json.dumps({"model": "tiny", **asked}).encode()

    return body(), [body(sound), body(seen)]


def ask(client: httpx.Client, body: bytes) -> float | None:
    """Seconds until the last token; None where there is no whole answer."""
    begun = time.perf_counter()
    try:
        reply = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError:
        return None
    return time.perf_counter() - begun if reply.status_code == 200 and reply.text.endswith("[DONE]\n\n") else None


def load(
    server: Served, users: int, each: int, body_of: Callable[[int], bytes], midway: Callable[[], None] | None = None
) -> tuple[list[float], int, float]:
    """Seconds of each answer, how many were lost, and seconds of all."""
    took: list[float | None] = []

    def user(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            for turn in range(each):
                took.append(ask(client, body_of(number * each + turn)))

    threads = [threading.Thread(target=user, args=(number,)) for number in range(users)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    if midway is not None:
        while len(took) < users * each // 2:
            time.sleep(0.01)
        midway()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    whole = [one for one in took if one is not None]
    return whole, users * each - len(whole), seconds


def percentile(seconds: list[float], share: int) -> float:
    """Milliseconds that ``share`` percent of the answers took at most."""
    return 1000 * statistics.quantiles(seconds, n=100, method="inclusive")[share - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--data", type=Path, help="the folder above mosi_mini and stories260k-hf; default: PRIDE_DATA")
    given = parser.parse_args()
    data = _data_dir(given.data)
    requests, uploads = (64, 200) if given.quick else (640, 2000)
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        text, heavy = bodies(data)
        server = Served(tiny_artifact(data / "stories260k-hf", work), work / "log")
        load(server, 2, 4, lambda number: [text, *heavy][number % 3])  # warms up
        lost = 0
        print("users  requests  lost  requests/s  tokens/s   p50 ms   p95 ms   p99 ms")
        for users in (1, 8, 32):
            each = requests // 32 if users == 1 else requests // users
            mixed = load(server, users, each, lambda number: heavy[number // 10 % 2] if number % 10 == 9 else text)
            took, gone, seconds = mixed
            lost += gone
            p50, p95, p99 = (percentile(took, share) for share in (50, 95, 99))
            rate = len(took) / seconds
            line = f"{users:5}  {len(took) + gone:8}  {gone:4}  {rate:10.1f}  {rate * TOKENS:8.0f}"
            print(f"{line}  {p50:7.0f}  {p95:7.0f}  {p99:7.0f}")
            ratios |= {f"requests_per_s_at_{users}": rate, f"p95_ms_at_{users}": p95}

        def kill() -> None:
            for pid in server.decoders():
                os.kill(pid, signal.SIGKILL)

        halves, restarts = [server.mebibytes], server.meter("pride_decoder_restarts")
        for half in range(2):
            took, gone, seconds = load(
                server, 4, uploads // 8, lambda number: heavy[number % 2], kill if half == 0 else None
            )
            lost += gone
            halves.append(server.mebibytes)
            print(f"{len(took)} with uploads, {gone} lost, {len(took) / seconds:.1f} a second; {halves[-1]:.0f} MiB")
        ratios |= {
            "lost": lost,
            "restarted": server.meter("pride_decoder_restarts") - restarts,
            "memory_mib": halves[-1],
            "growth_mib": halves[2] - halves[1],
            "exit_code": server.stop(),
        }
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    versions = {"python": sys.version.split()[0]} | {name: version(name) for name in ("torch", "uvicorn", "httpx")}
    rounded = {name: round(ratio, 1) for name, ratio in ratios.items()}
    print(json.dumps({"benchmark": "serve_load", "ratios": rounded, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
