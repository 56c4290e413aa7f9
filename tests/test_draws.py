import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.draws import draw_betas, draw_chances, draw_coins, draw_ring, draw_shuffle
from strategies import seeds


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(st.integers(2, 40), seeds)
def test_a_ring_visits_everybody_before_it_closes(batch, seed):
    partners = draw_ring(batch, seeded(seed)).tolist()

    visited, sample = [], 0
    for _ in range(batch):
        sample = partners[sample]
        visited.append(sample)
    assert sorted(visited) == list(range(batch))
    assert visited[-1] == 0


def test_every_ring_of_four_is_equally_likely():
    generator = seeded(0)
    drawn = [tuple(draw_ring(4, generator).tolist()) for _ in range(6000)]

    counts = [drawn.count(ring) for ring in set(drawn)]
    assert len(counts) == 6
    assert all(abs(count - 1000) < 5 * 1000**0.5 for count in counts)


@given(st.integers(1, 40), seeds)
def test_a_shuffle_is_a_permutation(batch, seed):
    assert sorted(draw_shuffle(batch, seeded(seed)).tolist()) == list(range(batch))


@pytest.mark.parametrize("alpha", [1e-300, 0.01, 0.2, 0.999, 1.0, 1.001, 4.0, 1e300])
def test_a_beta_draw_has_the_mean_and_variance_of_the_distribution(alpha):
    drawn = torch.from_numpy(draw_betas(alpha, 20_000, seeded(0)))

    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.015)
    assert drawn.var().item() == pytest.approx(0.25 / (2 * alpha + 1), abs=0.01)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 2.0, 100.0])
def test_a_beta_draw_is_spread_as_that_of_another_library(alpha):
    count = 50_000
    drawn = [draw_betas(alpha, count, seeded(0)), np.random.default_rng(0).beta(alpha, alpha, count)]

    places = np.sort(np.concatenate(drawn))
    shares = [np.searchsorted(np.sort(numbers), places, side="right") / count for numbers in drawn]
    assert np.abs(shares[0] - shares[1]).max() < 1.63 * (2 / count) ** 0.5  # Kolmogorov and Smirnov, 1 %


@pytest.mark.parametrize("alpha", [1e8, 1e16])
def test_a_beta_draw_close_to_a_half_keeps_its_spread(alpha):
    drawn = draw_betas(alpha, 50_000, seeded(0)) - 0.5

    assert np.std(drawn) == pytest.approx((8 * alpha) ** -0.5, rel=0.02)


def test_uniform_draws_fill_the_unit_interval():
    drawn = torch.from_numpy(draw_chances(10_000, 2, seeded(0))).flatten()

    assert ((drawn >= 0) & (drawn < 1)).all()
    assert torch.histc(drawn, 10, 0, 1).sub(2000).abs().max() < 5 * 2000**0.5


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_coins_fall_as_often_as_they_should(p):
    assert draw_coins(p, 20_000, seeded(0)).double().mean().item() == pytest.approx(p, abs=0.015 * (0 < p < 1))
