import re
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.look.show import describe, load, summary, write_sample_page
from pride_mm.data.shards import ShardSet
from pride_mm.errors import UserError
from pride_mm.schema import Role


def test_a_page_holds_everything_and_loads_nothing(packed: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(packed)
    split, sample = load(shards, "mosi_1")
    write_sample_page(tmp_path / "sample.html", sample, shards.schema, split)
    page = (tmp_path / "sample.html").read_text()
    assert 'src="data:video/mp4;base64,' in page
    assert 'src="data:audio/flac;base64,' in page
    assert page.count('src="data:image/jpeg;base64,') == 8
    assert "<svg" in page
    assert "I hear you, mosi_1." in page
    assert "Her dog has died" not in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    again = tmp_path / "again.html"
    write_sample_page(again, sample, shards.schema, split)
    assert again.read_text() == page


def test_notes_are_shown_only_when_asked_for(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sample.html"
    assert run(["show", str(packed), "mosi_1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Emotion of the clip: angry" in said
    assert "Her dog" not in said + out.read_text()
    assert run(["show", str(packed), "mosi_1", "--notes", "--out", str(out)]) == 0
    assert "Situation: Her dog has died." in capsys.readouterr().out
    assert "Her dog has died." in out.read_text()


def test_what_is_absent_is_said(packed: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(packed)
    split, sample = load(shards, "rav_0", notes=True)
    lines = {line.label: line for line in describe(sample, shards.schema)}
    assert not lines["Video"].present
    assert lines["Audio"].text.startswith("flac at 16000 Hz, 3.")
    assert all(not line.present for line in lines.values() if line.role is Role.PRIVILEGED)
    assert f"rav_0  ({split}, real)" in summary(sample, shards.schema, split)[0]
    write_sample_page(tmp_path / "sample.html", sample, shards.schema, split)
    assert "Absent: Video" in (tmp_path / "sample.html").read_text()


def test_text_is_escaped(packed: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    shards = ShardSet.open(packed)
    split, sample = load(shards)
    evil = replace(sample, targets={"response": "<script>alert(1)</script>"})
    write_sample_page(tmp_path / "sample.html", evil, shards.schema, split)
    assert "<script>" not in (tmp_path / "sample.html").read_text()


def test_an_unknown_key_is_said(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="No sample 'nobody'"):
        load(ShardSet.open(packed), "nobody")
    assert run(["show", str(packed), "nobody"]) == 2
    assert "No sample" in capsys.readouterr().err
