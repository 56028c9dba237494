"""The clips that are streamed: MOSI, RAVDESS and generated ones, packed plainly and as proxies, and plainly many times.

A sample is many samples under keys of their own: what a loader does a sample is what is measured, and its bytes are
those of a real one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCHEMA = "pride"
PRIDE = Path(sys.executable).parent / "pride"


@dataclass(frozen=True)
class Size:
    """How much of each corpus, how many samples in all, and how often everything is measured."""

    mosi: int
    ravdess: int
    demo: int
    samples: int
    rounds: int
    grown: int

    @property
    def clips(self) -> int:
        return self.mosi + self.ravdess + self.demo


FULL, QUICK = Size(80, 40, 8, 3000, 5, 10_000), Size(10, 6, 2, 384, 1, 500)
SHARD = 100


def data_dir(given: Path | None) -> Path:
    """Where the real data lies: as told, ``PRIDE_DATA``, or the folder ``shared/data`` beside the checkout."""
    folder = given or Path(os.environ.get("PRIDE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "mosi_mini").is_dir():
        sys.exit(f"Needs MOSI and RAVDESS: give their folder by --data or PRIDE_DATA (looked at {folder}).")
    return folder.resolve()


def prepare(data: Path, work: Path, size: Size) -> None:
    """Write ``plain``, ``proxy`` and ``many`` into ``work``."""
    from pipelines.pack import PackSettings, pack
    from pride_mm.config import find_config, load_settings
    from pride_mm.schema import load_schema

    path = work / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in _items(data, work, size)))
    for name, settings in (("plain", "copy"), ("proxy", "proxy")):
        chosen = load_settings(PackSettings, find_config("pack", settings))
        pack([path], load_schema(SCHEMA), work / name, settings=chosen, max_bad=0)
    _repeat(work / "proxy", work / "many", size.samples)


def _items(data: Path, work: Path, size: Size) -> Iterator[dict[str, object]]:
    given = (
        ("mosi", data / "mosi_mini", size.mosi),
        ("ravdess", data / "ravdess", size.ravdess),
        ("demo", None, size.demo),
    )
    for corpus, folder, limit in given:
        out = work / f"items-{corpus}"
        places = [str(folder)] if folder else []
        command = [str(PRIDE), "ingest", corpus, *places, "--limit", str(limit), "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for line in (out / "items.jsonl").read_text().splitlines():
            item = json.loads(line)
            for value in item["inputs"].values():
                if isinstance(value, dict):
                    value["path"] = str((out / value["path"]).resolve())
            yield {**item, "split": "train"}


def _repeat(given: Path, out: Path, samples: int) -> None:
    """The same samples again and again, under keys of their own, in many shards."""
    from pride_mm.data.shards import MANIFEST, ShardRecord, ShardSet, SplitRecord, TarRecord
    from pride_mm.data.tar_writer import write_tar
    from pride_mm.files import write_json

    shards = ShardSet.open(given)
    reader = shards.samples("train")
    members = [(reader.key(place), reader.members(place)) for place in range(len(reader))]
    records = []
    for begin in range(0, samples, SHARD):
        name, end = f"train-{begin // SHARD:06d}", min(begin + SHARD, samples)
        chosen = ((number, *members[number % len(members)]) for number in range(begin, end))
        written = write_tar(
            out / f"{name}.tar", ((f"n{number:06d}_{key}"[:64], parts) for number, key, parts in chosen)
        )
        record = TarRecord(sha256=written.sha256, size=written.size)
        records.append(ShardRecord(name=name, samples=written.samples, tars={"": record}))
    split = SplitRecord(samples=samples, seconds={}, shards=tuple(records))
    manifest = shards.manifest.model_copy(update={"splits": {"train": split}})
    write_json(out / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
