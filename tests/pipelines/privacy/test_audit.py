"""An audit as people run it: what is found and whose it is, who may read notes, what is redacted, and what is kept."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import run
from pipelines.pack import rejoin_notes
from pipelines.privacy.access import access
from pipelines.privacy.finder import Finder
from pride_mm.data.seal import NOTES_KEY
from pride_mm.errors import UserError

Lines = Callable[..., Path]
MAIL, PHONE = "anna.berg@example.org", "(415) 867-5309"
ITEM = {
    "id": "one",
    "corpus": "made",
    "group": "g-1",
    "inputs": {
        "dialogue": [
            {"speaker": "a", "text": f"Write to {MAIL} or {MAIL}.", "start": 0.5, "end": 2.0},
            {"speaker": "boss@example.org", "text": "I will.", "start": None, "end": None},
            {"speaker": "a", "text": "Thanks.", "start": 3.0, "end": 4.0},
        ],
        "video": {"path": "clips/192.168.2.14.mp4", "start": None, "end": None},
    },
    "targets": {"response": "Do it by 10.30, it was ok.so 1984 it is.", "emotion": "sad"},
}
NOTES = {"item": "one", "privileged": {"situation": f"Call her at {PHONE}."}, "how": {"situation": "one annotator"}}


@pytest.fixture(scope="session")
def finder() -> Finder:
    return Finder()


@pytest.fixture
def corpus(tmp_path: Path, write_lines: Lines) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir(mode=0o755)
    write_lines(folder / "items.jsonl", [ITEM])
    write_lines(folder / "privileged.jsonl", [NOTES]).chmod(0o640)
    return folder


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (f"{MAIL}, {PHONE}", ["email", "phone"]),
        ("https://t.me/x and www.foo.com", ["url", "url"]),
        ("4111 1111 1111 1111 and DE89 3704 0044 0532 0130 00", ["card", "iban"]),
        ("192.168.2.14, 00:1B:44:11:3A:B7, 536-22-1234", ["ip", "mac", "ssn"]),
        ("4111 1111 1111 1112 is no card, anna@nowhere.nosuchtld no mail", []),
        ("It was 10.30, 3/4/2019 or 1984. He is 45.So what, me.it 12:30:45", []),
    ],
)
def test_what_is_found_and_what_is_not(finder: Finder, text: str, kinds: list[str]) -> None:
    assert [one.kind for one in finder.find(text)] == kinds


def test_records_are_counted_by_field_and_no_text_is_shown(corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(corpus)]) == 1
    shown = capfd.readouterr()
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["input", "dialogue", "email", "2", "1", "one"] in rows
    assert ["input", "dialogue:", "speaker", "email", "1", "1", "one"] in rows
    assert ["privileged", "situation", "phone", "1", "1", "one"] in rows
    assert "2 samples: 4 findings of email, phone," in shown.out
    assert "names: not looked for; give --names MODEL" in shown.out
    assert re.search(r"privileged.jsonl +no +-rw-r----- ", shown.out)
    assert "Clips of 1 samples: not looked into" in shown.out
    for text in (MAIL, PHONE, "867", "boss", "Call her"):
        assert text not in shown.out + shown.err


def test_what_is_redacted_keeps_its_times_and_is_clean(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "redacted"
    assert run(["audit", str(corpus), "--redact", str(out)]) == 1
    item, notes = (json.loads((out / name).read_text()) for name in ("items.jsonl", "privileged.jsonl"))
    wanted = json.loads(json.dumps(ITEM))
    wanted["inputs"]["dialogue"][0]["text"] = "Write to <EMAIL> or <EMAIL>."
    wanted["inputs"]["dialogue"][1]["speaker"] = "speaker 1"
    assert item == wanted
    assert notes == NOTES | {"privileged": {"situation": "Call her at <PHONE>."}}
    assert run(["audit", str(out / "items.jsonl")]) == 0
    (out / "privileged.jsonl").chmod(0o600)
    assert run(["audit", str(corpus), str(out), "--redact", str(tmp_path / "both")]) == 2
    assert not (tmp_path / "both").exists(), "two files of one name would be one"
    assert run(["audit", str(out)]) == 0


def test_names_are_found_by_the_model_that_is_given(corpus: Path, tmp_path: Path) -> None:
    import spacy

    model = spacy.blank("en")
    model.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Anna Berg"}])  # type: ignore[attr-defined]
    model.to_disk(tmp_path / "model")
    found = Finder(str(tmp_path / "model")).find(f"Anna Berg is at {MAIL}.")
    assert [one.kind for one in found] == ["name", "email"]
    with pytest.raises(UserError, match="--names takes a spaCy model"):
        Finder(str(corpus))


def test_notes_that_everybody_may_read_are_a_finding(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    open_folder = tmp_path / "open"
    shards = Path(shutil.copytree(packed, open_folder / "shards"))
    tars = sorted(shards.glob("*.privileged.tar"))
    assert run(["audit", str(shards)]) == 0, "packed, they are nobody else's"
    reached = all(os.stat(folder).st_mode & 0o001 for folder in shards.resolve().parents)
    tars[0].chmod(0o644)
    if not reached:  # a private folder above keeps everybody out
        assert not access(tars[0]).open
        monkeypatch.setattr("pipelines.privacy.access._reached", lambda path, wanted: True)
    capfd.readouterr()
    assert run(["audit", str(shards)]) == 1
    shown = capfd.readouterr()
    assert re.search(rf"{tars[0].name} +no +-rw-r--r-- .*everybody", shown.out)
    assert "Everybody on this machine may read 1 files of notes: chmod o-r, or pack with --encrypt" in shown.err
    monkeypatch.setenv(NOTES_KEY, "cd" * 32)
    rejoin_notes(shards, [], encrypt=True)
    tars[0].chmod(0o644)
    assert run(["audit", str(shards)]) == 0, "encrypted, they may be read by whom they may"
    assert re.search(rf"{tars[0].name} +yes +-rw-r--r-- ", capfd.readouterr().out)
    monkeypatch.delenv(NOTES_KEY)
    assert run(["audit", str(shards)]) == 0
    assert f"{len(tars)} tars of notes were not looked into" in capfd.readouterr().out
    assert run(["audit", str(shards), "--redact", str(tmp_path / "out")]) == 2
    assert "redact the items and notes, then pack them" in capfd.readouterr().err


def test_any_lines_of_json_can_be_looked_at(tmp_path: Path, write_lines: Lines, finder: Finder) -> None:
    raw: dict[str, Any] = {"turns": [{"text": f"I am at {MAIL}"}], "dialogue": "d1"}
    path = write_lines(tmp_path / "raw.jsonl", [raw, "{broken"])
    assert run(["audit", str(path)]) == 1
    assert run(["audit", str(path), "--redact", str(tmp_path / "out")]) == 2, "a line that is none is not dropped"
