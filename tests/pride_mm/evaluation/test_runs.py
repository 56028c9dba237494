"""Runs beside each other, as they stand on disk."""

import json
import re
import shutil

import pytest

from pipelines.cli import run
from pride_mm.errors import UserError
from pride_mm.evaluation.runs import answered, differing, read_runs, write_runs


def line(step, split, seconds=2.0, **terms):
    return json.dumps({"step": step, "split": split, "terms": terms, "lr": 1e-3, "seconds": seconds}) + "\n"


@pytest.fixture
def folder(tmp_path, runs):
    """A run that has ended, for real, and one that has just begun."""
    trained = runs[0]
    shutil.copytree(trained, tmp_path / "one")
    begun = tmp_path / "two"
    begun.mkdir()
    given = json.loads((trained / "settings.json").read_text())
    given["optim"] = {"lr": 0.5}
    (begun / "settings.json").write_text(json.dumps(given))
    lines = [line(n, "train", total=9.0 - n, tokens=100.0 * n, data_wait=0.5) for n in (1, 2, 3)]
    (begun / "metrics.jsonl").write_text("".join(lines) + '{"step": 4, "spl')
    return tmp_path


def test_what_stands_on_disk(folder, runs):
    one, two = read_runs(folder)
    last = [json.loads(text) for text in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    losses = {said["step"]: said["terms"]["total"] for said in last if said["split"] == "valid"}
    assert (one.name, one.finished, one.loss) == ("one", True, min(losses.values()))
    assert losses[one.at] == one.loss
    assert (two.finished, two.loss, two.at, two.steps) == (False, None, None, 3)
    assert two.speed == 100.0
    assert two.waiting == 0.25
    assert differing([one, two]) == {"optim.lr": [None, 0.5]}
    assert [found.name for found in read_runs(folder / "one")] == ["one"]


def test_the_table_fits_80_columns_and_the_page_opens_offline(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["runs", str(folder), "--report", str(folder / "runs.html")]) == 0
    said = capsys.readouterr().out
    assert "optim.lr" in said
    assert all(len(text) <= 80 for text in said.splitlines() if str(folder) not in text)
    page = (folder / "runs.html").read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*https?:""", page)
    assert "<script" not in page
    assert "not finished" in page
    assert "<svg" in page


def test_what_they_answered_last_is_side_by_side_and_escaped(folder):
    asked = [("a", 3, "old"), ("a", 6, "<b>new</b>"), ("b", 6, "")]
    lines = [
        {"step": step, "key": key, "said": "Hi & bye", "answer": said, "expert": None} for key, step, said in asked
    ]
    (folder / "two" / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"step": 9, "k')
    one, two = read_runs(folder)
    assert [(line["key"], answers) for line, answers in answered([one, two])] == [
        ("a", [None, "<b>new</b>"]),
        ("b", [None, ""]),
    ]
    write_runs(folder / "runs.html", [one, two])
    page = (folder / "runs.html").read_text()
    assert "&lt;b&gt;new&lt;/b&gt;" in page
    assert "Hi &amp; bye" in page
    assert "(nothing)" in page
    assert "<b>new" not in page
    assert "outdated" not in page


def test_the_same_runs_make_the_same_page(folder):
    for name in ("a.html", "b.html"):
        write_runs(folder / name, read_runs(folder))
    assert (folder / "a.html").read_bytes() == (folder / "b.html").read_bytes()


def test_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match=r"No run in .*pride train --out"):
        read_runs(tmp_path)
