"""Many processes: the one place that talks to torch.distributed, and only where there are several."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import distributed as dist  # torch has loaded it already

from cutmix.core.world import Value, World

if TYPE_CHECKING:
    from torch import Tensor

LAUNCHED = ("RANK", "WORLD_SIZE")  # what torchrun tells a process, beside LOCAL_RANK


def join(device: torch.device) -> World:
    """Return the world that the launcher's environment tells of; a world of one where there is no launcher.

    The process group is made where there is none: nccl for tensors on cuda, gloo for those on the CPU.
    """
    if not all(name in os.environ for name in LAUNCHED):
        return World()
    rank, size = (int(os.environ[name]) for name in LAUNCHED)
    if size == 1:
        return World()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Processes(rank, size, int(os.environ.get("LOCAL_RANK", "0")))


@final
@dataclass(frozen=True, slots=True)
class Processes(World):
    """Several processes, in torch's default group."""

    def barrier(self) -> None:
        dist.barrier()

    def broadcast(self, value: Value) -> Value:
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def gathered(self, value: Value) -> list[Value]:
        held = [value] * self.size
        dist.all_gather_object(held, value)
        return held

    def total(self, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed
