"""The state of a run: the one thing that changes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch

from cutmix.core.batch import get_item, set_item
from cutmix.core.logger import value_of
from cutmix.core.time import Moment, Time, Timestamp
from cutmix.core.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.amp import GradScaler
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from cutmix.core.algorithm import Algorithm
    from cutmix.core.batch import Batch, Key
    from cutmix.core.callback import Callback
    from cutmix.core.logger import Figure
    from cutmix.plans import Plan


@final
@dataclass(slots=True, eq=False, kw_only=True)
class State:
    """Where a run is and what it works with. Algorithms change it; callbacks read it."""

    model: nn.Module  # the user's own
    loss_fn: Callable[[Any, Any], Tensor]
    device: torch.device
    seed: int
    world: World = field(default_factory=World)
    precision: str = "fp32"
    input_key: Key = 0
    target_key: Key = 1
    takes_batch: bool = False  # whether the model and its loss are handed whole batches, as Composer's are
    forward: Callable[..., Any] = field(init=False)  # what is called: the model, or what wraps it

    optimizers: list[Optimizer] = field(default_factory=list)
    schedulers: list[LRScheduler] = field(default_factory=list)
    scaler: GradScaler | None = None  # of the gradients, in float16
    same_plans: bool = False  # whether all ranks mix by the same plan
    algorithms: tuple[Algorithm, ...] = ()
    callbacks: tuple[Callback, ...] = ()

    timestamp: Timestamp = field(default_factory=Timestamp)
    max_duration: Time = field(default_factory=lambda: Time(1))
    batches_per_epoch: int | None = None  # None where the loader cannot tell

    batch: Batch = None  # the whole batch; between BEFORE_FORWARD and AFTER_BACKWARD the microbatch
    owns_batch: bool = False  # whether nobody else holds the batch's memory
    find_samples: Callable[[], Any] | None = None  # which the batch holds, where the order of the data tells
    plan: Plan | None = None  # how the batch was mixed
    outputs: Any = None
    loss: Tensor | None = None
    weight: float = 1.0  # of the microbatch's loss; 0: this rank only keeps step with others, and nothing of it counts
    measured: dict[str, Figure] | Callable[[], dict[str, Figure]] = field(default_factory=dict)  # of the last step
    eval_metrics: dict[str, float] = field(default_factory=dict)  # the latest; at EVAL_END of the one that ends
    evaluated: dict[str, int] = field(default_factory=dict)  # the step of the last evaluation, by evaluator; -1: none
    after_eval: ExitStack = field(default_factory=ExitStack)  # what an evaluation must undo, however it ends
    stop_reason: str | None = None  # set by whoever wants training to stop at the end of this step

    def __post_init__(self) -> None:
        self.forward = self.model

    @property
    def rank(self) -> int:
        """Return this process's number among those that train together; 0 writes the files."""
        return self.world.rank

    @property
    def plan_rank(self) -> int:
        """Return the rank that plans are keyed by: each draws its own, unless ``same_plans`` is set."""
        return 0 if self.same_plans else self.world.rank

    @property
    def train_figures(self) -> dict[str, Figure]:
        """Return what was measured of the last step; a figure is computed when somebody asks for its value."""
        if not isinstance(self.measured, dict):
            self.measured = self.measured()
        return self.measured

    @property
    def train_metrics(self) -> dict[str, float | Tensor]:
        """Compute what was measured of the last step, under the names that are logged: ``train/loss``, ..."""
        return {name: value_of(figure) for name, figure in self.train_figures.items()}

    def batch_get_item(self, key: Key) -> Any:  # noqa: ANN401 - what a batch holds is the user's
        """Return what the batch holds under ``key``."""
        return get_item(self.batch, key)

    def batch_set_item(self, key: Key, value: Any) -> None:  # noqa: ANN401
        """Put ``value`` under ``key``, in a batch that is the Trainer's own."""
        self.batch = set_item(self.batch, key, value)

    def writable(self, images: Tensor) -> Tensor:
        """Return memory like ``images`` that may be written to: theirs where the Trainer owns it, else fresh."""
        if not isinstance(images, torch.Tensor):
            raise TypeError(
                f"images must be a tensor, got a {type(images).__name__} under input_key {self.input_key!r}; "
                "stack them in the loader's collate_fn, or name where the batch holds them"
            )
        return images if self.owns_batch else torch.empty_like(images)

    @property
    def samples(self) -> Any:  # noqa: ANN401 - whatever the loader's sampler gives
        """Return the indices of the batch's samples in the data set; None where the loader's order does not tell."""
        return None if self.find_samples is None else self.find_samples()

    @property
    def moment(self) -> Moment:
        """Return how far the run has come: the share of ``max_duration`` too, as smooth as the loader lets us know."""
        now = self.timestamp
        share = now.share_of(self.max_duration, self.batches_per_epoch)
        return Moment(share, ep=now.epoch, ba=now.batch, sp=now.sample)

    @property
    def epoch(self) -> int:
        """Return the epoch that the last step belongs to, counted from 1; 0 before the first step."""
        return self.timestamp.epoch + (self.timestamp.batch_in_epoch > 0)

    @property
    def is_over(self) -> bool:
        """Tell whether the run has come to its end, or was told to stop."""
        return self.stop_reason is not None or self.timestamp.reached(self.max_duration)

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing is left to do: the run is over, and no end of an epoch is still to come."""
        return self.is_over and not self.epoch_is_over

    @property
    def epoch_is_over(self) -> bool:
        """Tell whether the epoch's last batch is behind us, where that can be told before the next one is asked for."""
        return self.timestamp.batch_in_epoch == self.batches_per_epoch
