import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.order import ShardOrder, disorder, permutation

sizes = st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any)


@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(0, 3), st.integers(0, 5), st.data())
def test_each_pass_holds_each_sample_once_and_any_part_is_found_by_itself(sizes, window, number, data):
    order = ShardOrder(sizes, (7,), window)
    whole = order.places(number, 0, order.samples)
    assert sorted(whole) == list(range(sum(sizes)))
    start = data.draw(st.integers(0, order.samples))
    stop = data.draw(st.integers(start, order.samples))
    # a fresh one, so that nothing kept from the whole pass helps
    assert np.array_equal(ShardOrder(sizes, (7,), window).places(number, start, stop), whole[start:stop])


@settings(max_examples=80, deadline=None)
@given(sizes, st.integers(0, 3), st.data())
def test_the_shards_named_for_a_part_are_those_that_hold_it(sizes, window, data):
    order = ShardOrder(sizes, (1,), window)
    start = data.draw(st.integers(0, order.samples - 1))
    stop = data.draw(st.integers(start + 1, order.samples))
    shard = np.repeat(np.arange(len(sizes)), sizes)
    named = order.shards(2, start, stop)
    assert set(shard[order.places(2, start, stop)]) <= set(named)
    assert len(set(named)) == len(named)
    assert order.shards(2, start, start) == []


def test_only_a_window_of_shards_is_open_at_a_time():
    order = ShardOrder([50] * 40, (0,), window=4)
    places = order.places(0, 0, 2000)
    for start in range(0, 2000, 200):
        assert len(set(places[start : start + 200] // 50)) == 4


def test_another_seed_another_pass_another_order_and_without_shuffling_none():
    order, other = ShardOrder([9, 9], (1,)), ShardOrder([9, 9], (2,))
    first = order.places(0, 0, 18).tolist()
    assert first == ShardOrder([9, 9], (1,)).places(0, 0, 18).tolist()
    assert first != order.places(1, 0, 18).tolist()
    assert first != other.places(0, 0, 18).tolist()
    assert ShardOrder([9, 9], (1,), window=0).places(3, 2, 18).tolist() == list(range(2, 18))


def test_the_order_is_the_same_for_ever():
    """A saved state means this order, whatever NumPy is installed."""
    assert permutation(10, 3, 1).tolist() == [0, 6, 2, 1, 3, 7, 4, 9, 8, 5]
    assert ShardOrder([4, 3, 5], (3,), window=2).places(1, 0, 12).tolist() == [3, 11, 9, 2, 8, 10, 0, 1, 7, 6, 4, 5]


def test_the_measure_tells_a_good_shuffle_from_a_poor_one():
    sizes = [100] * 50
    full = disorder(permutation(5000, 1), sizes)
    none = disorder(range(5000), sizes)
    ours = disorder(ShardOrder(sizes, (1,)).places(0, 0, 5000), sizes)
    assert full["displacement"] == pytest.approx(1 / 3, abs=0.02)
    assert full["correlation"] == pytest.approx(0, abs=0.05)
    assert full["mixing"] == pytest.approx(1, abs=0.02)
    assert none == {"displacement": 0.0, "correlation": pytest.approx(1), "mixing": pytest.approx(0, abs=0.06)}
    assert abs(ours["correlation"]) < 0.3
    assert ours["displacement"] > 0.28
    assert ours["mixing"] > 0.5


def buffered(samples: int, buffer: int) -> list[int]:
    """The order that a shuffle buffer gives to samples that come one by one."""
    draw = np.random.default_rng(0)
    held: list[int] = []
    order = []
    for place in range(samples):
        held.append(place)
        if len(held) > buffer:
            order.append(held.pop(int(draw.integers(len(held)))))
    return order + [held[place] for place in draw.permutation(len(held))]


def test_a_window_shuffles_farther_than_a_buffer_of_as_many_samples():
    sizes = [100] * 50
    ours = disorder(ShardOrder(sizes, (1,)).places(0, 0, 5000), sizes)
    theirs = disorder(buffered(5000, 800), sizes)
    assert ours["displacement"] > 2 * theirs["displacement"]
    assert abs(ours["correlation"]) < theirs["correlation"] / 2
