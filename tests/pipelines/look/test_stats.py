import re
import shutil
from pathlib import Path

import pytest

from pipelines.cli import run
from pipelines.look.stats import gather
from pride_mm.data import reader
from pride_mm.data.shards import ShardSet


def test_it_counts_what_was_packed_without_reading_media(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet.open(packed)
    read: list[int] = []
    pread = reader.pread_members

    def noting(*given):  # type: ignore[no-untyped-def]
        members = pread(*given)
        read.append(sum(map(len, members.values())))
        return members

    monkeypatch.setattr(reader, "pread_members", noting)
    stats = gather(shards)
    assert sum(one.samples for one in stats.values()) == 14
    assert sum(one.present["audio"] for one in stats.values()) == 14
    assert sum(one.present["video"] for one in stats.values()) == 12
    assert sum(one.values["emotion"]["sad"] for one in stats.values()) == 13
    assert sum(one.values["emotion"]["angry"] for one in stats.values()) == 1
    assert sum(one.present["situation"] for one in stats.values()) == 1
    assert sum(sum(one.turns) for one in stats.values()) == 14
    manifest = shards.manifest.splits
    for split, one in stats.items():
        assert one.hours("audio") == pytest.approx(manifest[split].seconds["audio"] / 3600, rel=1e-3)
    assert max(read) < 4000
    assert sum(read) < sum(path.stat().st_size for path in packed.glob("*.tar")) / 20


def test_the_table_fits_80_columns_and_the_page_opens_offline(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "stats.html"
    assert run(["stats", str(packed), "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 80 for line in said.splitlines() if not line.startswith("Page"))
    assert re.search(r"note: Situation +\d+%", said)
    text = page.read_text()
    assert text.count("<svg") >= 3
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert "Her dog" not in said + text


def test_a_site_without_notes_is_said(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "shards"))
    for path in folder.glob("*.privileged.*"):
        path.unlink()
    assert run(["stats", str(folder)]) == 0
    assert "not here" in capsys.readouterr().out
