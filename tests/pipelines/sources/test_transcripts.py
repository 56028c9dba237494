"""Every form of a transcript says the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sources.transcripts import Cue, find_transcript, read_transcript, seconds_of
from pride_mm.errors import BadSamples

SAID = [
    Cue("Ann", "I can't sleep & I'm tired.", 0.5, 2.25),
    Cue("Dr. Léa", "Since when?", 3.0, 3.9),
    Cue("Ann", "Since <last> May.", 4.0, 5.125),
    Cue("Dr. Léa", "What happened then?", 6.0, 3607.5),
]


def clock(seconds: float, comma: str = ".") -> str:
    return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:06.3f}".replace(".", comma)


def vtt(path: Path) -> Path:
    cues = [
        f"{n}\n{clock(c.start)} --> {clock(c.end)} align:start\n<v.loud {c.speaker}>"
        + c.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace(" ", "\n", 1)
        for n, c in enumerate(SAID)
    ]
    path.with_suffix(".vtt").write_text("\ufeffWEBVTT\n\nNOTE made by hand\n\n" + "\n\n".join(cues), encoding="utf-8")
    return path.with_suffix(".vtt")


def srt(path: Path) -> Path:
    # no empty line between cues, line ends of Windows
    text = [c.text.replace("<last>", "&lt;last&gt;") for c in SAID]
    cues = [
        f"{n}\r\n{clock(c.start, ',')} --> {clock(c.end, ',')}\r\n- {c.speaker}: <i>{text[n]}</i>"
        for n, c in enumerate(SAID)
    ]
    path.with_suffix(".srt").write_text("\r\n".join(cues), encoding="utf-16")
    return path.with_suffix(".srt")


def table(path: Path) -> Path:
    lines = [f'{c.speaker}\t{c.text}\t"{clock(c.start)}"\t{c.end}' for c in reversed(SAID)]
    path.with_suffix(".tsv").write_text("\n".join(["Speaker\tUtterance\tStartTime\tEndTime", *lines]))
    return path.with_suffix(".tsv")


def textgrid(path: Path) -> Path:
    from pympi.Praat import TextGrid

    grid = TextGrid(xmax=4000)
    for speaker in dict.fromkeys(c.speaker for c in SAID):
        tier = grid.add_tier(speaker)
        for cue in SAID:
            if cue.speaker == speaker:
                tier.add_interval(cue.start, cue.end, cue.text)
    grid.to_file(str(path.with_suffix(".TextGrid")))
    return path.with_suffix(".TextGrid")


def eaf(path: Path) -> Path:
    from pympi.Elan import Eaf

    document = Eaf()
    document.remove_tier("default")
    for number, speaker in enumerate(dict.fromkeys(c.speaker for c in SAID)):
        document.add_tier(f"tier{number}", part=speaker)
        for cue in SAID:
            if cue.speaker == speaker:
                document.add_annotation(f"tier{number}", round(cue.start * 1000), round(cue.end * 1000), cue.text)
    document.add_tier("feelings@x")
    document.add_annotation("feelings@x", 0, 1000, "a note that nobody says")
    document.to_file(str(path.with_suffix(".eaf")))
    return path.with_suffix(".eaf")


@pytest.mark.parametrize("write", [vtt, srt, table, textgrid, eaf])
def test_every_form_says_the_same(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "talk")
    bad = BadSamples(0)
    assert read_transcript(path, "somebody", bad) == SAID
    assert find_transcript(tmp_path / "talk.mp4") == path
    assert find_transcript(tmp_path / "tal.mp4") is None


def test_what_cannot_be_read_is_named_without_its_words(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    path.write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\nNote: one colon makes no speaker\n\n"
        "00:0x.000 --> 00:02.000\nsecret\n\n00:05.000 --> 00:04.000\nsecret\n\n00:06.000 --> 00:07.000\n\n"
    )
    bad = BadSamples(5)
    assert read_transcript(path, "somebody", bad) == [Cue("somebody", "Note: one colon makes no speaker", 1, 2)]
    assert [error.place for error in bad] == ["a.vtt:6", "a.vtt:9"]
    assert "secret" not in "".join(map(str, bad))
    (tmp_path / "b.csv").write_text("start,end,text\n1,2,one\n,2,secret\n")
    bad = BadSamples(5)
    assert read_transcript(tmp_path / "b.csv", "somebody", bad) == [Cue("somebody", "one", 1, 2)]
    assert [str(error) for error in bad] == [
        "b.csv:3: no times: it needs columns start and end, in seconds or as a clock"
    ]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nsecret of J\xf6rg".encode("latin-1"), "not UTF-8: a.srt:3"),
        ("a.TextGrid", b"secret", "not a TextGrid: a.TextGrid"),
        ("a.eaf", b"<!DOCTYPE x><x>secret</x>", "DOCTYPE"),
        ("a.doc", b"secret", r"no transcript: a.doc \(allowed: .vtt, .srt"),
    ],
)
def test_what_is_no_transcript_is_refused(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=said) as refused:
        read_transcript(tmp_path / name, "somebody", BadSamples(0))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:20:57,256", 1257.256), ("0:44.5", 44.5), ("12.25", 12.25), (3, 3.0), ("1:00:00", 3600)]
)
def test_clocks(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "noon", "1:2:3:4"])
def test_what_is_no_clock(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        seconds_of(text)
