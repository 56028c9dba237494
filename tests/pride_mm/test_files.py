"""A file is whole or not there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pride_mm.files import whole_file, write_bytes, write_json, write_jsonl, write_text


def test_it_appears_at_the_end_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.bin"
    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.bin"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b"old"])
def test_stopped_it_leaves_nothing_under_its_name(
    tmp_path: Path, stop: type[BaseException], before: bytes | None
) -> None:
    path = tmp_path / "b.bin"
    if before is not None:
        path.write_bytes(before)

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            file.flush()
            raise stop

    with pytest.raises(stop):
        write()
    assert (path.read_bytes() if path.exists() else None) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if before is None else ["b.bin"])


def test_what_was_left_by_a_lost_machine_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b.bin.partial").write_bytes(b"half of something longer")
    write_bytes(tmp_path / "b.bin", b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("b.bin", b"new")]


def test_a_folder_in_its_place_stays(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "b", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


def test_text_and_json_are_utf8_in_the_order_given(tmp_path: Path) -> None:
    write_text(tmp_path / "t", "Grüße\n")
    assert (tmp_path / "t").read_bytes() == "Grüße\n".encode()
    write_json(tmp_path / "j", {"z": "ß", "a": [1]})
    assert (tmp_path / "j").read_text(encoding="utf-8") == '{\n  "z": "ß",\n  "a": [\n    1\n  ]\n}\n'


def test_lines_are_counted_and_a_record_that_fails_leaves_none(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"text": "two\nlines", "n": n} for n in range(3)]
    assert write_jsonl(tmp_path / "l", iter(records)) == 3
    lines = (tmp_path / "l").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records

    def failing() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_jsonl(tmp_path / "m", failing())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["l"]
