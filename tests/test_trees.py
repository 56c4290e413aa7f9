"""Trees are walked, named and filled whatever they are built of."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutmix.targets import MixedTarget
from cutmix.trees import filled, is_leaf, named, replaced, walk


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Record:
    left: Any
    right: Any


LEAF = torch.zeros(2)
trees = st.recursive(
    st.builds(object),
    lambda parts: st.one_of(
        st.lists(parts, min_size=1),
        st.lists(parts, min_size=1).map(tuple),
        st.dictionaries(st.text(max_size=2), parts),
        st.builds(Pair, parts, parts),
        st.builds(Record, parts, parts),
    ),
    max_leaves=8,
)


@given(trees)
def test_each_leaf_has_a_name_under_which_python_finds_it(tree):
    leaves = named(tree, "tree")

    assert all(eval(path, {"tree": tree}) is leaf for path, leaf in leaves.items())


@given(trees)
def test_a_tree_filled_with_its_own_leaves_is_equal_and_its_own(tree):
    same = filled(tree, named(tree, "tree").values())

    assert same == tree
    assert (same is tree) == (list(named(tree, "tree")) == ["tree"])


@given(trees)
def test_walking_and_naming_meet_the_same_leaves_in_the_same_order(tree):
    met = []
    walk(tree, met.append)

    assert all(one is other for one, other in zip(met, named(tree, "tree").values(), strict=True))


def test_paths_read_as_python_does():
    tree = {"depth": [LEAF, Pair(LEAF, Record(LEAF, (LEAF,)))], 3: LEAF}

    assert list(named(tree, "targets")) == [
        "targets['depth'][0]",
        "targets['depth'][1].left",
        "targets['depth'][1].right.left",
        "targets['depth'][1].right.right[0]",
        "targets[3]",
    ]


@pytest.mark.parametrize("leaf", [LEAF, MixedTarget(LEAF, LEAF, LEAF.double()), ["a", "b"], (1, 2), ()])
def test_what_counts_as_one_thing_is_a_leaf(leaf):
    assert is_leaf(leaf)
    assert list(named({"it": leaf}, "tree")) == ["tree['it']"]


def test_an_ordered_dict_stays_one():
    doubled = walk(OrderedDict(b=torch.ones(1), a=torch.ones(1)), lambda leaf: 2 * leaf)

    assert type(doubled) is OrderedDict
    assert list(doubled) == ["b", "a"]


def test_a_class_is_no_container():
    assert named({"kind": Record}, "tree") == {"tree['kind']": Record}


@pytest.mark.parametrize(
    ("tree", "key"), [((1, 2), 1), ([1, 2], 1), ({"right": 2}, "right"), (Pair(1, 2), "right"), (Record(1, 2), "right")]
)
def test_a_part_is_replaced_in_a_container_of_its_own(tree, key):
    fresh = replaced(tree, {key: 9})

    assert type(fresh) is type(tree)
    assert list(named(fresh, "").values())[-1] in (9, (1, 9), [1, 9])
    assert 9 not in named(tree, "").values()
