"""Shards streamed beside other loaders, beside bare decoding, and from S3.

``python -m benchmarks.stream [--quick] [--data DIR]``. Each contender has a process of its own on one core, in turn,
over the same samples in the page cache, shuffled, in batches of 32; medians over the rounds count. Without decoding,
``raw`` are members as bytes, ``parsed`` has its JSON read (ours: also checked against the schema). Peers that have
shards of their own live in an environment of their own, which ``benchmarks/peers.txt`` tells how to make.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.stream.corpus import FULL, QUICK, ROOT, Size, data_dir, prepare

PEERS = ROOT / ".venv-peers" / "bin" / "python"
ELSEWHERE = ("mosaicml", "litdata")
RAW, PARSED = ("ours", "webdataset", "energon", "mosaicml", "litdata"), ("ours parsed", "webdataset parsed", "datasets")
TIMEOUT = 900  # seconds


def _child(module: str, *words: object, python: Path = Path(sys.executable)) -> dict[str, Any] | None:
    """What a contender prints last; None where it isn't installed."""
    command = [str(python), "-m", f"benchmarks.stream.{module}", *map(str, words)]
    quiet = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not python.exists():
        return None
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, **quiet}, check=False
    )
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr:
            return None
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _contender(verb: str, name: str, work: Path, size: Size) -> dict[str, Any] | None:
    python = PEERS if name in ELSEWHERE else Path(sys.executable)
    return _child("contender", verb, name, work, size.samples, python=python)


def _loading(work: Path, size: Size) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Medians by contender, and the versions of those that are here."""
    versions, here = {}, []
    for name in (*RAW, *PARSED):
        made = _contender("prepare", name, work, size)
        if made is None:
            continue
        here.append(name)
        versions |= {name: made["version"]} if "version" in made else {}
    _child("contender", "read", "ours", work, size.samples)  # into the page cache
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in here}
    for _ in range(size.rounds):
        for name in here:
            rounds[name].append(_contender("read", name, work, size) or {})
        for name in {"ours", "energon"}.intersection(here):
            rounds[name][-1] |= _contender("resume", name, work, size) or {}
    medians = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in rounds.items()
    }
    return medians, versions


@contextmanager
def _s3(folder: Path) -> Iterator[str]:
    """The shards behind a real S3 API on loopback, served by the other cores."""
    import botocore.session

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test"}
    os.environ.update(given | {"AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"})
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.sched_setaffinity(server.pid, {max(os.sched_getaffinity(0))})
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        client = botocore.session.Session().create_client("s3", endpoint_url=given["AWS_ENDPOINT_URL"])
        client.create_bucket(Bucket="shards")
        for path in folder.iterdir():
            client.put_object(Bucket="shards", Key=path.name, Body=path.read_bytes())
        yield "s3://shards"
    finally:
        server.terminate()
        server.wait()


def _decoding(work: Path, size: Size) -> dict[str, dict[str, float]]:
    found = {
        "bare, proxies": _child("decoding", "bare", work / "proxy", size.rounds),
        "bare, clips": _child("decoding", "bare", work / "plain", max(1, size.rounds // 2)),
        "proxies": _child("decoding", "proxies", work, size.rounds),
        "grown": _child("decoding", "grown", work / "proxy", size.grown),
    }
    samples = size.samples // 2
    with _s3(work / "many") as url:
        pairs = []
        for turn in range(max(1, size.rounds // 2)):
            local = _child("decoding", "remote", work / "many", samples) or {}
            far = _child("decoding", "remote", url, samples, work / f"cache-{turn}") or {}
            pairs.append((far["rate"], local["rate"]))
    far_rate, local_rate = (statistics.median(values) for values in zip(*pairs, strict=True))
    found["s3"] = {"s3": far_rate, "local": local_rate}
    return {name: value for name, value in found.items() if value is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, one round")
    parser.add_argument("--data", type=Path, help="the folder of MOSI and RAVDESS; default: PRIDE_DATA")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        prepare(data_dir(given.data), work, size)
        loading, versions = _loading(work, size)
        decoding = _decoding(work, size)
    _report(loading, decoding, versions, size)


def _report(
    loading: dict[str, dict[str, float]], decoding: dict[str, dict[str, float]], versions: dict[str, str], size: Size
) -> None:
    print(f"{size.samples} samples of {size.clips} clips, one core, batches of 32, shuffled")
    print(f"{'without decoding':22}{'samples/s':>12}{'first batch s':>16}{'resume s':>12}")
    for kind, names in (("raw", RAW), ("parsed", PARSED)):
        for name in names:
            label, found = f"{name.removesuffix(' parsed')} ({kind})", loading.get(name)
            if found is None:
                print(f"{label:22}  not installed" + (": see benchmarks/peers.txt" if name in ELSEWHERE else ""))
                continue
            again = f"{found['resume']:12.3f}" if "resume" in found else ""
            print(f"{label:22}{found['rate']:12.0f}{found['first']:16.3f}{again}")
    print("with 8 frames and sound, samples/s")
    for name, value in decoding.items():
        print(f"{name:22}" + "  ".join(f"{key} {number:.1f}" for key, number in value.items()))
    bare, clips, proxy = decoding["bare, proxies"], decoding["bare, clips"], decoding["proxies"]
    ratios = {
        "decode_vs_bare": bare["ours"] / bare["bare"],
        "decode_vs_bare_clips": clips["ours"] / clips["bare"],
        "proxy_vs_plain": proxy["proxy"] / proxy["plain"],
        "s3_vs_local": decoding["s3"]["s3"] / decoding["s3"]["local"],
        "rss_growth_mib": decoding["grown"]["grown"],
        "first_batch": loading["ours parsed"]["first"],
    }
    for name, found in loading.items():
        if name in RAW and name != "ours":
            key = f"vs_{name}" if name != "webdataset" else "nodecode_vs_webdataset"
            ratios[key] = loading["ours"]["rate"] / found["rate"]
        if name in PARSED and name != "ours parsed":
            key = "vs_datasets" if name == "datasets" else "parsed_vs_webdataset"
            ratios[key] = loading["ours parsed"]["rate"] / found["rate"]
    if "energon" in loading:
        ratios["resume_vs_energon"] = loading["ours"]["resume"] / loading["energon"]["resume"]
    rounded = {name: round(value, 3) for name, value in ratios.items()}
    about = {"python": sys.version.split()[0], **versions}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": "stream", "ratios": rounded, "machine": machine, "versions": about}))


if __name__ == "__main__":
    main()
