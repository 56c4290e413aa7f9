"""Tensors are taken out of plain values and put back; names tell where they lay."""

from collections import Counter, OrderedDict

import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.trainer.checkpoints.parting import joined, parted, taken_out

LEAVES = st.none() | st.integers() | st.text("ab", max_size=2) | st.builds(torch.tensor, st.integers(0, 9))
TREES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, max_size=3) | st.tuples(parts, parts) | st.dictionaries(st.text("xyz", min_size=1), parts)
    ),
)


def plain(tree):
    """Return the same with numbers for tensors, which do not compare."""
    match tree:
        case torch.Tensor():
            return ("tensor", tree.item())
        case dict():
            return {key: plain(part) for key, part in tree.items()}
        case list() | tuple():
            return type(tree)(plain(part) for part in tree)
    return tree


@given(TREES)
def test_what_was_parted_is_joined_again(tree):
    values, tensors = parted(tree)

    assert taken_out(values) == set(tensors)
    assert plain(joined(values, tensors)) == plain(tree)


def test_names_are_paths():
    held = {"optimizers": [{"lr": torch.zeros(()), "betas": (0.9, torch.ones(2))}], 3: torch.ones(1)}

    assert set(parted(held)[1]) == {"optimizers/0/lr", "optimizers/0/betas/1", "3"}


def test_kinds_of_dicts_become_dicts_but_counters_stay():
    values, _ = parted({"ordered": OrderedDict(a=1), "counted": Counter("aab")})

    assert type(values["ordered"]) is dict
    assert type(values["counted"]) is Counter
