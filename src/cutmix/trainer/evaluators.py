"""Which evaluations a run has, and how often each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

from cutmix.core.time import Time
from cutmix.keys import fold
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Source, Use, check, limit_for
from cutmix.trainer.evaluation import Evaluation
from cutmix.trainer.scores import on_device

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cutmix.core.state import State
    from cutmix.trainer.scores import Metric


@final
@dataclass(frozen=True, slots=True, eq=False)
class Evaluator:
    """Batches to measure the model on, with settings of their own; what is left out is as the Trainer has it.

    Args:
        dataloader: a DataLoader, any iterable of batches, or a function that makes one.
        eval_interval: how often to evaluate, ``'1ep'``, ``'500ba'``, ``'50000sp'``, besides when training ends; 0 for
            never.
        subset_num_batches: the most batches of an evaluation, of all processes together; -1 for all.
        metrics: by name.
    """

    dataloader: Source
    _: KW_ONLY
    eval_interval: int | str | Time | None = None
    subset_num_batches: int | None = None
    metrics: Mapping[str, Metric] | None = None

    def __post_init__(self) -> None:
        check(self.dataloader, "eval_dataloader")
        _interval(self.eval_interval)
        _limit(self.subset_num_batches)


Evaluated: TypeAlias = Source | Evaluator | Mapping[str, Source | Evaluator]
"""What to evaluate on: one source of batches, or several by name."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Evaluations:
    """Puts the evaluations of a run together; what an evaluator leaves out is taken from the ``usual`` one."""

    usual: Evaluator
    state: State
    precision: AbstractContextManager[object]

    def of(self, given: Evaluated | None) -> tuple[Evaluation, ...]:
        """Return one evaluation for each source in ``given``."""
        if isinstance(given, list | tuple) and any(isinstance(part, Evaluator) for part in given):
            raise TypeError(
                "eval_dataloader must hold evaluators by name, got a list of them; pass {'val': Evaluator(...)}"
            )
        named = given if isinstance(given, Mapping) else {} if given is None else {"": given}
        return tuple(self._one(label, part) for label, part in named.items())

    def _one(self, label: str, part: Source | Evaluator) -> Evaluation:
        if not isinstance(label, str) or "/" in label:
            raise ValueError(f"eval_dataloader must be named without a slash, got {label!r}; write {{'val': ...}}")
        own, usual = part if isinstance(part, Evaluator) else Evaluator(part), self.usual
        limit, state = _limit(_first(own.subset_num_batches, usual.subset_num_batches)), self.state
        use = Use(fold(state.seed, "eval"), limit, state.world, measures=True)
        return Evaluation(
            label=label,
            batches=batches_of(own.dataloader, "eval_dataloader", use),
            metrics=on_device(_first(own.metrics, usual.metrics) or {}, state.device),
            precision=self.precision,
            interval=_interval(_first(own.eval_interval, usual.eval_interval)),
        )


def _first(own: Any, usual: Any) -> Any:  # noqa: ANN401 - settings of any kind
    return usual if own is None else own


def _interval(given: int | str | Time | None) -> Time | None:
    return None if given in (None, 0) else Time.parse(given, "eval_interval")


def _limit(given: int | None) -> int | None:
    return None if given is None else limit_for("eval_subset_num_batches", given)
