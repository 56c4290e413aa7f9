"""What can be told of a tensor without waiting for it."""

import torch
from torch import Tensor


def is_readable(values: Tensor) -> bool:
    """Tell whether numbers can be read without waiting: they are on the host, and not part of a graph."""
    return values.is_cpu and not torch.compiler.is_compiling()


def holds_whole_numbers(values: Tensor) -> bool:
    """Tell whether the dtype is one of whole numbers, as class ids and positions have it."""
    return not (values.is_floating_point() or values.is_complex() or values.dtype is torch.bool)
