"""The training loop."""

from cutmix.trainer.callbacks.averaging import EMA
from cutmix.trainer.callbacks.finite import NonFiniteLossError, SkipNonFinite
from cutmix.trainer.callbacks.stopping import EarlyStopping
from cutmix.trainer.checkpoints.weights import load_weights
from cutmix.trainer.evaluators import Evaluator
from cutmix.trainer.optim import CosineWithWarmup, parameter_groups
from cutmix.trainer.trainer import Trainer

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
