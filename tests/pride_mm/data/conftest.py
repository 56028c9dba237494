"""Small sets of shards: real dialogues, written by hand so that tests choose how many lie in which shard."""

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import pytest

from pride_mm.data.members import META, encode_value, suffix
from pride_mm.data.shards import MANIFEST, Manifest, ShardRecord, SplitRecord, TarRecord
from pride_mm.data.tar_writer import write_tar
from pride_mm.files import write_json
from pride_mm.schema import Schema, parse_value

TALK = Schema.model_validate(
    {
        "name": "talk",
        "field": [
            {"name": "dialogue", "kind": "dialogue", "role": "input"},
            {"name": "response", "kind": "text", "role": "target"},
        ],
    }
)
WriteTalks = Callable[..., Path]


@pytest.fixture(scope="session")
def talks(data_dir: Path) -> list[list[str]]:
    """The first words of real dialogues."""
    with (data_dir / "empathetic_dialogues" / "train.jsonl").open() as file:
        said = ([turn["text"] for turn in json.loads(line)["turns"]] for line in file)
        return list(islice((turns for turns in said if len(turns) > 1), 300))


@pytest.fixture(scope="session")
def write_talks(talks: list[list[str]]) -> WriteTalks:
    """Write a set of shards of given sizes; the samples of ``broken`` have a dialogue that is no JSON."""

    def write(folder: Path, sizes: Sequence[int], broken: Sequence[str] = (), prefix: str = "k") -> Path:
        records, number = [], 0
        for shard, size in enumerate(sizes):
            samples = []
            for turns in talks[number : number + size]:
                key = f"{prefix}{number:03d}"
                dialogue = parse_value(TALK.dialogue, [{"speaker": "a", "text": turns[0]}])
                said = b"{" if key in broken else encode_value(TALK.dialogue, dialogue)  # type: ignore[arg-type]
                meta = json.dumps({"corpus": "ed", "group": key}).encode()
                reply = encode_value(TALK.response, turns[1])
                samples.append((key, {META: meta, suffix(TALK.dialogue): said, suffix(TALK.response): reply}))
                number += 1
            name = f"train-{shard:06d}"
            written = write_tar(folder / f"{name}.tar", samples)
            tars = {"": TarRecord(sha256=written.sha256, size=written.size)}
            records.append(ShardRecord(name=name, samples=size, tars=tars))
        split = SplitRecord(samples=number, seconds={}, shards=tuple(records))
        manifest = Manifest(schema=TALK, schema_sha256=TALK.sha256, splits={"train": split}, bad={}, tools={})
        write_json(folder / MANIFEST, manifest.model_dump(mode="json", by_alias=True))
        return folder

    return write


@pytest.fixture(scope="session")
def talk_shards(write_talks: WriteTalks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty real dialogues in five shards of unequal size."""
    return write_talks(tmp_path_factory.mktemp("talks"), (13, 7, 20, 1, 9))
