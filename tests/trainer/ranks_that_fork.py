"""What several processes do that start others by forks, as loaders do."""

import os

import torch
from torch import distributed

from cutmix.trainer.processes import join

FORKS = 100


def forks(rank):
    """Return at how many forks a thread of gloo's had still to let go of what it had just sent."""
    late = []
    os.register_at_fork(before=lambda: late.append(sent._use_count() > 1))  # so early that it is asked last
    join()
    for _ in range(FORKS):
        sent = torch.zeros(1)
        distributed.all_reduce(sent)
        if not os.fork():
            os._exit(0)
        os.wait()
    return sum(late)
