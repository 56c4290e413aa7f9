"""Tensors taken out of plain values, so that each is stored as what it is, and put back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from cutmix.trees import Tree

MARK = "<tensor>"
"""What stands where a tensor was taken out."""


def parted(tree: Tree) -> tuple[Tree, dict[str, Tensor]]:
    """Return ``tree`` in plain containers without its tensors, and these by where they lay: ``'optimizers/0/lr'``.

    Raises:
        ValueError: when two of them lie at one name, as under the keys 1 and '1'.
    """
    tensors = dict[str, Tensor]()

    def take(name: str, leaf: Any) -> Any:  # noqa: ANN401 - whatever there is
        if not isinstance(leaf, Tensor):
            return leaf
        if name in tensors:
            raise ValueError(f"a state must tell its tensors apart by name, got two at {name!r}; name one otherwise")
        tensors[name] = leaf.detach()
        return MARK

    return _walk(tree, take), tensors


def joined(tree: Tree, tensors: Mapping[str, Any]) -> Tree:
    """Return ``tree`` with the tensors that were taken out of it."""
    return _walk(tree, lambda name, leaf: tensors[name] if _is_mark(leaf) else leaf)


def taken_out(tree: Tree) -> set[str]:
    """Name the tensors that were taken out of ``tree``."""
    names = set[str]()
    _walk(tree, lambda name, leaf: names.add(name) if _is_mark(leaf) else None)
    return names


def _is_mark(leaf: object) -> bool:
    return isinstance(leaf, str) and leaf == MARK


def _walk(tree: Tree, act: Callable[[str, Any], Any], name: str = "") -> Tree:
    """Return ``tree`` in plain containers, with what ``act`` returns for each leaf and its name."""
    match tree:
        case Counter():  # more than a dict: it counts what is not there as 0
            return act(name, tree)
        case Mapping():
            return {key: _walk(part, act, _under(name, key)) for key, part in tree.items()}
        case list():
            return [_walk(part, act, _under(name, number)) for number, part in enumerate(tree)]
        case tuple():
            return tuple(_walk(part, act, _under(name, number)) for number, part in enumerate(tree))
        case _:
            return act(name, tree)


def _under(name: str, key: object) -> str:
    return f"{name}/{key}" if name else str(key)
