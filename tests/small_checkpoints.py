"""Checkpoints that hold one number, and tell it."""

import torch

from cutmix.trainer.checkpoints.checkpoint import Content, read, write


def content(number=1.0):
    tensors = {"weights": {"layer": torch.full((2, 3), number)}, "training": {"momentum": torch.zeros(2)}}
    return Content(tensors, {"number": number})


def number_in(folder):
    found = read(folder)

    assert torch.equal(found.tensors["weights"]["layer"], torch.full((2, 3), found.values["number"]))
    return found.values["number"]


def two_in(folder):
    """Write two checkpoints, of the numbers 1 and 2."""
    write(folder / "ep0-ba1", content(1.0))
    write(folder / "ep0-ba2", content(2.0))
    return folder
