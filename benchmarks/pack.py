"""Clips into shards beside the plainest way there is: ``tar`` for copying them, the ``ffmpeg`` program for encoding.

``python -m benchmarks.pack [--data DIR] [--quick]``. Each contender takes the same files, in turn, in the same run,
with a warm page cache and on all cores; bytes of the source a second, the median of the rounds. ``copy`` packs whole
clips of MOSI and RAVDESS (tens of kilobytes each, repeated under other names) and generated ones (several megabytes);
a sample has all its other members, too, is checked, hashed and indexed, and can be gone on with after a kill, none of
which ``tar`` does: of small files that is most of the work. What is packed is on the disk, so ``tar`` is followed by
``sync``; ``_unsynced`` is without. ``reencode`` makes the default training proxies; ffmpeg
gets the same filter, codec and settings, a process a core, one clip after the other. Quality is the PSNR of packed
clips against their sources, scaled alike. ``peak_rss_mib`` is of the packing program without its workers,
``rss_growth_mib`` how much more that is with ten times the items.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

CORES = os.cpu_count() or 1
_RUN = """
import json, resource, sys, time
from pathlib import Path
from pipelines.pack import PackSettings, pack
from pride_mm.config import find_config, load_settings
from pride_mm.schema import load_schema
if __name__ == "__main__":
    items, out, settings = sys.argv[1:]
    chosen, schema = load_settings(PackSettings, find_config("pack", settings)), load_schema("pride")
    begin = time.perf_counter()
    pack([Path(items)], schema, out, settings=chosen, max_bad=0)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def data_dir(given: Path | None) -> Path:
    """Where the real data lies: as told, ``PRIDE_DATA``, or the folder ``shared/data`` beside the checkout."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = (given or Path(os.environ.get("PRIDE_DATA", beside))).resolve()
    if not (folder / "mosi_mini").is_dir():
        sys.exit(f"Needs MOSI and RAVDESS: give their folder by --data or PRIDE_DATA (looked at {folder}).")
    return folder


def _clips(data: Path) -> list[Path]:
    return [*sorted((data / "mosi_mini").rglob("*.mp4")), *sorted((data / "ravdess").rglob("*.mp4"))]


def _repeated(clips: list[Path], number: int, folder: Path) -> Path:
    """So many clips under names of their own, and the file of items that names them."""
    folder.mkdir()
    with (folder / "items.jsonl").open("w") as items:
        for count, clip in zip(range(number), itertools.cycle(clips), strict=False):
            name = f"clip_{count:06d}"
            shutil.copyfile(clip, folder / f"{name}.mp4")
            said = [{"speaker": "a", "text": "There it is."}]
            inputs = {"video": {"path": f"{name}.mp4"}, "dialogue": said}
            item = {"id": name, "corpus": "made", "group": name, "split": "train", "inputs": inputs, "targets": {}}
            items.write(json.dumps(item) + "\n")
    return folder


def _generated(folder: Path, seconds: int) -> list[Path]:
    """A few clips of some megabytes, which hold noise so that they stay large."""
    made = []
    for number in range(4):
        path = folder / f"large_{number}.mp4"
        noise = f"testsrc2=s=640x360:r=30:d={seconds},noise=alls=40:allf=t:all_seed={number}"
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", noise, "-c:v", "libx264", "-preset", "ultrafast"]
        subprocess.run([*command, "-crf", "30", "-pix_fmt", "yuv420p", str(path)], check=True)
        made.append(path)
    return made


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.mp4"))


def _pack(folder: Path, out: Path, settings: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(folder / "items.jsonl"), str(out), settings],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _tar(folder: Path, out: Path) -> dict[str, float]:
    """Until the program ends, and until what it wrote is on the disk, as shards are before they count."""
    out.mkdir()
    begin = time.perf_counter()
    subprocess.run(["tar", "-cf", str(out / "all.tar"), "-C", str(folder), "--exclude=items.jsonl", "."], check=True)
    ended = time.perf_counter() - begin
    subprocess.run(["sync", str(out / "all.tar")], check=True)
    return {"seconds": time.perf_counter() - begin, "unsynced": ended}


def _ffmpeg(folder: Path, out: Path) -> dict[str, float]:
    """The same proxies by the program: key frames every ``gop`` frames."""
    from pipelines.pack import PackSettings
    from pride_mm.config import find_config, load_settings

    video = load_settings(PackSettings, find_config("pack", "proxy")).video
    out.mkdir()
    side = f"scale='if(lt(iw,ih),min({video.short_side},iw),-2)':'if(lt(iw,ih),-2,min({video.short_side},ih))'"
    options = [
        "-an",
        "-vf",
        f"fps={video.fps}:round=up,{side},format=yuv420p",
        "-c:v",
        "libx264",
        "-crf",
        str(video.crf + 1),  # ours does without x264's macroblock tree, by which bytes differ now and then
    ]
    options += ["-g", str(video.gop), "-preset", "veryfast", "-tune", "fastdecode", "-bf", "0", "-threads", "1"]

    def one(clip: Path) -> None:
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            "-y",
            "-threads",
            "1",
            "-i",
            str(clip),
            *options,
            str(out / clip.name),
        ]
        subprocess.run(command, check=True)

    begin = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(one, sorted(folder.glob("*.mp4"))))
    return {"seconds": time.perf_counter() - begin}


def _unpacked(shards: Path, out: Path) -> Path:
    """The clips of a pack as files."""
    from pride_mm.data.shards import ShardSet

    out.mkdir()
    reader = ShardSet.open(shards).samples("train")
    for place in range(len(reader)):
        (out / f"{reader.key(place)}.mp4").write_bytes(reader.members(place)["input.video.mp4"])
    return out


def _quality(made: Path, folder: Path) -> tuple[float, float]:
    """Mean PSNR in dB of the clips against their sources at the same times and size, and their bytes."""
    found = []
    for clip in sorted(made.glob("*.mp4"))[:24]:
        compare = "[1:v][0:v]scale2ref=flags=bicubic[source][made];[made][source]psnr"
        command = ["ffmpeg", "-v", "info", "-nostdin", "-i", str(clip), "-i", str(folder / clip.name)]
        done = subprocess.run(
            [*command, "-lavfi", compare, "-f", "null", "-"], check=True, capture_output=True, text=True
        )
        if match := re.search(r"average:([0-9.]+)", done.stderr):
            found.append(float(match[1]))
    return statistics.mean(found), sum(path.stat().st_size for path in made.glob("*.mp4"))


def _rounds(
    contenders: dict[str, Callable[[Path], dict[str, float]]], number: int
) -> Iterator[tuple[str, dict[str, float]]]:
    for _round in range(number):
        for name, run in contenders.items():
            with tempfile.TemporaryDirectory() as place:
                yield name, run(Path(place) / "out")


def _medians(contenders: dict[str, Callable[[Path], dict[str, float]]], rounds: int) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for name, found in _rounds(contenders, rounds):
        runs[name].append(found)
    return {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with mosi_mini and ravdess (or PRIDE_DATA)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the clips, one round")
    options = parser.parse_args()

    clips = _clips(data_dir(options.data))
    small, large, encoded, rounds = (600, 12, 24, 1) if options.quick else (6000, 120, 240, 3)
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="pride-pack-") as name:
        work = Path(name)
        (work / "sources").mkdir()
        sets = {
            "small": _repeated(clips, small, work / "small"),
            "large": _repeated(_generated(work / "sources", 10), large, work / "large"),
        }
        print(f"{'':22}{'MB':>8}{'clips':>8}{'seconds':>10}{'MB/s':>10}")
        for size, folder in sets.items():
            both = {"ours": lambda out, f=folder: _pack(f, out, "copy"), "tar": lambda out, f=folder: _tar(f, out)}
            medians = _medians(both, rounds)
            _show(f"copy, {size}", folder, medians)
            seconds, key = medians["ours"]["seconds"], "copy_vs_tar" if size == "large" else "copy_vs_tar_small"
            ratios |= {
                key: medians["tar"]["seconds"] / seconds,
                f"{key}_unsynced": medians["tar"]["unsynced"] / seconds,
            }
        folder = _repeated(clips, encoded, work / "encoded")
        both = {"ours": lambda out: _pack(folder, out, "proxy"), "ffmpeg": lambda out: _ffmpeg(folder, out)}
        medians = _medians(both, rounds)
        _show("reencode", folder, medians)
        ratios["reencode_vs_ffmpeg"] = medians["ffmpeg"]["seconds"] / medians["ours"]["seconds"]
        ratios |= _compared(work, folder)
        few = _repeated(clips, small // 10, work / "few")
        rss = [_pack(one, work / f"rss-{one.name}", "copy")["rss"] for one in (few, sets["small"])]
        ratios |= {"peak_rss_mib": rss[1], "rss_growth_mib": rss[1] - rss[0]}
    rounded = {name: round(value, 3) for name, value in ratios.items()}
    machine = f"{platform.machine()}, {multiprocessing.cpu_count()} cores"
    print(json.dumps({"benchmark": "pack", "ratios": rounded, "machine": machine, "versions": _versions()}))


def _show(what: str, folder: Path, medians: dict[str, dict[str, float]]) -> None:
    """A line for each contender."""
    size, clips = _bytes(folder), len(list(folder.glob("*.mp4")))
    for name, found in medians.items():
        speed = size / found["seconds"]
        print(f"{what:14}{name:8}{size / 1e6:8.0f}{clips:8}{found['seconds']:10.2f}{speed / 1e6:10.1f}", flush=True)


def _compared(work: Path, folder: Path) -> dict[str, float]:
    """Equal quality, or not: PSNR of both and the bytes they took for it."""
    _pack(folder, work / "shards", "proxy")
    ours, our_size = _quality(_unpacked(work / "shards", work / "ours"), folder)
    _ffmpeg(folder, work / "theirs")
    theirs, their_size = _quality(work / "theirs", folder)
    print(
        f"reencode: PSNR {ours:.2f} dB in {our_size / 1e6:.2f} MB; ffmpeg {theirs:.2f} dB in {their_size / 1e6:.2f} MB"
    )
    return {"psnr_above_ffmpeg_db": ours - theirs, "size_vs_ffmpeg": our_size / their_size}


def _versions() -> dict[str, Any]:
    program = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
    return {"python": sys.version.split()[0], "av": version("av"), "ffmpeg": program}


if __name__ == "__main__":
    main()
