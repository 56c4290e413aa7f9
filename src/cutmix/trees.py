"""Trees: tuples, lists, dicts, named tuples and dataclasses, in each other, around leaves."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

from torch import Tensor

Tree: TypeAlias = Any  # the user's own type: no narrower name is true

_PLAIN = (str, bytes, int, float, type(None))
SEQUENCES = (tuple, list)  # a union, built at each call, would be slow
_WITH_ITEMS = (list, MutableMapping)


def is_leaf(part: object) -> bool:
    """Tell whether ``part`` counts as one thing although it may be a tuple: a MixedTarget, or a list of names."""
    if isinstance(part, Tensor):
        return True
    if not isinstance(part, SEQUENCES):
        return False
    if hasattr(part, "__torch_function__"):  # a tuple that answers torch's functions stands for one tensor
        return True
    for item in part:  # noqa: SIM110 - a generator would be slow, once a batch
        if not isinstance(item, _PLAIN):
            return False
    return True


def walk(tree: Tree, act: Callable[[Any], Any], is_leaf: Callable[[object], bool] = is_leaf) -> Tree:
    """Return containers like those of ``tree`` around what ``act`` returns for each leaf."""
    if isinstance(tree, Tensor) or is_leaf(tree):
        return act(tree)
    if type(tree) in SEQUENCES:  # what most batches are
        return type(tree)([act(part) if isinstance(part, Tensor) else walk(part, act, is_leaf) for part in tree])
    parts = _parts(tree)
    if parts is None:
        return act(tree)
    return replaced(tree, {key: walk(part, act, is_leaf) for key, part in parts.items()})


def leaves(tree: Tree, is_leaf: Callable[[object], bool] = is_leaf) -> list[Any]:
    """List what ``tree`` holds, in its order."""
    parts = None if is_leaf(tree) else _parts(tree)
    if parts is None:
        return [tree]
    return [leaf for part in parts.values() for leaf in leaves(part, is_leaf)]


def named(tree: Tree, name: str, is_leaf: Callable[[object], bool] = is_leaf) -> dict[str, Any]:
    """Return the leaves of ``tree`` by where they lie in what is called ``name``: ``targets['depth'][0]``."""
    parts = None if is_leaf(tree) else _parts(tree)
    if parts is None:
        return {name: tree}
    found: dict[str, Any] = {}
    for key, part in parts.items():
        found |= named(part, name + (f".{key}" if _has_fields(tree) else f"[{key!r}]"), is_leaf)
    return found


def filled(tree: Tree, contents: Iterable[Any]) -> Tree:
    """Return containers like those of ``tree`` around these leaves, which come in its order."""
    following = iter(contents)
    return walk(tree, lambda _: next(following))


def detached(tree: Tree) -> Tree:
    """Return ``tree`` with its tensors free of the graph that made them."""
    return walk(tree, lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf)


def replaced(tree: Tree, parts: Mapping[Any, Any]) -> Tree:
    """Return a container like ``tree`` with some parts replaced, by index, key or field; ``tree`` stays as it is."""
    if type(tree) is tuple:
        return tuple(replaced(list(tree), parts))
    if isinstance(tree, tuple):
        items = [parts.get(key, part) for key, part in (_parts(tree) or {}).items()]
        return type(tree)(*items) if _has_fields(tree) else type(tree)(items)
    fresh = type(tree)(tree) if type(tree) in (list, dict) else copy.copy(tree)  # torch.compile copies no dict
    holds_items = type(fresh) is list or isinstance(fresh, _WITH_ITEMS)  # which is slow to ask
    for key, part in parts.items():
        if holds_items:
            fresh[key] = part
        else:
            object.__setattr__(fresh, str(key), part)  # a frozen dataclass too: nobody has seen this copy yet
    return fresh


def _parts(tree: Tree) -> dict[Any, Any] | None:
    """Return the parts of a container by index, key or field; None for what is none."""
    if isinstance(tree, SEQUENCES):
        return dict(zip(tree._fields, tree, strict=True)) if _has_fields(tree) else dict(enumerate(tree))
    if isinstance(tree, MutableMapping):
        return dict(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return None


def _has_fields(tree: Tree) -> bool:
    return hasattr(tree, "_fields") or (dataclasses.is_dataclass(tree) and not isinstance(tree, MutableMapping))
