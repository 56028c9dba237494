"""Bad data is named, counted and bounded; bad code stops."""

import pytest

from pride_mm.errors import BadSamples, SampleError, TooManyBadSamples, UserError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SampleError("items.jsonl:3", "mood", "empty text"), "items.jsonl:3: mood: empty text"),
        (SampleError("items.jsonl:3", None, "not JSON"), "items.jsonl:3: not JSON"),
    ],
)
def test_a_bad_sample_says_where_and_what(error: SampleError, said: str) -> None:
    assert str(error) == said


@pytest.mark.parametrize("limit", [0, 1, 10])
def test_the_limit_is_what_is_allowed(limit: int) -> None:
    bad = BadSamples(limit)
    for number in range(limit):
        bad.add(SampleError(f"f:{number}", None, "odd"))
    assert len(bad) == limit
    assert not isinstance(bad, UserError)
    with pytest.raises(TooManyBadSamples, match=rf"{limit + 1} bad samples, {limit} are allowed(.|\n)*--max-bad"):
        bad.add(SampleError("f:last", None, "odd"))
    assert [error.place for error in bad] == [*(f"f:{number}" for number in range(limit)), "f:last"]


def test_the_message_names_the_last_ones_only() -> None:
    bad = BadSamples(29)
    for number in range(29):
        bad.add(SampleError(f"line {number}", None, "odd"))
    with pytest.raises(TooManyBadSamples) as stopped:
        bad.add(SampleError("line 29", None, "odd"))
    assert "line 29: odd" in str(stopped.value)
    assert "line 19" not in str(stopped.value)
    assert "line 20" in str(stopped.value)


def test_counting_takes_bad_data_and_no_bugs() -> None:
    bad = BadSamples(1)
    with bad.counting():
        raise SampleError("f:1", None, "odd")
    assert len(bad) == 1
    with pytest.raises(KeyError), bad.counting():
        raise KeyError("a bug")
    with pytest.raises(TooManyBadSamples), bad.counting():
        raise SampleError("f:2", None, "odd")
