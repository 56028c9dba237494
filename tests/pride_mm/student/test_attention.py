"""Resampler and multi-source attention: absent is absent, and nothing is NaN."""

import torch

from pride_mm.student.attention import MultiSourceAttention, Resampler


def test_a_row_without_a_source_is_exactly_zero():
    resampler = Resampler(16, 4, 8, 2)
    source = torch.randn(3, 5, 16)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1] = False
    source[1] = torch.nan
    latents = resampler(source, mask)
    assert torch.equal(latents[1], torch.zeros(4, 16))
    assert latents[[0, 2]].isfinite().all()
    assert (latents[0] != 0).any()


def test_masked_tokens_and_padding_do_not_matter():
    resampler = Resampler(16, 4, 8, 2)
    source = torch.randn(1, 5, 16)
    mask = torch.tensor([[True, True, True, False, False]])
    spoilt = source.clone()
    spoilt[:, 3:] = torch.nan
    torch.testing.assert_close(resampler(spoilt, mask), resampler(source[:, :3], mask[:, :3]))


def test_gradient_is_finite_over_absent_rows():
    resampler = Resampler(16, 4, 8, 2)
    source = torch.randn(2, 5, 16, requires_grad=True)
    resampler(source, torch.zeros(2, 5, dtype=torch.bool)).sum().backward()
    assert torch.equal(source.grad, torch.zeros_like(source))
    assert all(p.grad is None or p.grad.isfinite().all() for p in resampler.parameters())


def test_the_gate_starts_shut():
    attention = MultiSourceAttention(16, 2, 8, 2)
    added, _ = attention(torch.randn(2, 3, 16), torch.randn(2, 8, 16), torch.ones(2, 8, dtype=torch.bool))
    assert torch.equal(added, torch.zeros_like(added))
    added.sum().backward()
    assert attention.gate.grad != 0


def test_mass_is_shared_among_what_is_there():
    attention = MultiSourceAttention(16, 2, 8, 2)
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[1, :4] = False
    mask[2] = False
    _, mass = attention(torch.randn(3, 5, 16), torch.randn(3, 8, 16), mask)
    assert mass.shape == (3, 5, 2)
    assert (mass[0] > 0).all()
    assert (mass.sum(-1) < 1).all()
    assert (mass[1, :, 0] == 0).all()
    assert (mass[2] == 0).all()


def test_an_absent_source_equals_one_that_never_was():
    attention = MultiSourceAttention(16, 1, 8, 2)
    torch.nn.init.ones_(attention.gate)
    text, latents = torch.randn(1, 5, 16), torch.randn(1, 4, 16)
    gone = torch.zeros(1, 4, dtype=torch.bool)
    assert torch.equal(attention(text, latents, gone)[0], attention(text, 9 * latents, gone)[0])
