"""Resampler and multi-source attention: absent is absent, and nothing is NaN."""

import pytest
import torch

from pride_mm.student.attention import HierarchicalAttention, MultiSourceAttention, Resampler

both = pytest.mark.parametrize("kind", [MultiSourceAttention, HierarchicalAttention])


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


@both
def test_the_gate_starts_shut(kind):
    attention = kind(16, 2, 8, 2, 4)
    added, _ = attention(torch.randn(2, 3, 16), torch.randn(2, 8, 16), torch.ones(2, 8, dtype=torch.bool))
    assert torch.equal(added, torch.zeros_like(added))
    added.sum().backward()
    assert attention.gate.grad != 0


@both
def test_mass_is_shared_among_what_is_there(kind):
    attention = kind(16, 2, 8, 2, 4)
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[1, :4] = False
    mask[2] = False
    _, mass = attention(torch.randn(3, 5, 16), torch.randn(3, 8, 16), mask)
    assert mass.shape == (3, 5, 2)
    assert (mass[0] > 0).all()
    assert (mass.sum(-1) < 1).all()
    assert (mass[1, :, 0] == 0).all()
    assert (mass[2] == 0).all()


@both
def test_an_absent_source_equals_one_that_never_was(kind):
    attention = kind(16, 1, 8, 2, 4)
    torch.nn.init.ones_(attention.gate)
    text, latents = torch.randn(1, 5, 16), torch.randn(1, 4, 16)
    gone = torch.zeros(1, 4, dtype=torch.bool)
    assert torch.equal(attention(text, latents, gone)[0], attention(text, 9 * latents, gone)[0])


@both
def test_a_source_that_brings_its_own_mark(kind):
    attention = kind(16, 1, 8, 2, 4)
    torch.nn.init.ones_(attention.gate)
    text, latents = torch.randn(1, 5, 16), torch.randn(1, 8, 16)
    mask = torch.ones(1, 8, dtype=torch.bool)
    added, mass = attention(text, latents, mask)
    assert mass.shape == (1, 5, 2)
    mask[:, 4:] = False
    without, _ = attention(text, latents, mask)
    torch.testing.assert_close(without, attention(text, latents[:, :4], mask[:, :4])[0])
    assert not torch.allclose(added, without)


def test_within_a_source_the_hierarchy_shares_and_across_sources_it_weighs():
    """More latents of the same make a source no heavier, which one softmax would do."""
    attention = HierarchicalAttention(16, 2, 8, 2, 4)
    one = torch.randn(1, 1, 16).expand(1, 4, 16)
    text, mask = torch.randn(1, 3, 16), torch.ones(1, 8, dtype=torch.bool)
    latents = torch.cat([one, one + 0.1], 1)
    _, mass = attention(text, latents, mask)
    few = mask.clone()
    few[:, 1:4] = False
    torch.testing.assert_close(attention(text, latents, few)[1], mass)
