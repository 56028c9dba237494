"""The pieces of an answer are the answer, whatever its tokens are."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.serving.predictor import Predictor
from pride_mm.serving.request import Request
from pride_mm.serving.streaming import pieces
from pride_mm.student.backbone import load_tokenizer

LINE = "Once upon a time I lost my dog."


@pytest.fixture(scope="module")
def tokenizer(small_model: Path) -> Any:
    return load_tokenizer(small_model)


def request(predictor: Predictor, text: str = LINE) -> Request:
    return predictor.request(dialogue=[{"speaker": "a", "text": text}])


def test_the_pieces_are_the_answer(predictor: Predictor) -> None:
    given = list(predictor.stream(request(predictor), 12))
    assert "".join(given) == predictor.answer(request(predictor), 12).text
    assert len(given) > 2


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_comes_whole(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]

    def generate(streamer: Any) -> None:
        streamer.put(torch.tensor([[1, 2, 3]]))
        for token in ids:
            streamer.put(torch.tensor([token]))
        streamer.end()

    given = list(pieces(generate, tokenizer))
    assert "".join(given) == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in given)


def test_who_stops_reading_stops_the_generation(predictor: Predictor) -> None:
    before = threading.active_count()
    stream: Iterator[str] = predictor.stream(request(predictor), 100_000)
    assert next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_goes_wrong_comes_out_where_it_is_read(tokenizer: Any) -> None:
    def generate(_streamer: Any) -> None:
        raise ZeroDivisionError("in the thread")

    with pytest.raises(ZeroDivisionError, match="in the thread"):
        list(pieces(generate, tokenizer))


def test_a_person_in_danger_gets_the_referral_and_no_student(predictor: Predictor) -> None:
    asked = request(predictor, "I want to kill myself.")
    assert predictor.safety is not None
    referral = predictor.safety.referral.text.strip()
    assert "".join(predictor.stream(asked)) == referral
    answer, other = predictor.answers([asked, request(predictor)], 6)
    assert (answer.text, answer.concern) == (referral, "suicide")
    assert other.concern is None
    assert other.text != referral


def test_it_is_off_by_setting_only(artifact: Path) -> None:
    unsafe = Predictor.open(artifact, safety="off")
    asked = request(unsafe, "I want to kill myself.")
    answer = unsafe.answer(asked, 6)
    assert answer.concern is None
    assert answer.text == "".join(unsafe.stream(asked, 6))


def test_what_it_reads_are_shares(predictor: Predictor, clip: Path) -> None:
    alone = predictor.read(request(predictor))
    for shares in alone.targets.values():
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    answer = predictor.answer(request(predictor), 2)
    assert {head: next(iter(shares)) for head, shares in alone.targets.items()} == {
        head: label for head, (label, _) in answer.targets.items()
    }
    assert set(alone.sources) == {"dialogue summary"}
    asked = predictor.request(dialogue=[{"speaker": "a", "text": LINE}], video=str(clip), audio=str(clip))
    shown = predictor.read(asked)
    assert set(shown.sources) == {"dialogue summary", "video", "audio"}
    assert 0 < sum(shown.sources.values()) < 1
