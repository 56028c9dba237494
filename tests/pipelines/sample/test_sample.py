"""The sample as a whole: what it promises to a user who has nothing else."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from pipelines.sample.clip import FPS, SIZE, draw, speak, write_clip
from pipelines.sample.face import Moment, draw_face
from pipelines.sample.script import Script, load_script
from pipelines.sample.voice import Voice
from pride_mm.errors import UserError
from pride_mm.schema import Role, load_schema, parse_value

pytest.importorskip("espeakng_loader", reason="the sample's voice is an extra")


@pytest.fixture(scope="module")
def script() -> Script:
    return load_script()


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice()


def test_emotions_and_splits(script) -> None:
    splits = defaultdict(Counter)
    for dialogue in script.dialogue:
        splits[script.speaker[dialogue.speaker].split][dialogue.targets["emotion"]] += 1
    assert {split: count.total() for split, count in splits.items()} == {"train": 33, "valid": 6, "test": 9}
    assert len(splits["train"]) == 8
    assert len(splits["test"]) >= 6


def test_a_third_is_told_by_voice_and_face_alone(script) -> None:
    moods = defaultdict(list)
    for dialogue in script.dialogue:
        moods[dialogue.say].append(dialogue.targets["emotion"])
    ambiguous = [emotions for emotions in moods.values() if len(emotions) > 1]
    assert sum(map(len, ambiguous)) == 16
    assert all(len(set(emotions)) == 4 for emotions in ambiguous)


def test_texts_are_all_different(script) -> None:
    texts = [d.targets["response"] for d in script.dialogue]
    assert len(set(texts)) == 48


def test_two_experts_note_everything_and_do_not_always_agree(script) -> None:
    schema = load_schema("pride")
    allowed = {field.name: field for field in schema.of(Role.PRIVILEGED) + schema.targets}
    agreed = []
    for dialogue in script.dialogue:
        one, other = dialogue.notes.values()
        assert one["situation"] != other["situation"]
        assert len(one["turn_emotion"]) == len(other["turn_emotion"]) == (len(dialogue.say) + 1) // 2
        agreed.append(one["emotion"] == other["emotion"])
        for notes in (one, other):
            for name in notes.keys() - {"shift"}:
                parse_value(allowed[name], notes[name])
    assert 0.7 < np.mean(agreed) < 0.95


def test_the_face_moves_and_moods_look_different(script, voice) -> None:
    dialogue = next(d for d in script.dialogue if len(d.say) == 3)
    frames = draw(script, dialogue, speak(script, dialogue, voice))
    still = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert np.mean(still) > 0.2
    look = script.speaker[dialogue.speaker].look
    faces = [draw_face(look, mood.face, Moment(time=0, loudness=0.4, blink=0), SIZE) for mood in script.mood.values()]
    for number, face in enumerate(faces):
        assert all(np.abs(face.astype(int) - other).mean() > 0.4 for other in faces[:number])


def pitch(wave: np.ndarray, rate: int) -> float:
    """Median fundamental frequency in Hz of the voiced parts, by autocorrelation."""
    found, size = [], rate // 20
    for begin in range(0, len(wave) - size, size // 2):
        part = wave[begin : begin + size] - wave[begin : begin + size].mean()
        if np.sqrt(np.mean(part**2)) < 0.3 * np.sqrt(np.mean(wave**2)):
            continue
        echo = np.correlate(part, part, "full")[size - 1 :]
        low, high = rate // 450, rate // 65
        lag = low + int(np.argmax(echo[low:high]))
        if echo[lag] > 0.5 * echo[0]:
            found.append(rate / lag)
    return float(np.median(found))


def test_pitch_loudness_and_pace_follow_the_mood(script, voice) -> None:
    heard = {
        name: voice.say("They called me back this morning.", "f2", 54, script.mood[name].voice)
        for name in ("sad", "neutral", "angry", "fearful", "surprised")
    }
    pitches = {name: pitch(wave, voice.rate) for name, wave in heard.items()}
    assert pitches["sad"] < pitches["neutral"] < pitches["fearful"]
    assert pitches["neutral"] < pitches["surprised"]
    loud = {name: float(np.sqrt(np.mean(wave**2))) for name, wave in heard.items()}
    assert loud["angry"] > 3 * loud["sad"]
    assert len(heard["sad"]) > 1.3 * len(heard["fearful"])


def test_speakers_have_voices_of_their_own(script, voice) -> None:
    plain = script.mood["neutral"].voice
    pitches = {
        n: pitch(voice.say("Good morning to you all.", s.voice, s.pitch, plain), voice.rate)
        for n, s in script.speaker.items()
    }
    assert max(pitches.values()) > 1.6 * min(pitches.values())
    assert len({round(p, 1) for p in pitches.values()}) >= 12


def test_what_was_said_before_changes_nothing(script, voice) -> None:
    mood = script.mood["happy"].voice
    first = voice.say("Tomorrow is the last day.", "m3", 40, mood)
    voice.say("Something else in between.", "f5", 60, mood)
    assert np.array_equal(first, voice.say("Tomorrow is the last day.", "m3", 40, mood))


def test_the_clip_plays_in_picture_and_sound(script, voice, tmp_path) -> None:
    import av

    dialogue = script.dialogue[0]
    take = speak(script, dialogue, voice)
    frames = draw(script, dialogue, take)
    write_clip(tmp_path / "c.mp4", frames, take)
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == len(frames)
    assert np.allclose(np.diff(times), 1 / FPS, atol=1e-3)
    start, end = take.times[0]
    assert 0 < start < end < len(frames) / FPS
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]


def test_mistakes_in_a_script_are_named(tmp_path) -> None:
    (tmp_path / "s.toml").write_text(
        'rest = "x"\nspeaker = {}\nmood = {}\ndialogue = [{ id = "a", say = ["b", "c"] }]\n'
    )
    with pytest.raises(UserError, match=r"dialogue\.0\.moods: Field required"):
        load_script(tmp_path)
