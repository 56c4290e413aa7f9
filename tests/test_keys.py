import random
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.keys import fold, generator_for


def test_the_same_key_draws_the_same():
    assert torch.equal(
        torch.rand(5, generator=generator_for(1, 2, 3, "mix")), torch.rand(5, generator=generator_for(1, 2, 3, "mix"))
    )


def test_every_field_of_the_key_changes_what_is_drawn():
    keys = [(1, 2, 3, "mix"), (2, 2, 3, "mix"), (2, 3, 3, "mix"), (2, 3, 4, "mix"), (2, 3, 4, "augment")]

    drawn = [torch.rand(5, generator=generator_for(*key)) for key in keys]
    assert not any(torch.equal(one, other) for one, other in pairwise(drawn))


def test_seeds_that_differ_above_their_low_32_bits_draw_differently():
    assert generator_for(7, 0).initial_seed() != generator_for(7 + (5 << 32), 0).initial_seed()


@given(st.integers(), st.integers())
def test_a_folded_key_has_32_bits(seed, step):
    assert 0 <= fold(seed, "mix", step) < 2**32


def test_fields_do_not_run_into_each_other():
    assert len({fold(1, 23), fold(12, 3), fold(1, 2, 3), fold(123), fold(1, "23")}) == 5


def test_the_ranks_of_a_loop_draw_different_plans():
    boxes = [[generator_for(0, step, rank).initial_seed() for rank in range(2)] for step in range(200)]

    assert all(one != other for one, other in boxes)


def test_a_keyed_generator_leaves_the_global_ones_alone():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - the global one is meant
    torch.rand(3, generator=generator_for(0, 0))

    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
