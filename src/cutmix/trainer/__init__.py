"""The training loop."""

from cutmix.trainer.averaging import EMA
from cutmix.trainer.evaluators import Evaluator
from cutmix.trainer.finite import NonFiniteLossError, SkipNonFinite
from cutmix.trainer.optim import CosineWithWarmup, parameter_groups
from cutmix.trainer.stopping import EarlyStopping
from cutmix.trainer.trainer import Trainer
from cutmix.trainer.weights import load_weights

__all__ = [
    "EMA",
    "CosineWithWarmup",
    "EarlyStopping",
    "Evaluator",
    "NonFiniteLossError",
    "SkipNonFinite",
    "Trainer",
    "load_weights",
    "parameter_groups",
]
