"""The README says nothing that isn't so."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_file_map_equals_the_tree():
    mapped = set(re.findall(r"^\| `([a-z_]+/(?:[a-z_]+/)?)` \|", README, re.MULTILINE))
    folders = {"configs/", "annotate/", "pipelines/", "benchmarks/", "docs/", "tests/", "requirements/", "pride_mm/"}
    rooms = {
        f"{house}/{path.name}/"
        for house in ("pride_mm", "annotate")
        for path in (ROOT / house).iterdir()
        if path.is_dir() and "__" not in path.name
    }
    assert mapped == folders | rooms


def test_every_file_that_it_names_exists():
    for name in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / name).exists(), name
    listed = next(line for line in README.splitlines() if line.startswith("| `pride_mm/` |"))
    for name in re.findall(r"`([a-z_]+\.py)`", listed):
        assert (ROOT / "pride_mm" / name).exists(), name


def test_its_first_change_is_a_field_that_the_schema_takes(tmp_path):
    from pride_mm.schema import load_schema

    field = re.search(r"```toml\n(.*?)```", README, re.DOTALL)[1]
    path = tmp_path / "changed.toml"
    path.write_text((ROOT / "configs/schema/pride.toml").read_text() + "\n" + field)
    assert load_schema(path).get("coping") in load_schema(path).privileged


@pytest.mark.parametrize("target", ["demo", "test", "setup", "lint", "docs", "wheel"])
def test_make_has_the_targets(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_its_python_streams_shards(tmp_path, monkeypatch):
    from pipelines.pack import pack
    from pride_mm.schema import load_schema

    said = [{"speaker": "a", "text": "I got the job."}]
    items = [
        {"id": f"i-{number}", "corpus": "made", "group": f"g-{number}", "split": "train", "inputs": {"dialogue": said}}
        for number in range(70)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item | {"targets": {}}) + "\n" for item in items))
    pack([tmp_path / "items.jsonl"], load_schema("pride"), tmp_path / "shards", workers=1)
    monkeypatch.chdir(tmp_path)
    shown = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    found = {}
    exec(shown, found)
    seen = [sample.key for batch in found["loader"] for sample in batch]
    assert sorted(seen) == sorted(item["id"] for item in items)
    assert json.loads(json.dumps(found["state"])) == found["state"]
