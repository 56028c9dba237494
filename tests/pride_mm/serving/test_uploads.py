"""Uploads that are files: what they are by the end of their names. What is in them: ``test_server``."""

from pathlib import Path

import pytest

from pride_mm.errors import UserError
from pride_mm.schema import Kind
from pride_mm.serving.uploads import CONTAINERS, ENDINGS, of_file

SOUNDS = ("wav", "mp3", "flac", "aac", "m4a", "oga", "ogg", "opus", "weba")


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_has_a_container(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"said.{ending.upper()}"
    path.write_bytes(b"some bytes")
    kind, upload = of_file(path)
    assert kind is (Kind.AUDIO if ending in SOUNDS else Kind.VIDEO)
    assert upload.container in CONTAINERS.values()
    assert "some" not in repr(upload)


def test_what_is_no_clip_and_no_sound_is_refused(tmp_path: Path) -> None:
    for name, why in (
        ("said.exe", r"'\.exe' is no clip and no sound that is taken: aac, avi, .*, webm"),
        ("said", "'' is no clip and no sound"),
        ("said.wav", r"The file is empty\."),
    ):
        (tmp_path / name).touch()
        with pytest.raises(UserError, match=why):
            of_file(tmp_path / name)
    with pytest.raises(UserError, match=r"The file is gone: attach it again\."):
        of_file(tmp_path / "gone.mp4")
