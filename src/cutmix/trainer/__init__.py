"""The training loop."""

from cutmix.trainer.trainer import Trainer

__all__ = ["Trainer"]
