"""Tokens chosen row by row: likeliest, drawn, or drawn of the likeliest."""

import pytest
import torch

from pride_mm.serving.sampling import Choice, Listening, Sampling, nucleus

IDS = torch.zeros(2, 1, dtype=torch.long)


def test_draws_follow_the_softmax_at_the_temperature() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    sampling = Sampling([Choice(temperature=0.7, seed=1)])
    drawn = torch.tensor([int(sampling(IDS, scores).argmax()) for _ in range(6000)])
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    assert shares.tolist() == pytest.approx((scores[0] / 0.7).softmax(-1).tolist(), abs=0.025)


def test_a_row_draws_the_same_whatever_is_beside_it_and_greedy_rows_stay_as_they_are() -> None:
    torch.manual_seed(0)
    scores, choice = torch.randn(2, 50), Choice(temperature=1.0, seed=7)
    alone, beside = Sampling([choice]), Sampling([Choice(), choice])
    for _ in range(5):
        both = beside(IDS, scores)
        assert torch.equal(both[1], alone(IDS, scores[1:])[0])
        assert torch.equal(both[0], scores[0])
    assert Sampling([Choice(), Choice()])(IDS, scores) is scores


def test_without_a_seed_each_is_another() -> None:
    scores = torch.zeros(2, 10_000)
    drawn = Sampling([Choice(temperature=1.0), Choice(temperature=1.0)])(IDS, scores).argmax(-1)
    assert drawn[0] != drawn[1]


def test_a_nucleus_is_the_fewest_that_have_the_share() -> None:
    scores = torch.tensor([0.1, 0.5, 0.4]).log()
    kept = {top: nucleus(scores, top).isfinite().tolist() for top in (1e-6, 0.45, 0.6, 0.95, 1.0)}
    assert kept[1e-6] == [False, True, False]
    assert kept[0.45] == [False, True, False]
    assert kept[0.6] == [False, True, True]
    assert kept[0.95] == kept[1.0] == [True, True, True]


def test_each_row_hears_its_tokens_until_it_has_ended() -> None:
    heard: list[list[int]] = [[], []]

    def row(number: int, enough: int) -> "object":
        def hear(token: int) -> bool:
            heard[number].append(token)
            return len(heard[number]) == enough

        return hear

    listening = Listening([row(0, 1), row(1, 3)])  # type: ignore[list-item]
    ended = [listening(torch.tensor([[9, step], [9, -step]]), None).tolist() for step in (1, 2, 3)]
    assert ended == [[True, False], [True, False], [True, True]]
    assert heard == [[1], [-1, -2, -3]]
