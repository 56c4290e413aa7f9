"""Models as Composer has them: ``forward(batch)`` and ``loss(outputs, batch)``, which are handed whole batches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from cutmix.core.batch import get_item
from cutmix.losses import mixed, mixed_in
from cutmix.reductions import is_shared
from cutmix.targets import MixedTarget
from cutmix.trees import detached, walk

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from torch import Tensor, nn

    from cutmix.core.batch import Batch
    from cutmix.core.state import State
    from cutmix.trainer.scores import Metric


def is_composers(model: nn.Module) -> bool:
    """Tell whether the loss of ``model`` is a method of its own, of outputs and a batch, as Composer's models have.

    The batch is known by its name, or whatever it is called by ``update_metric`` beside it.
    """
    loss = getattr(model, "loss", None)
    if not inspect.ismethod(loss):
        return False
    return inspect.ismethod(getattr(model, "update_metric", None)) or (
        list(inspect.signature(loss).parameters)[1:2] == ["batch"]
    )


def metrics_of(model: nn.Module, *, is_train: bool) -> dict[str, Metric]:
    """Return the metrics that a Composer model brings along; other models bring none."""
    get_metrics = getattr(model, "get_metrics", None)
    return dict(get_metrics(is_train=is_train)) if is_composers(model) and get_metrics else {}


def outputs_of(state: State) -> Any:  # noqa: ANN401 - whatever the model returns
    """Call the model with the images, or with the whole batch where it takes that, in which labels are then plain."""
    if not state.takes_batch:
        return state.forward(get_item(state.batch, state.input_key))
    with batch_with(state, walk(state.batch_get_item(state.target_key), _own)) as batch:
        return state.forward(batch)


def update(metrics: Collection[Metric], state: State, target: Any) -> None:  # noqa: ANN401 - of any kind
    """Take one more batch into account, the way a Composer model does it where it is one."""
    if state.takes_batch and metrics:
        with batch_with(state, walk(target, _own)) as batch:
            _update_by_model(metrics, state, batch, target)
    else:
        outputs = detached(state.outputs)
        for metric in metrics:
            metric.update(outputs, target)


def _update_by_model(metrics: Collection[Metric], state: State, batch: Batch, target: Any) -> None:  # noqa: ANN401
    eval_forward, update_metric = (getattr(state.model, name, None) for name in ("eval_forward", "update_metric"))
    outputs = state.outputs if eval_forward is None else eval_forward(batch, state.outputs)
    for metric in metrics:
        if update_metric is None or getattr(metric, "takes_mixed_targets", False):
            metric.update(outputs, target)
        else:
            update_metric(batch, outputs, metric)


@contextmanager
def batch_with(state: State, target: Any) -> Generator[Batch]:  # noqa: ANN401
    """Lend the batch with another target in it; leave it as it was, also where the setter writes into it."""
    found, own = state.batch, state.batch_get_item(state.target_key)
    if target is own:
        yield found
        return
    state.batch_set_item(state.target_key, target)
    try:
        yield state.batch
    finally:
        state.batch_set_item(state.target_key, own)


@final
@dataclass(frozen=True, slots=True, eq=False)
class ComposerLoss:
    """The loss of a Composer model. Of a mixed target it is the loss of own and of partner, weighted by ``kept``."""

    takes_mixed_targets: ClassVar[bool] = True

    state: State

    def __call__(self, outputs: Any, target: Any) -> Tensor:  # noqa: ANN401 - the model's
        """Return the loss of the state's batch with ``target`` in it, which the model sees unmixed.

        Raises:
            ValueError: when samples keep differently.
        """
        for part in mixed_in(target):
            if not is_shared(part.kept):
                raise ValueError(
                    "per_sample must be False with a Composer model, got plans of their own for the samples: its "
                    "loss(outputs, batch) is one number for the batch, which cannot be weighted sample by sample; "
                    "or pass the network inside and its loss, Trainer(model=model.module, loss_fn=...)"
                )
        return mixed(self._plain, interpolate=True)(outputs, target)

    def _plain(self, outputs: Any, target: Any) -> Tensor:  # noqa: ANN401
        loss: Any = self.state.model.loss
        with batch_with(self.state, target) as batch:
            return _total(loss(outputs, batch))


def _own(leaf: Any) -> Any:  # noqa: ANN401
    return leaf.own if isinstance(leaf, MixedTarget) else leaf


def _total(loss: Any) -> Any:  # noqa: ANN401 - checked by who asked for it
    """Add up the means of several losses, as Composer does; a dict may name their total."""
    if isinstance(loss, Mapping):
        loss = loss["total"] if "total" in loss else list(loss.values())
    return sum(map(_total, loss)) if isinstance(loss, tuple | list) else loss.mean() if loss.ndim else loss
