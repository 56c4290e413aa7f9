"""The training loop."""

from cutmix.trainer.evaluators import Evaluator
from cutmix.trainer.optim import CosineWithWarmup, parameter_groups
from cutmix.trainer.trainer import Trainer

__all__ = ["CosineWithWarmup", "Evaluator", "Trainer", "parameter_groups"]
