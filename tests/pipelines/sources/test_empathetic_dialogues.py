import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from pride_mm.errors import UserError
from pride_mm.schema import load_schema


@pytest.fixture
def lines(data_dir: Path) -> list[dict]:
    with (data_dir / "empathetic_dialogues" / "valid.jsonl").open() as file:
        return [json.loads(next(file)) for _ in range(20)]


def test_limit_shares_dialogues_among_the_official_splits(take_in, data_dir) -> None:
    items, annotations, _ = take_in("empathetic_dialogues", data_dir / "empathetic_dialogues", limit=100)
    groups = {item.group: item.split for item in items}
    # shared by the files' sizes; of the 77 of the training split, one ends before the listener has said a word
    assert Counter(groups.values()) == {"train": 76, "valid": 12, "test": 11}
    assert {a.item for a in annotations} == {item.id for item in items}
    assert {a.origin for a in annotations} == {"corpus"}
    assert all("situation" in a.values for a in annotations)
    assert all(item.targets.keys() == {"emotion", "response"} for item in items)


def test_every_answer_is_an_item_with_the_turns_before_it(take_in, tmp_path, lines) -> None:
    path = tmp_path / "valid.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    items, _, _ = take_in("empathetic_dialogues", path)
    said = {(line["conv_id"], n): t["text"].strip() for line in lines for n, t in enumerate(line["turns"])}
    assert len(items) == sum(t["speaker"] == "listener" for line in lines for t in line["turns"])
    for item in items:
        before = item.inputs["dialogue"]
        assert item.targets["response"] == said[item.group, len(before)]
        assert [turn.text for turn in before] == [said[item.group, n] for n in range(len(before))]


def original(path: Path, lines: list[dict]) -> None:
    """The original form: an utterance a line, commas escaped, nothing quoted."""
    rows = ["conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags"]
    for line in lines:
        for number, turn in enumerate(line["turns"], 1):
            cells = [line["conv_id"], number, line["emotion"], line["situation"], number % 2, turn["text"], "5|5|5", ""]
            rows.append(",".join(str(cell).replace(",", "_comma_") for cell in cells))
    path.write_text("\n".join(rows) + "\n")


def test_the_original_csv_gives_the_same_items(take_in, tmp_path, lines) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "valid.jsonl").write_text("\n".join(map(json.dumps, lines)))
    original(tmp_path / "b" / "valid.csv", lines)
    from_lines = take_in("empathetic_dialogues", tmp_path / "a")
    from_table = take_in("empathetic_dialogues", tmp_path / "b")
    assert from_table[:2] == from_lines[:2]
    assert any("," in turn.text for item in from_table[0] for turn in item.inputs["dialogue"])


def test_datasets_gives_the_same_items(take_in, tmp_path, lines) -> None:
    from datasets import load_dataset

    original(tmp_path / "valid.csv", lines)
    with (tmp_path / "valid.csv").open() as file:
        rows = list(csv.DictReader(file, quoting=csv.QUOTE_NONE))
    (tmp_path / "hub").mkdir()
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    table = load_dataset("json", data_files=str(tmp_path / "rows.json"), split="train", cache_dir=str(tmp_path / "c"))
    table.to_parquet(str(tmp_path / "hub" / "validation.parquet"))
    assert (
        take_in("empathetic_dialogues", tmp_path / "hub")[:2]
        == take_in("empathetic_dialogues", tmp_path / "valid.csv")[:2]
    )


def test_all_emotions_fit_the_schema_of_clips(take_in, data_dir) -> None:
    options = load_schema("pride").get("emotion").options
    items, _, bad = take_in("empathetic_dialogues", data_dir / "empathetic_dialogues" / "test.jsonl", schema="pride")
    assert not len(bad)
    assert {item.targets["emotion"] for item in items} == set(options) - {"neutral"}


def test_bad_dialogues_are_named_and_the_rest_kept(take_in, tmp_path, lines) -> None:
    written = [json.dumps(line) for line in lines]
    written[2] = written[2][: len(written[2]) // 2]
    written[4] = json.dumps({**lines[4], "emotion": "bemused"})
    written[6] = written[5]
    written[8] = json.dumps({**lines[8], "turns": "none"})
    path = tmp_path / "valid.jsonl"
    path.write_text("\n".join(written))
    items, _, bad = take_in("empathetic_dialogues", path, max_bad=40)
    found = {(error.place, error.field) for error in bad}
    assert found == {
        ("valid.jsonl:3", None),
        ("valid.jsonl:5", "emotion"),
        ("valid.jsonl:7", None),
        ("valid.jsonl:9", None),
    }
    assert any("already given at valid.jsonl:6" in str(error) for error in bad)
    assert {item.group for item in items} == {lines[n]["conv_id"] for n in range(20) if n not in (2, 4, 6, 8)}


def test_a_dialogue_torn_apart_is_named(take_in, tmp_path, lines) -> None:
    original(tmp_path / "valid.csv", lines)
    head, *rows = (tmp_path / "valid.csv").read_text().splitlines()
    torn = [head, *rows[1:], rows[0]]  # the first utterance of the first dialogue lies at the end
    (tmp_path / "valid.csv").write_text("\n".join(torn) + "\n")
    items, _, bad = take_in("empathetic_dialogues", tmp_path / "valid.csv", max_bad=1)
    assert [error.place for error in bad] == [f"valid.csv:{len(rows) + 1}"]
    assert "a dialogue that began at valid.csv:2" in str(next(iter(bad)))
    assert {item.group for item in items} == {line["conv_id"] for line in lines}


def test_rows_that_are_no_dialogues_are_refused(take_in, data_dir) -> None:
    with pytest.raises(UserError, match=r"lacks the columns conv_id, text, utterance_idx \(it has: table, line, file"):
        take_in("empathetic_dialogues", data_dir / "ravdess" / "manifest.csv")


def test_nothing_there_says_what_to_give(take_in, tmp_path) -> None:
    with pytest.raises(UserError, match=r"No manifest at .*: give a file ending in"):
        take_in("empathetic_dialogues", tmp_path / "nowhere")
