"""Paired comparisons: known values, and what they must not care about."""

import torch

from pride_mm.losses.pairing import cka_loss, cosine_loss


def features(rows: int = 40, width: int = 6, seed: int = 0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cka_is_blind_to_rotation_scale_shift_and_width():
    x = features()
    rotation = torch.linalg.qr(features(6, 6, seed=1))[0]
    other = torch.cat([3.0 * x @ rotation + 5.0, torch.zeros(40, 3, dtype=torch.float64)], 1)
    assert abs(cka_loss(x, other)) < 1e-12


def test_cka_of_unrelated_features_is_one_even_where_they_are_wider_than_the_batch():
    """The biased form is about 0.9 here, which would make the loss 0.1."""
    values = torch.stack([cka_loss(features(16, 200, seed), features(16, 200, seed + 1000)) for seed in range(60)])
    assert abs(values.mean() - 1) < 4 * values.std() / 60**0.5


def test_cka_does_not_overflow_nor_mind_all_alike_or_few_rows():
    x = features().float()
    assert abs(cka_loss(x * 1e15, x)) < 1e-4
    for rows in (torch.ones(8, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)):
        loss = cka_loss(rows, rows.detach() * 2)
        loss.backward()
        assert loss == 0
        assert torch.equal(rows.grad, torch.zeros_like(rows))


def test_cka_leads_features_to_their_pairs():
    target, x = features(seed=1), features(seed=2).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.05)
    for _step in range(200):
        optimiser.zero_grad()
        cka_loss(x, target).backward()
        optimiser.step()
    assert cka_loss(x, target) < 0.05


def test_cosine_of_pairs():
    x = features()
    torch.testing.assert_close(cosine_loss(x, 2 * x), torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(cosine_loss(x, -x), torch.full((), 2.0, dtype=torch.float64))
    nothing = torch.zeros(0, 4, requires_grad=True)
    cosine_loss(nothing, torch.zeros(0, 4)).backward()
    assert nothing.grad.shape == (0, 4)
