"""The training loop."""

from cutmix.trainer.evaluators import Evaluator
from cutmix.trainer.optim import CosineWithWarmup, parameter_groups
from cutmix.trainer.trainer import Trainer
from cutmix.trainer.weights import load_weights

__all__ = ["CosineWithWarmup", "Evaluator", "Trainer", "load_weights", "parameter_groups"]
