"""Items into a real Label Studio and annotations out of it, beside the SDK used plainly.

``python -m benchmarks.label [--tasks N] [--quick]``. A server of its own is started on an empty folder. N tasks with
two annotations each go in and come out, at a tenth of N and at N; each contender in a process of its own, in turn, in
the same run. Plain means: the tasks are ready-made JSON in a list, ``projects.import_tasks`` in one call; out by a
loop over ``tasks.list(fields="all")`` that keeps task and annotation dicts and writes them (``list``), or by
``projects.exports.as_json``, a snapshot, which leaves a copy of all notes on the server's disk and knows no drafts
(``snapshot``). Ours reads and checks items and annotations from JSON lines, and writes records. Memory is what
a process grows by at its peak over what it held before it began.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.losses import _give_back, _resident

SCHEMA = "empathetic_dialogues"
WORDS = "we had planned the whole summer around it and then it simply fell through "


def _items(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        talk = [{"speaker": "ab"[turn % 2], "text": f"{number}.{turn} {WORDS}"} for turn in range(6)]
        yield {"id": f"i-{number:06d}", "corpus": "made", "group": f"g-{number}", "inputs": {"dialogue": talk}}


def _annotations(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        for annotator in ("ana", "ben"):
            values = {"situation": f"{number}: {WORDS * 3}", "emotion": "sad", "response": f"{annotator}: {WORDS}"}
            yield {"item": f"i-{number:06d}", "annotator": annotator, "origin": "corpus", "values": values}


def _write(folder: Path, count: int) -> None:
    """The same items and annotations for both: as records, and as tasks ready for the SDK."""
    for name, records in (("items", _items(count)), ("annotations", _annotations(count))):
        with (folder / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    given = _annotations(count)
    tasks = []
    for item in _items(count):
        of_item = [next(given), next(given)]
        results = [
            [
                {"id": f"{name}-0", "from_name": name, "to_name": "dialogue", "type": kind, "value": {key: [value]}}
                for (name, value), (kind, key) in zip(one["values"].items(), _FORMS, strict=True)
            ]
            for one in of_item
        ]
        data = {"Item": item["id"], "Fps": 0.0, "dialogue": item["inputs"]["dialogue"]}
        tasks.append({"data": data, "annotations": [{"result": result} for result in results]})
    (folder / "tasks.json").write_text(json.dumps(tasks))


_FORMS = (("textarea", "text"), ("choices", "choices"), ("textarea", "text"))


def _push_ours(studio: Any, folder: Path, title: str) -> None:
    from annotate.exchange.project import Project
    from pride_mm.errors import BadSamples
    from pride_mm.records import read_annotations, read_items
    from pride_mm.schema import load_schema

    schema, bad = load_schema(SCHEMA), BadSamples(0)
    given = read_annotations(folder / "annotations.jsonl", schema, bad)
    Project(studio, schema, title).push(read_items(folder / "items.jsonl", schema, bad), None, given, bad)


def _push_plain(studio: Any, folder: Path, title: str) -> None:
    tasks = json.loads((folder / "tasks.json").read_text())
    studio.client.projects.import_tasks(id=_number(studio, f"{title} plain"), request=tasks)


def _pull_ours(studio: Any, folder: Path, title: str) -> None:
    from annotate.exchange.project import Project
    from annotate.exchange.pulling import pull_file
    from pride_mm.schema import load_schema

    pull_file(Project(studio, load_schema(SCHEMA), title), b"k" * 32, folder / "pulled.jsonl")


def _pull_list(studio: Any, folder: Path, title: str) -> None:
    listed = studio.client.tasks.list(project=_number(studio, f"{title} plain"), fields="all")
    tasks = [{"data": task.data, "annotations": task.annotations} for task in listed]
    (folder / "list.json").write_text(json.dumps(tasks, default=str))


def _pull_snapshot(studio: Any, folder: Path, title: str) -> None:
    tasks = studio.client.projects.exports.as_json(_number(studio, f"{title} plain"), timeout=600)
    (folder / "snapshot.json").write_text(json.dumps(tasks))


def _number(studio: Any, title: str) -> int:
    return next(project.id for project in studio.client.projects.list() if project.title == title)


CONTENDERS: dict[str, Callable[[Any, Path, str], None]] = {
    "push ours": _push_ours,
    "push plain": _push_plain,
    "pull ours": _pull_ours,
    "pull list": _pull_list,
    "pull snapshot": _pull_snapshot,
}


def _prepare(studio: Any, title: str) -> None:
    """A project with the same page for the plain contender."""
    from annotate.page.label_config import Page, label_config
    from pride_mm.schema import load_schema

    config = label_config(Page(load_schema(SCHEMA), ()))
    studio.client.projects.create(title=f"{title} plain", label_config=config)


def _measured(name: str, url: str, token: str, folder: str, title: str, answer: Any) -> None:
    """In a process of its own: sends (seconds, peak bytes over what it held before)."""
    from annotate.studio import connect

    studio = connect(url, token, timeout=1800)
    import annotate.exchange.pulling
    import annotate.exchange.pushing  # noqa: F401

    _give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins now
    before, start = _resident(), time.perf_counter()
    CONTENDERS[name](studio, Path(folder), title)
    seconds = time.perf_counter() - start
    answer.send((seconds, max(0, _peak() - before)))


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _run(name: str, url: str, token: str, folder: Path, title: str) -> tuple[float, int]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(name, url, token, str(folder), title, theirs))
    process.start()
    theirs.close()
    result: tuple[float, int] = mine.recv()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000, help="how many; a tenth of them is measured too")
    parser.add_argument("--quick", action="store_true", help="1,000 tasks")
    given = parser.parse_args()
    most = 1_000 if given.quick else given.tasks
    sizes = (max(1, most // 10), most)
    from annotate.server.local import LocalServer
    from annotate.studio import connect

    found: dict[tuple[str, int], tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as temporary, LocalServer(Path(temporary) / "ls", 0) as server:
        studio = connect(server.url, server.credentials.token)
        for size in sizes:
            folder, title = Path(temporary) / str(size), f"Benchmark {size}"
            folder.mkdir()
            _write(folder, size)
            _prepare(studio, title)
            for name in CONTENDERS:
                found[name, size] = _run(name, server.url, server.credentials.token, folder, title)
                print(f"  {size} {name}: {found[name, size][0]:.1f} s", file=sys.stderr, flush=True)
    _report(found, sizes)


def _report(found: dict[tuple[str, int], tuple[float, int]], sizes: tuple[int, int]) -> None:
    print("two annotations a task")
    print(f"{'':16}" + "".join(f"{size:>12,} tasks" for size in sizes) + f"{'grows by':>14}")
    for name in CONTENDERS:
        cells = [f"{size / found[name, size][0]:8.0f}/s {found[name, size][1] / 2**20:4.0f} MiB" for size in sizes]
        grown = (found[name, sizes[1]][1] - found[name, sizes[0]][1]) / 2**20
        print(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells) + f"{grown:10.0f} MiB")

    def ratio(ours: str, theirs: str) -> float:
        return round(found[theirs, sizes[1]][0] / found[ours, sizes[1]][0], 3)

    grown = max(found[name, sizes[1]][1] - found[name, sizes[0]][1] for name in ("push ours", "pull ours"))
    ratios = {
        "push_vs_sdk": ratio("push ours", "push plain"),
        "pull_vs_sdk": ratio("pull ours", "pull list"),
        "pull_vs_snapshot": ratio("pull ours", "pull snapshot"),
        "rss_growth_mib": round(grown / 2**20, 1),
    }
    versions = {"python": sys.version.split()[0], "label-studio-sdk": version("label-studio-sdk")}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": "label", "ratios": ratios, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
