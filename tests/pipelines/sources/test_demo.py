import hashlib
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader", reason="the demo's voice is an extra")


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_made_twice_it_is_the_same_and_can_move(take_in, tmp_path) -> None:
    items, annotations, _ = take_in("demo", None, limit=3)
    first = hashes(tmp_path / "out")
    take_in("demo", None, limit=3)
    assert hashes(tmp_path / "out") == first
    assert len(first) == 5
    assert '"media/' in (tmp_path / "out" / "items.jsonl").read_text()
    assert [(a.annotator, a.origin) for a in annotations[:2]] == [("expert-a", "expert"), ("expert-b", "expert")]
    assert not {"feelings", "situation"} & {name for item in items for name in item.inputs | item.targets}


def test_without_a_voice_one_line_says_what_to_install(take_in, monkeypatch) -> None:
    import sys

    from pride_mm.errors import UserError

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pride-mm\[voice\]"):
        take_in("demo", None, limit=1)
