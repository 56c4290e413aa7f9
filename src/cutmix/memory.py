"""Where results may be written: memory of the right kind, and whether it is shared with what is read."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor

from cutmix.shapes import Images

Tensors: TypeAlias = Mapping[str, Tensor]
"""The tensors of a tree by where they lie in it."""


def check_outs(inputs: Tensors, outs: Tensors, source: Tensors, held: list[Tensor]) -> None:
    """Check that where each of the images goes is memory that nothing else is read from or written to.

    In place the images, and the source that they are, are read before they are written to; nothing else is.

    Raises:
        TypeError: when an output is no tensor that lies in strides.
        ValueError: when it cannot hold its images, or shares memory with any other tensor.
    """
    for path, leaf in inputs.items():
        check_out(leaf, outs[path])
        others = held if source[path] is leaf else [*held, source[path]]
        if len(inputs) > 1:
            beside = ((inputs[place], source[place], outs[place]) for place in inputs if place != path)
            others = [*others, *chain.from_iterable(beside)]
        check_apart(outs[path], others)


def check_out(images: Images, out: Images) -> None:
    """Check that results like the images can be written to ``out``, in their place or beside them.

    Raises:
        TypeError: when it is no tensor that lies in strides.
        ValueError: when it is of another kind than the images, not every pixel has memory that may be written to, or
            it is shared with theirs in another way.
    """
    if not isinstance(out, Tensor) or out.layout is not torch.strided:
        kind = getattr(out, "layout", type(out).__name__)
        raise TypeError(f"out must be a dense torch.Tensor, got {kind}: make it with torch.empty_like(images)")
    if out is not images and (out.shape, out.dtype, out.device) != (images.shape, images.dtype, images.device):
        raise ValueError(
            f"out must be like the images, {tuple(images.shape)} {images.dtype} on {images.device}, got "
            f"{tuple(out.shape)} {out.dtype} on {out.device}: make it with torch.empty_like(images)"
        )
    if out.requires_grad and torch.is_grad_enabled() and _owner(out).is_leaf:
        raise ValueError("out must not be a leaf that requires grad, got one: autograd would lose it; leave out= away")
    if not out.is_contiguous() and not torch.compiler.is_compiling() and _meets_itself(out):
        raise ValueError(
            f"out must have memory for every pixel, got strides {out.stride()} for shape {tuple(out.shape)}: pixels "
            "that share theirs, as those of an expanded tensor, cannot all be written, make it with "
            "torch.empty_like(images)"
        )
    if out is not images and not is_same(out, images):
        check_apart(out, [images])


def check_apart(out: Images, others: Iterable[Tensor]) -> None:
    """Check that ``out`` shares no memory with others.

    Raises:
        ValueError: when it does.
    """
    for other in others:
        if overlap(out, other):
            raise ValueError(
                "out must be the images themselves or share no memory with them, got another view of the same memory: "
                "make it with torch.empty_like(images)"
            )


def is_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are the same view of the same memory; a graph knows no addresses."""
    if one is other or torch.compiler.is_compiling():
        return one is other
    views = ((view.data_ptr(), view.shape, view.stride(), view.dtype) for view in (one, other))
    return next(views) == next(views)


def overlap(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors span common memory; two that interleave count as such."""
    if torch.compiler.is_compiling() or one.device != other.device or one.is_meta:
        return False  # a graph orders reads before writes by itself
    one_start, other_start = one.data_ptr(), other.data_ptr()
    one_bytes = one.nbytes if one.is_contiguous() else _reach(one)
    other_bytes = other.nbytes if other.is_contiguous() else _reach(other)
    return one_start < other_start + other_bytes and other_start < one_start + one_bytes


def _owner(tensor: Tensor) -> Tensor:
    """Return the tensor that this one is a view of, or itself."""
    return tensor if tensor._base is None else tensor._base  # noqa: SLF001 - torch has no public name for it


def _meets_itself(tensor: Tensor) -> bool:
    """Tell whether two pixels may share memory: a step along some axis does not lead past what lies inside of it."""
    reach = 0
    for stride, side in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if side > 1:
            if stride <= reach:
                return True
            reach += (side - 1) * stride
    return False


def _reach(tensor: Tensor) -> int:
    """Return how many bytes a tensor spans, those in between that are not its own too."""
    last = sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
