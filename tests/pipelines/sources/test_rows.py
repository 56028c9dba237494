"""Tables in every form, good and broken."""

import json
from pathlib import Path

import pytest

from pipelines.sources import Request
from pipelines.sources.corpus import Table, load_corpus
from pipelines.sources.intake import ingest
from pipelines.sources.rows import read_rows
from pipelines.sources.tables import find_parts, shares
from pride_mm.errors import BadSamples, UserError
from pride_mm.schema import load_schema

ROWS = [{"id": "a", "text": 'one, "two"\nthree'}, {"id": "b", "text": "ünï"}]


def write(path: Path) -> Path:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".json":
        path.write_text("\ufeff " + json.dumps(ROWS, indent=1), encoding="utf-8")
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["id", "text"], dialect="excel-tab" if path.suffix == ".tsv" else "excel")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"])
def test_every_form_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"manifest.{suffix}")
    assert [row.columns for row in read_rows(path, BadSamples(0))] == ROWS
    (part,) = find_parts(str(tmp_path), Table())
    assert [row.columns for row in part.rows(BadSamples(0))] == ROWS
    assert part.columns in (None, ["id", "text"])


def test_json_lines_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("\n".join(map(json.dumps, ROWS)))
    rows = list(read_rows(tmp_path / "x.json", BadSamples(0)))
    assert [(row.place, row.columns) for row in rows] == [("x.json:1", ROWS[0]), ("x.json:2", ROWS[1])]


@pytest.mark.parametrize(
    ("name", "data", "read", "named"),
    [
        (
            "x.json",
            b'[{"a": 1}, 5, {"a": secret}]',
            1,
            ["x.json: entry 2: not a JSON object", "x.json: entry 3: not JSON"],
        ),
        ("x.json", b'[{"a": 1}, {"a": "secret of J\xf6rg"}]', 1, ["x.json: entry 2: not JSON"]),
        ("x.json", b'[{"a": 1}, {"a": ', 1, ["x.json: entry 2: not JSON"]),
        ("x.json", b"[" * 100_000, 0, ["x.json: entry 1: not JSON"]),
        ("x.parquet", b"PAR1 secret", 0, ["x.parquet:1: not Parquet (ArrowInvalid)"]),
        (
            "x.jsonl",
            b'{"a": 1}\n{"a": secret\n[]\n{"a": 2}',
            2,
            ["x.jsonl:2: not JSON", "x.jsonl:3: not a JSON object"],
        ),
        ("x.csv", b'a,b\n1,2\n1,2,3\n"secret\n', 1, ["x.csv:3: 3 cells for 2 columns", "x.csv:4: not CSV"]),
    ],
)
def test_what_is_broken_is_named_and_the_rest_read(
    name: str, data: bytes, read: int, named: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    bad = BadSamples(5)
    assert len(list(read_rows(tmp_path / name, bad))) == read
    assert len(bad) == len(named)
    for error, said in zip(bad, named, strict=True):
        assert str(error).startswith(said)
        assert "secret" not in str(error)


def test_folders_and_files_that_are_no_tables_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No manifest at .*x.csv: give a file ending in .csv"):
        find_parts(str(tmp_path / "x.csv"), Table())
    with pytest.raises(UserError, match="holds 0 manifests"):
        find_parts(str(tmp_path), Table())
    with pytest.raises(UserError, match=r"no train.json in it"):
        find_parts(str(tmp_path), Table(files=("train.json",)))
    write(tmp_path / "manifest.csv")
    write(tmp_path / "manifest.json")
    with pytest.raises(UserError, match="holds 2 manifests"):
        find_parts(str(tmp_path), Table())
    (tmp_path / "twice.csv").write_text("a,b,a\n")
    with pytest.raises(UserError, match="has the column a twice"):
        find_parts(str(tmp_path / "twice.csv"), Table())


def test_splits_are_read_in_their_order(tmp_path: Path) -> None:
    for name in ("test", "dev", "train", "other"):
        write(tmp_path / f"{name}.csv")
    assert [part.name for part in find_parts(str(tmp_path), Table())] == ["train", "dev", "test", "other"]


@pytest.mark.parametrize(("limit", "shared"), [(None, [None] * 3), (10, [6, 3, 1]), (3, [1, 1, 1]), (2, [1, 1, 0])])
def test_a_limit_is_shared_by_size(limit: int | None, shared: list, tmp_path: Path) -> None:
    for name, size in (("train", 600), ("dev", 300), ("test", 100)):
        (tmp_path / f"{name}.csv").write_text("a\n" + "x" * (size - 2))
    parts = find_parts(str(tmp_path), Table())
    found = shares(parts, limit)
    assert found == shared
    assert limit is None or sum(found) == limit


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells how much memory a process holds")
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    rows = ({"id": f"r{n}", "group": "g", "dialogue": f"words {n} " * 100} for n in range(3000))
    with (tmp_path / "manifest.json").open("w") as file:
        file.write("[" + ",".join(map(json.dumps, rows)) + "]")
    held = {}

    def look(done: int, total: int | None = None, note: str = "") -> None:
        if done in (1000, 3000):
            held[done] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    path, out = str(tmp_path / "manifest.json"), tmp_path / "out"
    request = Request(load_corpus("clips"), load_schema("pride"), path, out, progress=look)
    assert ingest(request, BadSamples(0)).items == 3000
    # 2,000 rows more are 1.7 MB of words
    assert held[3000] - held[1000] < 500_000
