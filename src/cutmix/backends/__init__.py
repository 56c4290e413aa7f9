"""Backends apply a plan to a batch; they all give the same bytes."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cutmix.backends import eager, reference, ring
from cutmix.backends.partners import CannotMixError, check_present
from cutmix.memory import check_out
from cutmix.plans import Plan
from cutmix.shapes import Channels, Images, Source

Backend: TypeAlias = Literal["auto", "reference", "eager", "ring", "compiled", "triton"]

BYTES_WORTH_A_CALL = 1 << 16
"""From about this size of a sample on, one copy a sample is faster than gathering the boxes of the whole batch."""


def mix_images(
    images: Images,
    plan: Plan,
    *,
    source: Source | None = None,
    out: Images | None = None,
    backend: Backend = "auto",
) -> Images:
    """Return the images mixed by ``plan``, whose axes are the images' last ones.

    Args:
        images: (batch, ..., *plan.size). Never written to, unless it is also ``out``.
        plan: what was drawn for this batch.
        source: the batch that the partners come from; else the images.
        out: where to write the result; the images themselves for in place, else memory that shares nothing with them.
            Without it the result is new memory with the strides that ``torch.empty_like(images)`` has.
        backend: "reference" is the plain loop that says what is meant; "eager" vectorised torch operations, for any
            device, gradients and graphs; "ring" torch's copies from sample to sample, for large pictures on the host;
            "compiled" loops for the host, which need numba; "triton" one kernel for GPUs, without gradients; "auto"
            chooses by what is asked.

    Raises:
        TypeError: when the images are integers, which hold no blend, or ``out`` is no tensor.
        ValueError: when ``backend`` is none of these, or cannot do what is asked, or the plan, the source or ``out`` do
            not fit the images.
        ModuleNotFoundError: when the package that a backend needs is not installed.
    """
    _check_fit(images, plan, source, out)
    if backend == "auto":
        return mix_trusted(images, plan, source=source, out=out)
    if backend in ("ring", "compiled"):
        _check_host(images, plan, source, out, backend)
    return _mix_by(backend, images, plan, source, out)


def mix_trusted(images: Images, plan: Plan, *, source: Source | None = None, out: Images | None = None) -> Images:
    """Mix by the fastest backend what has been checked to fit, as ``mixing`` does it; else as ``mix_images``."""
    for fast in _candidates(images, plan, source, out):
        try:
            return _mix_by(fast, images, plan, source, out)
        except CannotMixError:  # a permutation or a layout that it does not know: nothing was written
            continue
    return _mix_by("eager", images, plan, source, out)


def _mix_by(backend: Backend, images: Images, plan: Plan, source: Source | None, out: Images | None) -> Images:
    match backend:
        case "eager":
            return eager.mix_images(images, plan, source=source, out=out)
        case "reference":
            return reference.mix_images(images, plan, source=source, out=out)
        case "ring":
            return ring.mix_images(images, plan, source=source, out=out)
        case "compiled" | "triton":
            return _written(_optional(backend).mix_images(images, plan, source=source, out=out))
        case _:
            raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")


def mix_normalize(
    images: Images, plan: Plan, mean: Channels, std: Channels, *, out: Images, backend: Backend = "auto"
) -> Images:
    """Fill ``out`` with ``(images / 255 - mean) / std``, mixed by ``plan``: in float32, then rounded to its dtype.

    The same bytes come out whether it takes one pass ("compiled", "triton") or one for each step ("eager").

    Args:
        images: (batch, channels, height, width) uint8.
        plan: what was drawn for this batch.
        mean: of each channel, in shares of 255, on the images' device.
        std: of each channel, as the mean.
        out: like the images but floating point, in memory of its own, with any strides.
        backend: "eager", "compiled" or "triton"; "auto" takes one pass where it can.

    Raises:
        ValueError: when ``backend`` is none of these, or cannot do what is asked.
        ModuleNotFoundError: when the package that a backend needs is not installed.
    """
    if backend == "auto":
        one_pass = [fast for fast in _candidates(images, plan, None, out) if fast != "ring"]
        backend = one_pass[0] if one_pass else "eager"
    match backend:
        case "eager":
            return eager.mix_normalize(images, plan, mean, std, out)
        case "compiled":
            _check_host(images, plan, None, out, "compiled")
            return _written(_optional(backend).mix_normalize(images, plan, eager.table(mean, std, out.dtype), out))
        case "triton":
            return _written(_optional(backend).mix_normalize(images, plan, mean, std, out))
        case _:
            raise ValueError(f"backend must be one of 'auto', 'eager', 'compiled' and 'triton' here, got {backend!r}")


def _candidates(images: Images, plan: Plan, source: Source | None, out: Images | None) -> list[Backend]:
    """List the backends that may be faster than eager at what is asked, the fastest first."""
    if torch.compiler.is_compiling():
        return []
    out = None if out is images else out
    if _is_memory_for_triton(images, source, out):
        return ["triton"]
    if not (plan.is_opaque and plan.is_readable and _is_host_memory(images, source, out)):
        return []
    fast: list[Backend] = ["compiled"] if _has_numba() else []
    if images.nbytes >= BYTES_WORTH_A_CALL * images.shape[0]:
        fast.append("ring")
    return fast


def _check_fit(images: Images, plan: Plan, source: Source | None, out: Images | None) -> None:
    """Check what loops that go by address trust: that the plan, the source and ``out`` are of the images' kind."""
    if tuple(images.shape[-len(plan.size) :]) != plan.size or images.shape[: -len(plan.size)][:1] != (plan.batch,):
        raise ValueError(
            f"images must be what the plan was drawn for, ({plan.batch}, ..., {', '.join(map(str, plan.size))}), got "
            f"shape {tuple(images.shape)}: draw another plan, or move its axes last"
        )
    if not images.is_floating_point() and plan.blends:
        raise TypeError(f"images must be floating point to be blended, got {images.dtype}: convert with .float()")
    if out is not None:
        check_out(images, out)
    others = images if source is None else source
    if others.shape[1:] != images.shape[1:] or others.dtype != images.dtype or others.device != images.device:
        raise ValueError(
            f"source must have samples like the images, {tuple(images.shape[1:])} {images.dtype} on {images.device}, "
            f"got {tuple(others.shape[1:])} {others.dtype} on {others.device}: prepare both batches alike"
        )
    if plan.is_readable:
        check_present(plan.partners, others.shape[0])


def _written(images: Images) -> Images:
    """Tell autograd of what was written by address, so that a gradient that needs what was there fails."""
    if not images.is_inference():
        torch.autograd.graph.increment_version(images)
    return images


def _is_host_memory(*batches: Images | None) -> bool:
    """Tell whether these are the host's plain memory, where no gradient or transform would miss what is written."""
    return all(batch.is_cpu and _is_plain(batch) for batch in batches if batch is not None)


def _is_memory_for_triton(*batches: Images | None) -> bool:
    """Tell whether a kernel may run on these: the plain memory of a GPU, of numbers that it knows."""
    known = all(batch.is_cuda and _is_plain(batch) and not batch.is_complex() for batch in batches if batch is not None)
    return known and _has_triton()


def _is_plain(batch: Images) -> bool:
    if type(batch) is not Tensor or batch.layout is not torch.strided or batch.is_conj() or batch.is_neg():
        return False
    transformed = torch._C._functorch.is_functorch_wrapped_tensor(batch)  # noqa: SLF001 - torch has no public name for it
    differentiated = batch.requires_grad and torch.is_grad_enabled()
    return not (transformed or differentiated or forward_ad.unpack_dual(batch).tangent is not None)


def _check_host(images: Images, plan: Plan, source: Source | None, out: Images | None, name: str) -> None:
    if not plan.is_opaque:
        raise ValueError(f"backend {name!r} pastes opaque boxes only, got {plan}: use backend='eager'")
    if not _is_host_memory(images, source, out):
        raise ValueError(
            f"backend {name!r} copies plain memory of the host, got {images.device} with "
            f"requires_grad={images.requires_grad}: use backend='eager'"
        )


@cache
def _optional(backend: Backend) -> ModuleType:
    """Import a backend that needs what may not be installed."""
    return import_module(f"cutmix.backends.{backend}")


@cache
def _has_numba() -> bool:
    """Tell whether the compiled loops can be had: numba is here, and finds a place to keep what it compiled."""
    if find_spec("numba") is None:
        return False
    try:
        import_module("cutmix.backends.kernels")
    except (ImportError, RuntimeError):
        return False
    return True


@cache
def _has_triton() -> bool:
    """Tell whether kernels can be had: triton is here, and finds a GPU that it knows and what it compiles with."""
    try:
        from cutmix.backends.triton_kernel import can_launch
    except ImportError:
        return False
    return can_launch()
