"""A real model behind a real socket as a judge: what it is asked, what is kept, and what a user sees."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cli import run
from pride_mm.data.shards import ShardSet
from pride_mm.errors import BadSamples, UserError
from pride_mm.evaluation.judge import Judge
from pride_mm.evaluation.pairs import Pair, empty_answers, read_pairs
from pride_mm.files import write_json
from pride_mm.student.backbone import load_backbone
from pride_mm.teacher.client import Client
from pride_mm.teacher.remote_writer import RemoteWriter
from pride_mm.teacher.scoring import Teacher
from tests.openai_server import KEY, MODEL, OpenAIServer, openai_server
from tests.pride_mm.evaluation.conftest import NOTE


@pytest.fixture(scope="module")
def openai(small_model: Path) -> Iterator[OpenAIServer]:
    with openai_server(Teacher(*load_backbone(small_model))) as running:
        yield running


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two runs answered to six dialogues: one of them alike, one of them nothing."""
    keys = [f"ed_{number}" for number in range(6)]
    plain = {key: f"That sounds hard, number {key}." for key in keys}
    other = {**{key: f"Go on, {key}." for key in keys}, "ed_2": plain["ed_2"], "ed_3": ""}
    path = tmp_path_factory.mktemp("scores") / "scores.json"
    runs = [{"name": "zebra", "answers": plain}, {"name": "quagga", "answers": other}]
    write_json(path, {"format": 1, "split": "test", "runs": runs})
    return path


@pytest.fixture
def pairs(scores: Path, opened: ShardSet) -> list[Pair]:
    """By key; shards have an order of their own."""
    found = read_pairs(scores, opened, ("zebra", "quagga"), BadSamples())
    return sorted(found, key=lambda pair: pair.key)


def writer(openai: OpenAIServer, place: str = "/v1", limit: int = 1024) -> RemoteWriter:
    return RemoteWriter(Client(openai.url.replace("/v1", place), MODEL, KEY), limit, max_tokens=8)


def test_pairs_are_read_with_what_is_wrong_with_them(scores: Path, opened: ShardSet, pairs: list[Pair]) -> None:
    assert [pair.key for pair in pairs] == [f"ed_{number}" for number in range(6)]
    assert [pair.key for pair in pairs if pair.same] == ["ed_2"]
    assert empty_answers(pairs, ("zebra", "quagga")) == ["quagga: 1 of 6 answers are empty (ed_3)."]
    human = {pair.key: pair for pair in read_pairs(scores, opened, ("human", "zebra"), BadSamples())}
    assert human["ed_1"].answers == ("I hear you, that is number 1.", "That sounds hard, number ed_1.")
    assert human["ed_1"].group == "group0"
    for given, said in (
        (("zebra", "okapi"), "No answers of 'okapi' in .*; there are: zebra, quagga, human"),
        (("zebra", "zebra"), "compared with itself"),
    ):
        with pytest.raises(UserError, match=said):
            read_pairs(scores, opened, given, BadSamples())
    with pytest.raises(UserError, match=r"is no scores\.json"):
        read_pairs(scores.parent, opened, ("zebra", "human"), BadSamples())


def test_a_sample_that_is_gone_and_an_answer_that_is_missing_are_named(opened: ShardSet, tmp_path: Path) -> None:
    answers = {"ed_0": "Oh.", "gone": "Oh.", "rav_0": "Oh."}
    write_json(tmp_path / "scores.json", {"split": "test", "runs": [{"name": "zebra", "answers": answers}]})
    bad = BadSamples()
    found = read_pairs(tmp_path / "scores.json", opened, ("zebra", "human"), bad)
    assert [pair.key for pair in found] == ["ed_0"]
    assert sorted(map(str, bad)) == [
        f"gone: scored, but not in the test split of {opened.place}",
        "rav_0: no answer of 'human'",
    ]


def test_each_pair_is_asked_in_both_orders_without_notes_and_only_once(
    openai: OpenAIServer, pairs: list[Pair], tmp_path: Path
) -> None:
    before = len(openai.seen)
    kept = tmp_path / "judge.jsonl"
    judge = Judge(writer(openai), kept)
    judged = judge.judge(pairs, BadSamples())
    asked = [body["messages"][0]["content"] for body in openai.seen[before:]]
    assert len(asked) == judge.asked == 10, "the pair alike is not asked about"
    first, second = pairs[0].answers
    assert asked[0].index(first) < asked[0].index(second)
    assert asked[1].index(second) < asked[1].index(first)
    assert "Answer B:\n(no answer)" in "".join(asked)
    sent = json.dumps(openai.seen[before:])
    assert NOTE not in sent
    assert not [word for word in ("quokkas", "zebra", "quagga") if word in sent]
    # killed while the sixth answer was written
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:5]) + lines[5][:30])
    again = Judge(writer(openai), kept)
    assert again.judge(pairs, BadSamples()) == judged
    assert again.asked == 5
    last = Judge(writer(openai), kept)
    assert last.judge(pairs, BadSamples()) == judged
    assert last.asked == 0
    other = Judge(writer(openai), kept)
    other.judge([replace(pairs[0], answers=("Another.", second))], BadSamples())
    assert other.asked == 2, "another answer is another question"


def test_a_long_dialogue_loses_its_oldest_turns_and_one_that_never_fits_is_named(
    openai: OpenAIServer, pairs: list[Pair], tmp_path: Path
) -> None:
    turn = pairs[0].turns[0]
    long = replace(pairs[0], turns=(turn.model_copy(update={"text": "old " * 900}), turn))
    judge = Judge(writer(openai), tmp_path / "a.jsonl")
    (message,) = judge.chat(long, False)
    assert "old old" not in message["content"]
    assert turn.text in message["content"]
    assert judge.shortened == 1
    bad = BadSamples()
    assert not Judge(writer(openai, limit=64), tmp_path / "b.jsonl").judge([long], bad)
    assert "too long to ask about" in str(next(iter(bad)))


def test_a_user_sees_position_bias_in_80_columns(
    openai: OpenAIServer, scores: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("PRIDE_OPENAI_API_KEY", KEY)
    given = ["eval", "judge", "zebra", "quagga", "--shards", str(shards), "--scores", str(scores), "--model", MODEL]
    out = tmp_path / "judge"
    assert run([*given, "--server", openai.url.replace("/v1", "/first"), "--out", str(out)]) == 0
    shown, complained = capfd.readouterr()
    assert max(map(len, shown.replace(str(tmp_path), "").splitlines())) <= 80
    assert next(line for line in shown.splitlines() if line.startswith("overall ")).endswith("100%")
    assert "quagga: 1 of 6 answers are empty (ed_3)." in complained
    found = json.loads((out / "judge.json").read_text())
    overall = found["aspects"]["overall"]
    assert (overall["flip_rate"], overall["preference"]["win"]["value"], overall["asked"]) == (1, 0, 5)
    assert (overall["first_shown"], overall["of"], found["alike"]) == (10, 10, ["ed_2"])
    # a model this small tells a story instead of judging
    assert run([*given, "--server", openai.url, "--out", str(tmp_path / "story"), "--max-tokens", "8"]) == 0
    shown, complained = capfd.readouterr()
    (left,) = re.findall(r"overall: 5 pairs left out, no verdict to read in an answer \((.*)\)", complained)
    assert set(left.split(", ")) == {"ed_0", "ed_1", "ed_3", "ed_4", "ed_5"}
    assert (
        json.loads((tmp_path / "story" / "judge.json").read_text())["aspects"]["overall"]["preference"]["tie"]["n"] == 1
    ), "only the pair alike"
