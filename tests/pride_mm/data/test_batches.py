"""Batches are exact for any world, and a state goes on where it was, whatever has changed since."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pride_mm.data.batches import Batches, Budget
from pride_mm.data.mix import Corpus, Mix
from pride_mm.errors import UserError

sizes = st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any)
mixes = st.builds(
    lambda first, second, weight, window: Mix(
        [Corpus("a", tuple(first)), Corpus("b", tuple(second), weight)], 5, window
    ),
    sizes,
    sizes,
    st.sampled_from([0.3, 0.5, 1.0, 2.0]),
    st.integers(0, 2),
)
worlds = st.integers(1, 5)


def lengths_of(mix: Mix) -> np.ndarray:
    return (np.arange(len(mix), dtype=np.int32) * 7919 % 60 + 1).astype(np.int32)


def budget_of(mix: Mix, tokens: int | None) -> Budget | None:
    return None if tokens is None else Budget(tokens, lengths_of(mix))


def epoch_of(mix: Mix, epoch: int) -> Counter[int]:
    return Counter(mix.places(epoch, 0, mix.samples(epoch)).tolist())


budgets = st.sampled_from([None, 60, 200])


@settings(max_examples=150, deadline=None)
@given(mixes, worlds, st.integers(1, 7), budgets, st.integers(0, 2))
def test_each_sample_once_an_epoch_and_equal_steps_on_every_rank(mix, world, batch_size, tokens, epoch):
    ranks = [Batches(mix, batch_size, rank, world, budget=budget_of(mix, tokens)) for rank in range(world)]
    seen: Counter[int] = Counter()
    steps = set()
    for batches in ranks:
        batches.go(epoch, 0)
        repeated = batches.remainder()
        walked = list(batches)
        steps.add(len(walked))
        assert len(walked) == len(batches) == batches.steps(epoch)
        assert all(1 <= len(batch) <= batch_size for batch in walked)
        if repeated:
            assert tuple(walked.pop()) == repeated
        for batch in walked:
            seen.update(batch)
    assert seen == epoch_of(mix, epoch)
    assert len(steps) == 1


@settings(max_examples=100, deadline=None)
@given(mixes, worlds, st.integers(1, 4), budgets)
def test_what_drop_leaves_out_is_named_and_the_rest_is_whole(mix, world, batch_size, tokens):
    try:
        ranks = [Batches(mix, batch_size, rank, world, "drop", budget_of(mix, tokens)) for rank in range(world)]
    except UserError:  # no step would be full
        assume(False)
    dropped = {batches.remainder() for batches in ranks}
    assert len(dropped) == 1
    walks = [list(batches) for batches in ranks]
    assert {len(walk) for walk in walks} == {ranks[0].steps(0)}
    if tokens is None:
        assert all(len(batch) == batch_size for walk in walks for batch in walk)
    seen = Counter(place for walk in walks for batch in walk for place in batch)
    assert seen + Counter(dropped.pop()) == epoch_of(mix, 0)


def walked(ranks: list[Batches], steps: int) -> list[int]:
    """All ranks' samples of some steps before the last one."""
    seen: list[int] = []
    for _ in range(steps):
        for batches in ranks:
            seen += next(batches.__iter__())
            batches.consumed()
    return seen


@settings(max_examples=80, deadline=None)
@given(mixes, worlds, worlds, st.integers(1, 5), st.integers(1, 5), budgets, st.integers(0, 6))
def test_resumed_with_other_ranks_and_batches_the_rest_of_the_epoch_is_what_was_left(
    mix, before, after, batch_size, other_size, tokens, steps
):
    """Whatever changed, all samples of the epoch are seen once, before and after together."""
    if tokens is not None:
        other_size = batch_size
    budget = budget_of(mix, tokens)
    first = [Batches(mix, batch_size, rank, before, budget=budget) for rank in range(before)]
    steps = min(steps, first[0].steps(0) - 1)
    head = walked(first, steps)
    states = {json.dumps(batches.state_dict()) for batches in first}
    assert len(states) == 1
    state = states.pop()
    assert len(state) < 1000
    second = [Batches(mix, other_size, rank, after, budget=budget) for rank in range(after)]
    for batches in second:
        batches.load_state_dict(json.loads(state))
    tail = Counter(head)
    lasts = [batches.remainder() for batches in second]
    walks = [list(batches) for batches in second]
    assert len({len(walk) for walk in walks}) == 1
    for walk, last in zip(walks, lasts, strict=True):
        for batch in walk[:-1] if last else walk:
            tail.update(batch)
    assert tail == epoch_of(mix, 0)


@settings(max_examples=60, deadline=None)
@given(mixes, st.integers(1, 6), budgets, st.integers(0, 30))
def test_resumed_as_it_was_it_goes_on_as_if_never_stopped(mix, batch_size, tokens, stop):
    def run(batches: Batches, steps: int) -> list[list[int]]:
        seen: list[list[int]] = []
        while len(seen) < steps:
            for batch in batches:
                if len(seen) == steps:
                    break
                seen.append(batch)
                batches.consumed()
        return seen

    budget = budget_of(mix, tokens)
    whole = run(Batches(mix, batch_size, budget=budget), 40)
    first = Batches(mix, batch_size, budget=budget)
    head = run(first, stop)
    second = Batches(mix, batch_size, budget=budget)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + run(second, 40 - stop) == whole


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 20), st.integers(60, 500), st.integers(0, 2))
def test_batches_of_a_budget_keep_it_and_are_about_equally_full(sizes, largest, tokens, window):
    mix = Mix([Corpus("a", tuple(sizes))], 1, window)
    lengths = lengths_of(mix)
    for batch in Batches(mix, largest, budget=Budget(tokens, lengths)):
        assert len(batch) * lengths[batch].max() <= tokens
        assert len(batch) <= largest


def test_a_budget_wastes_little_and_its_batches_cost_alike():
    mix = Mix([Corpus("a", (1000,) * 4)], 1)
    lengths = np.random.default_rng(0).lognormal(4, 0.6, 4000).clip(8, 512).astype(np.int32)
    padded = np.array([len(b) * lengths[b].max() for b in Batches(mix, 512, budget=Budget(4096, lengths))])
    plain = sum(len(b) * lengths[b].max() for b in Batches(mix, 32))
    assert lengths.sum() / padded.sum() > 0.85
    assert lengths.sum() / plain < 0.5
    assert padded.std() / padded.mean() < 0.15


def test_more_ranks_than_samples_repeat_one_and_say_which():
    ranks = [Batches(Mix([Corpus("a", (3,))]), 2, rank, 5) for rank in range(5)]
    walks = [list(batches) for batches in ranks]
    assert [len(walk) for walk in walks] == [1] * 5
    assert sorted(place for walk in walks[:3] for batch in walk for place in batch) == [0, 1, 2]
    assert [batches.remainder() for batches in ranks[:3]] == [()] * 3
    assert all(batches.remainder() == tuple(walk[0]) for batches, walk in zip(ranks[3:], walks[3:], strict=True))


def test_one_shard_feeds_two_ranks_and_uneven_shards_alike():
    for sizes in ((48,), (47, 1), (5, 0, 43)):
        ranks = [Batches(Mix([Corpus("a", sizes)]), 4, rank, 2) for rank in range(2)]
        assert sorted(place for batches in ranks for batch in batches for place in batch) == list(range(48))


def test_a_state_of_another_stream_is_refused_by_what_differs():
    mix = Mix([Corpus("a", (20,)), Corpus("b", (9,), 0.5)], 1)
    batches = Batches(mix, 3)
    batches.consumed()
    state = json.loads(json.dumps(batches.state_dict()))
    others = {
        "seed": Mix(mix.corpora, 2),
        "window": Mix(mix.corpora, 1, window=1),
        "corpus 'b': weight": Mix([mix.corpora[0], Corpus("b", (9,), 1.0)], 1),
        "corpus 'a': samples": Mix([Corpus("a", (21,)), mix.corpora[1]], 1),
        "corpus 'a': shards": Mix([Corpus("a", (20,), sha256="other"), mix.corpora[1]], 1),
        "corpora": Mix([mix.corpora[0]], 1),
    }
    for name, other in others.items():
        with pytest.raises(UserError, match=f"{name} .*now.*repeated and missed"):
            Batches(other, 3).load_state_dict(state)
    budget = Budget(70, lengths_of(mix))
    with pytest.raises(UserError, match=r"lengths \(None, now 70 tokens"):
        Batches(mix, 3, budget=budget).load_state_dict(state)
    with pytest.raises(UserError, match="no state of a stream"):
        batches.load_state_dict({"epoch": 1})
    with pytest.raises(UserError, match="sample 1000 of epoch 0"):
        batches.load_state_dict(state | {"position": 1000})


def test_between_two_epochs_the_budget_may_change():
    mix = Mix([Corpus("a", (20,))], 1)
    batches = Batches(mix, 30)
    batches.consumed()
    assert (batches.epoch, batches.position) == (1, 0)
    other = Batches(mix, 4, budget=Budget(70, lengths_of(mix)))
    other.load_state_dict(batches.state_dict())
    assert other.epoch == 1


def test_what_no_batch_can_hold_is_refused():
    mix = Mix([Corpus("a", (20,))], 1)
    with pytest.raises(UserError, match="1 of 20 samples are longer than a batch of 50 tokens; the longest has 80"):
        Batches(mix, 4, budget=Budget(50, np.array([80] + [5] * 19, np.int32)))
    with pytest.raises(UserError, match="20 samples, which fills no step of 7 ranks with batches of 3"):
        Batches(mix, 3, 0, 7, "drop")
