"""The student's thread: who is late, gone or unlucky costs nobody else an answer."""

import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from pride_mm.serving.batching import Batcher, Failed, Job, Late, Said
from pride_mm.serving.meters import Meters
from pride_mm.serving.predictor import Predictor
from pride_mm.serving.request import read_request
from pride_mm.serving.sampling import Choice

TURNS = [{"speaker": "user", "text": "Once upon a time I lost my dog."}]


@pytest.fixture
def batcher(predictor: Predictor) -> Iterator[Batcher]:
    made = Batcher(predictor, 4, Meters())
    yield made
    made.close()


def put(batcher: Batcher, tokens: int = 8, seconds: float = 60, **more: Any) -> tuple[Job, "SimpleQueue[Any]"]:
    heard: SimpleQueue[Any] = SimpleQueue()
    request = read_request(batcher.predictor.request, {"dialogue": TURNS})
    context, shortened = batcher.context(request, more.pop("system", ""))
    assert not shortened
    until = time.monotonic() + seconds
    job = Job(context, batcher.media({}), Choice(), tokens, until, more.pop("tell", heard.put), **more)
    batcher.put(job)
    return job, heard


def said(heard: "SimpleQueue[Any]") -> Any:
    pieces = []
    while isinstance(event := heard.get(timeout=60), str):
        pieces.append(event)
    if isinstance(event, Said):
        assert "".join(pieces) == event.text
    return event


def test_an_answer_comes_in_pieces_with_what_was_read(batcher: Batcher) -> None:
    request = read_request(batcher.predictor.request, {"dialogue": TURNS})
    end = said(put(batcher)[1])
    assert end.text == batcher.predictor.answer(request, 8).text
    assert (end.finish, end.tokens) in (("length", 8), ("stop", end.tokens))
    alone = batcher.predictor.read(request)
    assert end.reading.targets["emotion"] == pytest.approx(alone.targets["emotion"], abs=1e-5)
    assert len(put(batcher, system="Say little.")[0].context) > len(put(batcher)[0].context)


def test_each_has_its_own_length(batcher: Batcher) -> None:
    long, short = put(batcher, 12)[1], put(batcher, 3)[1]
    assert (said(short).tokens, said(long).tokens) == (3, 12)


def test_who_is_late_or_gone_costs_nobody_an_answer(batcher: Batcher) -> None:
    late, fine = put(batcher, seconds=0)[1], put(batcher)[1]
    assert isinstance(said(late), Late)
    assert isinstance(said(fine), Said)
    assert isinstance(said(put(batcher, 380, seconds=0.15)[1]), Late)  # in the middle
    gone, nothing = put(batcher, gone=True)
    assert gone.gone
    assert isinstance(said(put(batcher)[1]), Said)
    assert nothing.empty()


def test_what_fails_fails_for_its_batch_only_and_the_log_has_no_word_of_it(
    batcher: Batcher, caplog: pytest.LogCaptureFixture
) -> None:
    told: SimpleQueue[Any] = SimpleQueue()

    def tell(event: Any) -> None:
        told.put(event)
        if not isinstance(event, Failed):
            raise RuntimeError("a quokka of the user")

    put(batcher, tell=tell)
    while not isinstance(told.get(timeout=60), Failed):
        pass
    assert isinstance(said(put(batcher)[1]), Said)
    assert "RuntimeError < tell" in caplog.text
    assert "quokka" not in caplog.text
