"""What is measured of a batch."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutmix.core.batch import to_device
from cutmix.core.callback import Callback
from cutmix.core.world import World
from cutmix.losses import Mixed, is_cross_entropy, mixed_in
from cutmix.metrics import Hits, accuracy, hits
from cutmix.targets import MixedTarget
from cutmix.trainer.checkpoints.metric_state import Keeping, fill_up, make_savable, metric_state, put_back_metric
from cutmix.trainer.composer.models import update
from cutmix.trees import detached, leaves, walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutmix.core.logger import Figure, Logger
    from cutmix.core.state import State
    from cutmix.reductions import LossFn


class Metric(Protocol):
    """A measure that adds up over batches, as torchmetrics' do."""

    def update(self, outputs: Any, target: Any) -> object:  # noqa: ANN401 - whatever the metric takes
        """Take one more batch into account."""

    def compute(self) -> Tensor | float:
        """Return the measure over all batches since the last reset."""
        ...

    def reset(self) -> object:
        """Forget all batches."""


@final
class TrainMetrics(Callback):
    """Measures training by the user's metrics, epoch by epoch. Mixed batches go to those only that take them."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        for metric in metrics.values():
            make_savable(metric)
        self._metrics = metrics
        self._updated: set[str] = set()
        self._world = World()
        self._device = torch.device("cpu")

    def init(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._world, self._device = state.world, state.device

    def after_loss(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        target = walk(state.batch_get_item(state.target_key), _unmixed)
        with torch.no_grad():
            self._updated |= take_in(self._metrics, state, target, counts=state.weight > 0.0)

    def epoch_end(self, state: State, logger: Logger) -> None:
        # A metric that adds up over ranks does so on all of them, also where it has seen nothing but mixed batches.
        updated = set().union(*state.world.gathered(self._updated))
        if updated:
            measured = {name: metric for name, metric in self._metrics.items() if name in updated}
            logger.log_metrics({"epoch": state.epoch, **computed(measured, "train", state)}, state.timestamp.batch)
        self._updated.clear()

    def state_dict(self) -> Mapping[str, Any]:
        """Return what each rank has added up in this epoch, each of its own batches."""
        own = {name: walk(metric_state(self._metrics[name]), _on_host) for name in sorted(self._updated)}
        by_rank = self._world.gathered(own)
        return {"by_rank": by_rank} if any(by_rank) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, saved in state["by_rank"][self._world.rank].items():
            metric = self._metrics.get(name)
            if saved and isinstance(metric, Keeping):
                put_back_metric(metric, saved)
                self._updated.add(name)
            elif metric is not None:
                warnings.warn(
                    f"metrics must have a state_dict and a load_state_dict to go on within an epoch, got {name!r} "
                    "without: in this epoch it counts from here on",
                    stacklevel=2,
                )
        on_device(self._metrics, self._device)  # a state that is a list comes from the host


def _on_host(leaf: Any) -> Any:  # noqa: ANN401 - whatever a state holds
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf


def take_in(metrics: Mapping[str, Metric], state: State, target: Any, *, counts: bool = True) -> set[str]:  # noqa: ANN401
    """Let metrics take the state's outputs into account, if they count; tell the names of those that did.

    On several ranks those that have a ``sync``, as torchmetrics' have, add up by themselves; the others are handed what
    all ranks have, on all ranks.
    """
    alone = {name: metric for name, metric in metrics.items() if state.world.size > 1 and not hasattr(metric, "sync")}
    is_mixed, names = bool(mixed_in(target)), set[str]()
    if counts:
        taken = {name: metric for name, metric in metrics.items() if name not in alone and _takes(metric, is_mixed)}
        update(taken.values(), state, target)
        names |= taken.keys()
    if alone:
        own = to_device((detached(state.outputs), target), torch.device("cpu"))
        for outputs, theirs in filter(None, state.world.gathered(own if counts else None)):
            taken = {name: metric for name, metric in alone.items() if _takes(metric, bool(mixed_in(theirs)))}
            seen = to_device((outputs, theirs), state.device)
            for metric in taken.values():
                metric.update(*seen)
            names |= taken.keys()
    return names


def _takes(metric: Metric, is_mixed: bool) -> bool:  # noqa: FBT001
    return not is_mixed or getattr(metric, "takes_mixed_targets", False)


def _unmixed(leaf: Any) -> Any:  # noqa: ANN401 - a target of any kind
    """Return the plain labels of a mixed target in which nothing is mixed."""
    return leaf.own if isinstance(leaf, MixedTarget) and (leaf.kept == 1.0).all() else leaf


def loss_of(state: State, target: Any) -> Tensor:  # noqa: ANN401 - whatever the loss takes
    """Return the loss of ``state.outputs``, checked to be one number."""
    if not isinstance(state.outputs, Tensor):
        _refuse_default(state)
    loss: object = state.loss_fn(state.outputs, target)
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss
    got = getattr(loss, "shape", type(loss).__name__)
    raise ValueError(f"loss_fn must return a tensor of one number, got {got}; take the mean over the samples")


def _refuse_default(state: State) -> None:
    """Refuse the loss that nobody has chosen, of outputs that it cannot take."""
    loss_fn = state.loss_fn.loss_fn if isinstance(state.loss_fn, Mixed) else state.loss_fn
    if loss_fn is F.cross_entropy:
        raise TypeError(
            f"model must return a tensor for the default loss, got a {type(state.outputs).__name__}; pass a loss that "
            "reads it, such as loss_fn=lambda outputs, target: F.cross_entropy(outputs.logits, target)"
        )


def weighted(loss: Tensor, state: State) -> Tensor:
    """Return ``loss`` as it counts in the step: with a weight of 0 its gradient is 0, be it nan or infinite itself."""
    if state.weight > 0.0:
        return loss if state.weight == 1.0 else loss * state.weight
    parts = [leaf for leaf in leaves(state.outputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
    return torch.stack([(part * 0.0).sum() for part in parts]).sum() if parts else loss * 0.0


def detached_scores(outputs: Any) -> Tensor | None:  # noqa: ANN401 - whatever the model returns
    """Return what may be scores of classes, free of its graph; None of all else, which need not be kept for figures."""
    return outputs.detach() if isinstance(outputs, Tensor) and outputs.ndim == 2 else None  # noqa: PLR2004


def train_scores(loss: Tensor, outputs: Any, target: Any, loss_fn: LossFn) -> dict[str, Figure]:  # noqa: ANN401
    """Return the loss, and where there are classes the accuracy, by a name that tells whether the batch is mixed.

    No figure is computed before somebody asks.
    """
    if not _are_classes(outputs, target.own if isinstance(target, MixedTarget) else target, loss_fn):
        return {"train/loss": loss}
    if not isinstance(target, MixedTarget):
        return {"train/loss": loss, "train/accuracy": partial(accuracy, outputs, target)}
    compared = _Compared(outputs, target)
    return {
        "train/loss": loss,
        "train/mixed_accuracy": compared.accuracy,
        "train/mixed_accuracy_ceiling": compared.ceiling,
    }


@final
class _Compared:
    """Predictions and both labels of a mixed batch, compared once somebody asks."""

    def __init__(self, outputs: Tensor, target: MixedTarget) -> None:
        self._outputs = outputs
        self._target = target
        self._found: Hits | None = None

    def accuracy(self) -> Tensor:
        return self._hits().accuracy()

    def ceiling(self) -> Tensor:
        return self._hits().ceiling()

    def _hits(self) -> Hits:
        if self._found is None:
            self._found = hits(self._outputs, self._target)
        return self._found


def eval_scores(state: State, target: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the accuracy; nothing where there are no classes."""
    return {"accuracy": accuracy(state.outputs, target)} if _are_classes(state.outputs, target, state.loss_fn) else {}


def computed(metrics: Mapping[str, Metric], prefix: str, state: State) -> dict[str, float]:
    """Return what ``metrics`` measured, and reset them."""
    for metric in metrics.values():
        fill_up(metric, state.world, state.device)
    figures = {f"{prefix}/{name}": float(metric.compute()) for name, metric in metrics.items()}
    for metric in metrics.values():
        metric.reset()
    return figures


def on_device(metrics: Mapping[str, Metric], device: torch.device) -> dict[str, Metric]:
    """Move those of ``metrics`` that can be moved."""
    return {name: metric.to(device) if isinstance(metric, nn.Module) else metric for name, metric in metrics.items()}


def _are_classes(outputs: object, target: object, loss_fn: LossFn) -> bool:
    """Tell whether outputs (batch, classes) meet ids (batch,), or rows (batch, classes) that the loss takes as such."""
    if not isinstance(outputs, Tensor) or not isinstance(target, Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2:  # noqa: PLR2004
        return False
    if target.is_floating_point():
        return target.shape == outputs.shape and is_cross_entropy(loss_fn)
    return target.shape == outputs.shape[:1]
