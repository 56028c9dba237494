"""``pride export``, ``pride chat`` and ``pride predict`` as typed."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.cli import run, terminal

TURNS = [{"speaker": "a", "text": "Once upon a time I lost my dog."}]


def test_one_line(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", str(artifact), "--say", "Once upon a time", "--max-tokens", "6"]) == 0
    shown = capsys.readouterr()
    assert "no therapist" in shown.err
    assert re.search(r"(?m)^emotion of the clip: +\w+ \d+ %, \w+ \d+ %", shown.out)
    assert re.search(r"looked at: +dialogue summary \d+ %, nothing \d+ %", shown.out)


def test_a_talk_goes_on_after_a_mistake(
    artifact: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["/emotion", "/attach gone.mp4", "/what", "Hello", "/emotion", "/reset", "/emotion", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    assert run(["chat", str(artifact), "--max-tokens", "4"]) == 0
    shown = capsys.readouterr()
    assert "No file at gone.mp4" in shown.err
    before, _, after = shown.out.partition("Forgotten.")
    assert "looked at:" in before
    assert after.split() == ["Say", "something", "first."]
    assert before.count("Say something first.") == 1


def test_a_person_in_danger_is_referred(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["chat", str(artifact), "--say", "I want to kill myself.", "--max-tokens", "4"]
    assert run(said) == 0
    assert "call your local emergency services" in " ".join(capsys.readouterr().out.split())
    mine = tmp_path / "mine.toml"
    mine.write_text('[referral]\ntext = "Ring the bell."\n[patterns]\nmine = ["kill myself"]\n')
    assert run([*said, "--safety", str(mine)]) == 0
    assert "Ring the bell." in capsys.readouterr().out
    assert run([*said, "--safety", "off"]) == 0
    assert "emergency" not in capsys.readouterr().out


def test_an_answer_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=shown, width=12, force_terminal=True, highlight=False))
    terminal.say_as_it_comes(iter(["It is", " a lo", "ng [way] to T", "ipperary, they say", "\nhere"]))
    assert shown.getvalue().splitlines() == ["It is a long", "[way] to ", "Tipperary, ", "they say", "here"]


def test_bad_lines_are_named_and_the_rest_is_answered(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, out = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    lines = [{"dialogue": TURNS}, {"dialogue": TURNS, "situation": "a quokka died"}, {"dialogue": TURNS}]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"dialogue": [{"sp')
    command = ["predict", str(artifact), str(requests), "--out", str(out), "--max-tokens", "4"]
    assert run(command) == 1
    shown = capsys.readouterr()
    assert "requests.jsonl:2" in shown.err
    assert "'situation' is no input" in shown.err
    assert "requests.jsonl:4: not JSON" in shown.err
    assert "quokka" not in shown.err + shown.out
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["line"] for answer in answers] == [1, 3]
    assert answers[0]["text"] == answers[1]["text"]
    out.unlink()
    assert run([*command, "--max-bad", "0"]) == 2
    assert not out.exists()


def test_no_artifact_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", str(tmp_path / "gone"), "--say", "hi"]) == 2
    assert "pride export" in capsys.readouterr().err
    assert run(["export", str(tmp_path), "--out", str(tmp_path / "a")]) == 2
    assert "pride train" in capsys.readouterr().err
