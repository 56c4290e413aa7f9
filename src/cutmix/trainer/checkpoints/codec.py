"""Python values as JSON, and back, exactly: what is no JSON of its own carries a tag."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

from torch import Tensor

from cutmix.trainer.checkpoints.tensorfile import DTYPES, bytes_of, check_plain, name_of, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Place: TypeAlias = tuple[object, ...]

DEPTH = 100
"""How deep values may lie in one another; it also ends a list that holds itself."""
_MARK = "$"
_LONG = 64  # bits: longer whole numbers are hexadecimal, which Python reads without a limit on digits


@final
class CodecError(ValueError):
    """A value that cannot be written, or a text that ``encode`` has not written."""


class _Tag(NamedTuple):
    pack: Callable[[Any, Place], object]
    unpack: Callable[[Any, Place], object]


def encode(value: object) -> str:
    """Return ``value`` as strict JSON in ASCII; what would not come back exactly is refused, with its place.

    None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, Counter and Tensor are taken, and no subclass
    of them. Keys may be any of these. A tensor is its numbers: it comes back on the CPU, contiguous, without gradient.
    """
    return json.dumps(_packed(value, ()), allow_nan=False)


def decode(text: str) -> Any:  # noqa: ANN401 - whatever was encoded
    """Return the value that was encoded, of the same types all through; nothing in ``text`` is ever run."""
    try:
        tree = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_once_each)
    except CodecError:
        raise
    except (ValueError, RecursionError) as error:
        raise CodecError(f"text must be JSON as encode writes it, got other: {error}; it was altered") from error
    return _unpacked(tree, ())


def _packed(value: Any, place: Place) -> object:  # noqa: ANN401
    """Return ``value`` in terms of what JSON knows."""
    _check_depth(place)
    kind = type(value)
    if kind is list:
        return _pack_all(value, place)
    if kind is dict and all(type(key) is str and not key.startswith(_MARK) for key in value):
        return {key: _packed(item, (*place, key)) for key, item in value.items()}
    if _is_json(value):
        return value
    if kind not in _TAGS:
        raise CodecError(
            f"value{_written(place)} must be of a type that comes back exactly, got a {kind.__module__}."
            f"{kind.__qualname__}; turn it into one of None, bool, str, list, {', '.join(_KINDS)}"
        )
    return {_MARK + kind.__name__: _TAGS[kind].pack(value, place)}


def _is_json(value: object) -> bool:
    """Tell whether JSON holds ``value`` exactly as it is."""
    match value:
        case None:
            return True
        case int() if type(value) is int:
            return value.bit_length() < _LONG
        case float() if type(value) is float:
            return math.isfinite(value)
        case _:
            return type(value) in (bool, str)


def _unpacked(value: Any, place: Place) -> Any:  # noqa: ANN401
    _check_depth(place)
    if isinstance(value, list):
        return _unpack_all(value, place)
    if not isinstance(value, dict):
        return value
    marked = [key for key in value if key.startswith(_MARK)]
    if not marked:
        return {key: _unpacked(item, (*place, key)) for key, item in value.items()}
    kind = _KINDS.get(marked[0].removeprefix(_MARK))
    if kind is None or len(value) > 1:
        raise CodecError(f"text{_written(place)} must hold one known tag, got {', '.join(value)}; it was altered")
    try:
        return _TAGS[kind].unpack(value[marked[0]], place)
    except CodecError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise CodecError(
            f"text{_written(place)} must hold what a {marked[0]} is made of, got other: {error}"
        ) from error


def _pack_all(values: Iterable[Any], place: Place) -> list[object]:
    return [_packed(item, (*place, index)) for index, item in enumerate(values)]


def _unpack_all(values: Any, place: Place) -> list[Any]:  # noqa: ANN401
    return [_unpacked(item, (*place, index)) for index, item in enumerate(_list(values))]


def _pack_pairs(value: dict[Any, Any], place: Place) -> list[list[object]]:
    return [[_packed(key, (*place, key)), _packed(item, (*place, key))] for key, item in value.items()]


def _unpack_pairs(pairs: Any, place: Place) -> dict[Any, Any]:  # noqa: ANN401
    unpacked = []
    for index, pair in enumerate(_list(pairs)):
        key, item = _list(pair)
        unpacked.append((_unpacked(key, (*place, index)), _unpacked(item, (*place, index))))
    return _once_each(unpacked)


def _pack_set(value: Iterable[Any], place: Place) -> list[object]:
    # By their texts: the order of a set of strings is another in each process, and the file shall not be.
    return sorted((_packed(item, (*place, item)) for item in value), key=json.dumps)


def _unpack_set(items: Any, place: Place) -> set[Any]:  # noqa: ANN401
    return set(_once_each((item, None) for item in _unpack_all(items, place)))


def _pack_bytes(value: bytes | memoryview, _place: Place) -> str:
    return base64.b64encode(value).decode()


def _unpack_bytes(text: str, _place: Place) -> bytes:
    return base64.b64decode(text, validate=True)


def _pack_tensor(tensor: Tensor, place: Place) -> dict[str, object]:
    try:
        check_plain(tensor, f"value{_written(place)}")
    except ValueError as error:
        raise CodecError(str(error)) from None
    return {"dtype": name_of(tensor.dtype), "shape": list(tensor.shape), "data": _pack_bytes(bytes_of(tensor), place)}


def _unpack_tensor(parts: dict[str, Any], place: Place) -> Tensor:
    return tensor_of(_unpack_bytes(parts["data"], place), DTYPES[parts["dtype"]], parts["shape"])


_TAGS: dict[type, _Tag] = {
    int: _Tag(lambda value, _: hex(value), lambda text, _: int(text, 16)),
    float: _Tag(lambda value, _: repr(value), lambda text, _: float(text)),
    bytes: _Tag(_pack_bytes, _unpack_bytes),
    tuple: _Tag(_pack_all, lambda items, place: tuple(_unpack_all(items, place))),
    dict: _Tag(_pack_pairs, _unpack_pairs),
    Counter: _Tag(_pack_pairs, lambda pairs, place: Counter(_unpack_pairs(pairs, place))),
    set: _Tag(_pack_set, _unpack_set),
    frozenset: _Tag(_pack_set, lambda items, place: frozenset(_unpack_set(items, place))),
    Tensor: _Tag(_pack_tensor, _unpack_tensor),
}
_KINDS = {kind.__name__: kind for kind in _TAGS}


def _list(value: Any) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.40} in place of a list")
    return value


def _once_each(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return a dict of ``pairs``, no key of which may come twice."""
    found: dict[Any, Any] = {}
    for key, item in pairs:
        if key in found:
            raise CodecError(f"text must hold each key once, got {key!r} twice; it was altered")
        found[key] = item
    return found


def _finite(text: str) -> float:
    """Read a number that JSON may hold: Python reads ``NaN`` and ``1e999`` too."""
    number = float(text)
    if not math.isfinite(number):
        raise CodecError(f"text must hold finite numbers, got {text}; it was altered")
    return number


def _check_depth(place: Place) -> None:
    if len(place) > DEPTH:
        raise CodecError(
            f"value must be at most {DEPTH} deep, got more at {_written(place[:3])}...; something in it may hold itself"
        )


def _written(place: Place) -> str:
    return "".join(f"[{step!r}]" for step in place)
