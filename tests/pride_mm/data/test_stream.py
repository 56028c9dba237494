import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pride_mm.data.stream import Order, epoch_order
from pride_mm.errors import UserError


def test_the_order_is_a_permutation_that_only_seed_and_epoch_change() -> None:
    order = epoch_order(100, 7, 3)
    assert sorted(order) == list(range(100))
    assert order == epoch_order(100, 7, 3)
    assert order != epoch_order(100, 7, 4)
    assert order != epoch_order(100, 8, 3)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 5), st.integers(0, 3))
def test_every_sample_once_an_epoch_over_all_ranks(samples: int, batch: int, world: int, epoch: int) -> None:
    ranks = [Order(samples, batch, seed=1, rank=rank, world=world) for rank in range(world)]
    seen: list[int] = []
    steps = set()
    for order in ranks:
        order.epoch = epoch
        batches = list(order)
        steps.add(len(batches))
        assert len(batches) == len(order)
        assert all(1 <= len(b) <= batch for b in batches)
        padding = order.padding()
        seen += [place for b in (batches[:-1] if padding else batches) for place in b]
        if padding:
            assert tuple(batches[-1]) == padding
    assert sorted(seen) == list(range(samples))
    assert len(steps) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 30))
def test_resumed_anywhere_it_goes_on_as_if_never_stopped(samples: int, batch: int, stop: int) -> None:
    def run(order: Order, steps: int) -> list[list[int]]:
        seen: list[list[int]] = []
        while len(seen) < steps:
            for one in order:
                seen.append(one)
                order.consumed()
                if len(seen) == steps:
                    break
        return seen

    whole = run(Order(samples, batch, seed=5), 40)
    first = Order(samples, batch, seed=5)
    head = run(first, stop)
    second = Order(samples, batch, seed=5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + run(second, 40 - stop) == whole


def test_a_loader_that_reads_ahead_does_not_move_the_order() -> None:
    order = Order(20, 3, seed=2)
    places = list(range(20))
    loader = DataLoader(places, batch_sampler=order, num_workers=2, prefetch_factor=3, collate_fn=list)  # type: ignore[arg-type]
    expected = list(Order(20, 3, seed=2))
    seen = []
    for batch in loader:
        seen.append(batch)
        order.consumed()
        if len(seen) == 2:
            break
    assert order.state_dict()["position"] == 2
    assert seen == expected[:2]
    assert list(loader) == expected[2:]


def test_a_state_of_another_order_is_refused() -> None:
    state = Order(20, 3).state_dict()
    for other in (Order(21, 3), Order(20, 4), Order(20, 3, seed=1), Order(20, 3, world=2)):
        with pytest.raises(UserError, match="samples would be repeated and missed"):
            other.load_state_dict(state)
    with pytest.raises(UserError, match="no sample"):
        Order(0, 1)


def test_without_shuffling_it_is_the_order_of_the_shards() -> None:
    assert [place for batch in Order(7, 2, shuffle=False) for place in batch] == list(range(7))
