from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pride_mm.data.mix import Corpus, Mix
from pride_mm.errors import UserError

weights = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.3])
corpora = st.lists(
    st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any), weights), min_size=1, max_size=4
).map(lambda found: [Corpus(f"c{n}", tuple(sizes), weight) for n, (sizes, weight) in enumerate(found)])


@settings(max_examples=150, deadline=None)
@given(corpora, st.integers(0, 2), st.integers(1, 6))
def test_over_the_epochs_each_sample_is_seen_as_often_as_its_weight_says(corpora, window, epochs):
    mix = Mix(corpora, 3, window)
    seen = Counter(place for epoch in range(epochs) for place in mix.places(epoch, 0, mix.samples(epoch)).tolist())
    begin = 0
    for corpus in corpora:
        samples = sum(corpus.sizes)
        times = [seen[place] for place in range(begin, begin + samples)]
        assert max(times) - min(times) <= 1
        assert abs(sum(times) - corpus.weight * samples * epochs) < 1
        begin += samples


@settings(max_examples=100, deadline=None)
@given(corpora, st.integers(0, 3), st.data())
def test_any_part_of_an_epoch_is_found_by_itself(corpora, epoch, data):
    mix = Mix(corpora, 3)
    whole = mix.places(epoch, 0, mix.samples(epoch))
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert np.array_equal(Mix(corpora, 3).places(epoch, start, stop), whole[start:stop])
    begins = np.cumsum([0, *(size for corpus in corpora for size in corpus.sizes)])
    numbered = [(n, shard) for n, corpus in enumerate(corpora) for shard in range(len(corpus.sizes))]
    needed = {numbered[int(np.searchsorted(begins, place, side="right")) - 1] for place in whole[start:stop]}
    assert needed <= set(mix.shards(epoch, start, stop))


def test_half_a_weight_is_one_half_and_then_the_other():
    mix = Mix([Corpus("half", (7, 4), 0.5), Corpus("whole", (20,))], 5)
    first, second = (set(mix.places(epoch, 0, mix.samples(epoch)).tolist()) & set(range(11)) for epoch in (0, 1))
    assert not first & second
    assert first | second == set(range(11))
    assert (len(first), len(second)) == (5, 6)


def test_corpora_are_spread_evenly_over_an_epoch():
    mix = Mix([Corpus("small", (300,)), Corpus("large", (2700,))], 1)
    small = mix.places(0, 0, 3000) < 300
    assert all(abs(part.mean() - 0.1) < 0.06 for part in np.split(small, 10))
    assert mix.places(0, 0, 3000).tolist() != mix.places(1, 0, 3000).tolist()


def test_a_million_shards_need_no_walk():
    mix = Mix([Corpus("huge", (1000,) * 20_000), Corpus("other", (500,) * 20_000, 0.3)], 1)
    far = mix.places(2, 15_000_000, 15_000_032)
    assert len(set(far.tolist())) == 32
    assert far.tolist() == mix.places(2, 15_000_000, 15_000_040)[:32].tolist()


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (Corpus("empty", (0, 0)), "no sample to read in 'empty'"),
        (Corpus("c", (1,), 0.0), "weight of 'c' is 0.0"),
        (Corpus("c", (1,), float("nan")), "weight of 'c' is nan"),
        (Corpus("c", (1,), float("inf")), "weight of 'c' is inf"),
    ],
)
def test_what_is_no_corpus_is_refused(corpus, message):
    with pytest.raises(UserError, match=message):
        Mix([corpus])


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="seed is -1"):
        Mix([Corpus("c", (1,))], -1)
