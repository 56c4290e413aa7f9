"""What every rank runs: a loss that is not finite on one rank, and then a weight."""

import math
import sys
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from cutmix.trainer import NonFiniteLossError, SkipNonFinite, Trainer
from cutmix.trainer.callbacks.finite import check_finite

torch.set_num_threads(1)
warnings.filterwarnings("ignore")


def main(parallelism):
    def loss_fn(outputs, target):
        is_bad = trainer.state.rank == 1 and trainer.state.timestamp.batch == 1
        return F.cross_entropy(outputs, target) + (math.inf if is_bad else 0.0)  # whose gradient is finite

    torch.manual_seed(0)
    batches = [(torch.rand(4, 6), torch.arange(4) % 3)] * 8
    skipping = SkipNonFinite(limit=1)
    settings = {"device": "cpu", "progress_bar": False, "seed": 0, "parallelism": parallelism}
    trainer = Trainer(nn.Linear(6, 4), batches, loss_fn=loss_fn, callbacks=skipping, **settings)
    trainer.fit()
    assert trainer.state.timestamp.batch == 4
    assert skipping.state_dict() == {"skipped": 1}
    check_finite(trainer.state)

    weight = trainer.state.model.weight.data
    if trainer.state.rank == 1:
        (weight.to_local() if parallelism == "fsdp" else weight).fill_(math.inf)
    try:
        check_finite(trainer.state)
    except NonFiniteLossError as error:
        print(error)


if __name__ == "__main__":
    for parallelism in sys.argv[1:]:
        main(parallelism)
