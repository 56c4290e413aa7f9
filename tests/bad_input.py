"""One cell of the tables of bad input, and what every refusal has in common."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch


@dataclass(frozen=True)
class Case:
    """A call with one bad argument, and what the refusal says: the argument's name, then all of ``words``."""

    call: Callable[[], object]
    error: type[Exception]
    argument: str
    words: tuple[str, ...]
    reads: tuple[torch.Tensor, ...] = ()
    """What must be as it was afterwards."""


def ids(case):
    return f"{case.argument}: {case.words[0]}"


def check_refused(case):
    """Check the type of the error and its words, that nothing was written, and that nothing was drawn."""
    before = [tensor.clone() for tensor in case.reads]
    state = torch.get_rng_state()

    with pytest.raises(case.error) as refusal:
        case.call()
    message = str(refusal.value)
    assert all(words in message for words in (case.argument, *case.words)), message
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(case.reads, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
