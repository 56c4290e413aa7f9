"""The device and its chance."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Generator


def device_for(device: str | torch.device | None) -> torch.device:
    """Return the device asked for; ``'gpu'`` is cuda or mps, and None takes that where it is, else the CPU."""
    if device in ("gpu", None):
        return _accelerator(required=device == "gpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be 'cpu', 'gpu', 'mps' or a torch.device, got {device!r}") from None
    if found.type not in ("cpu", *_accelerators()):
        raise ValueError(f"device must be there, got {device!r}, and torch finds none; use device='cpu'")
    if found.type == "cuda" and found.index is None:
        return _cuda_of_this_process()
    return torch.empty(0, device=found).device  # with its index, as tensors there will have it


def generators_of(device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """Return the default generators of the CPU and of ``device``; on the CPU they are one."""
    if device.type == "cuda":
        torch.cuda.init()
        return torch.default_generator, torch.cuda.default_generators[device.index]
    if device.type == "mps":
        return torch.default_generator, torch.mps._get_default_mps_generator()  # noqa: SLF001 - torch shows no other
    return torch.default_generator, torch.default_generator


@contextmanager
def seeded(seed: int, generators: tuple[torch.Generator, ...]) -> Generator[None]:
    """Seed ``generators``, and leave them as they were found."""
    found = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, found, strict=True):
            generator.set_state(state)


def check_deterministic(device: torch.device) -> None:
    """Refuse to promise what cuBLAS would not keep."""
    if device.type == "cuda" and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in (":4096:8", ":16:8"):
        raise ValueError(
            "deterministic_mode needs the environment variable CUBLAS_WORKSPACE_CONFIG to be ':4096:8' or ':16:8' on a "
            f"GPU, got {os.environ.get('CUBLAS_WORKSPACE_CONFIG')!r}; set it before Python starts"
        )


@contextmanager
def deterministic() -> Generator[None]:
    """Let torch compute by algorithms that repeat to the bit only, and refuse what has none; leave it as it was."""
    cudnn = torch.backends.cudnn
    found = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    found_cudnn = cudnn.deterministic, cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(mode=True)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(found[0], warn_only=found[1])
        cudnn.deterministic, cudnn.benchmark = found_cudnn


def _cuda_of_this_process() -> torch.device:
    """Return the current GPU, or the one that a launcher means by this process's number on its machine."""
    index, there = int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())), torch.cuda.device_count()
    if index >= there:
        raise ValueError(
            f"device must be there for each process of a machine, got LOCAL_RANK {index} and {there} of cuda; "
            "start no more processes than that"
        )
    return torch.device("cuda", index)


def _accelerators() -> list[str]:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, is_there in there.items() if is_there]


def _accelerator(*, required: bool) -> torch.device:
    for name in _accelerators():
        return device_for(name)
    if required:
        raise ValueError("device must be there, got 'gpu', and torch finds neither cuda nor mps; use device='cpu'")
    return torch.device("cpu")
