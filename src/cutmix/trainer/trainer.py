"""The Trainer: what people hand in, checked and put together."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Never, final

from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cutmix.core.algorithm import Algorithm
from cutmix.core.batch import get_item, num_samples
from cutmix.core.callback import Callback
from cutmix.core.event import Event
from cutmix.core.logger import Logger
from cutmix.core.runner import Runner
from cutmix.core.state import State
from cutmix.core.time import Time
from cutmix.keys import fold
from cutmix.trainer.batches.order import batches_of
from cutmix.trainer.batches.sources import Use, limit_for
from cutmix.trainer.callbacks.finite import LossWatch, SkipNonFinite
from cutmix.trainer.callbacks.progress import ProgressBar, say
from cutmix.trainer.callbacks.signals import Signals
from cutmix.trainer.checkpoints.saving import Saver, Start, go_on
from cutmix.trainer.checkpoints.saving import Settings as SavingSettings
from cutmix.trainer.composer.arguments import missing, refuse, refuse_values
from cutmix.trainer.composer.models import ComposerLoss, is_composers, metrics_of
from cutmix.trainer.evaluators import Evaluations, Evaluator
from cutmix.trainer.given import check_model, compiled, seed_for, several
from cutmix.trainer.loggers import checked_folder
from cutmix.trainer.loop import Loop, Settings
from cutmix.trainer.optim import (
    CosineWithWarmup,
    check_optimizers,
    check_schedulers,
    default_optimizer,
    split_schedulers,
)
from cutmix.trainer.parallel import check_parallelism, spread
from cutmix.trainer.precision import precision_for, scaler_for
from cutmix.trainer.processes import join
from cutmix.trainer.record import Record
from cutmix.trainer.runtime import check_deterministic, deterministic, device_for, generators_of, seeded
from cutmix.trainer.scores import TrainMetrics, on_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    import torch
    from torch import Tensor, nn

    from cutmix.core.batch import Key
    from cutmix.trainer.batches.sources import Source
    from cutmix.trainer.evaluators import Evaluated
    from cutmix.trainer.parallel import Parallelism
    from cutmix.trainer.scores import Metric


@final
class Trainer:
    """Trains a model; algorithms change how, callbacks watch, loggers take down the figures.

    Two trainers with one seed end with the same weights to the bit. The caller's global generators are left as found.

    Args:
        model: any module called as ``model(images)``; it is moved to the device, its initial weights are the caller's.
            Or one as Composer has them, with ``forward(batch)`` and ``loss(outputs, batch)``.
        train_dataloader: a DataLoader, any iterable of batches, or a function that makes one for each epoch. What draws
            from torch's generators repeats under one seed; a sampler that draws from numpy's or Python's does not.
        eval_dataloader: the same, for evaluation; an ``Evaluator``, or several of either by name: ``{'val': ...}``.
        max_duration: ``'3ep'``, ``'500ba'``, ``'50000sp'`` or a number of epochs.
        algorithms: one or several, in the order in which they act.
        optimizers: one or several, of parameters of the model; without any, ``AdamW(lr=1e-3)``.
        schedulers: one or several of torch's, of these optimizers, stepped after each epoch; or ``CosineWithWarmup()``.
        step_schedulers_every_batch: step them after each batch instead.
        loss_fn: ``loss_fn(outputs, target)``, a mean over the samples.
        metrics: by name, for plain targets; measured in evaluation, and in training on batches that are not mixed, or,
            with a true ``takes_mixed_targets``, on all.
        device: ``'cpu'``, ``'gpu'`` (cuda or mps), ``'mps'`` or a torch.device; None takes a GPU where there is one.
        parallelism: how several processes, started by ``cutmix launch`` or ``torchrun``, train together. ``'ddp'``, the
            default: each holds the model. ``'fsdp'``: each holds a shard of it; what is gathered at a time are the
            outermost modules of a class that occurs more than once and has 250,000 parameters or more. Or a function
            that wraps or shards the model as it likes, and returns what is called. Hand every process the same model
            and the whole data: each then takes its batches of the one order, and gradients are those of the mean over
            all samples.
        precision: ``'fp32'``, ``'amp_bf16'``, or ``'amp_fp16'``, whose gradients are scaled.
        compile: whether ``torch.compile`` compiles the model, or the settings it does it with. Mixing stays outside.
        deterministic_mode: whether ``fit`` and ``eval`` may use only what repeats to the bit; what cannot, raises.
        device_train_microbatch_size: the most samples that are computed at once. The parts' gradients are weighted by
            samples: the whole batch's where the loss is a plain mean, not with class weights or ignored labels.
        gradient_clip_norm: the most that the gradients of all parameters together may be long.
        eval_interval: how often to evaluate, besides when training ends; None or 0 for never.
        train_subset_num_batches: the most batches of an epoch, of each process: its steps; -1 for all.
        eval_subset_num_batches: the most batches of an evaluation, of all processes together; -1 for all.
        seed: of everything random; None takes ``torch.initial_seed()``. ``state.seed`` tells it.
        input_key: where a batch holds the images: an index, a key, an attribute, or a pair (getter, setter).
        target_key: where it holds the targets.
        callbacks: one or several.
        loggers: one or several, beside the files in ``save_folder``.
        progress_bar: whether to show a bar and say what was chosen, on stderr.
        save_folder: where ``metrics.jsonl``, ``timings.jsonl`` and ``checkpoints/`` are written; made when ``fit``
            starts. A figure that is nan or infinite is null there.
        save_interval: how often to write a checkpoint besides when training ends, ``'1ep'``, ``'500ba'``, ``'10min'``;
            None or 0 writes none, not even then. A run that is killed and goes on ends with the same bytes.
        save_num_checkpoints_to_keep: how many of the newest to keep; -1 for all. Where a run was sent back to an
            earlier one, those it gives up are renamed, ``ep1-ba8.1``, and the first to go.
        save_best: a figure of evaluation, ``'eval/accuracy'``, by which the best checkpoint is kept too: the highest,
            of losses the lowest; ``'min:NAME'`` and ``'max:NAME'`` say otherwise. See ``best_checkpoint``.
        save_sharded: whether each process writes its own shards of what is sharded, so that nothing is gathered; else
            rank 0 writes it whole. Either goes on under ``'ddp'`` and ``'fsdp'``.
        load_path: a checkpoint to go on from, or a run's ``save_folder``, whose newest is taken. For weights alone
            there is ``load_weights``.
        autoresume: go on from the newest checkpoint in ``save_folder`` that verifies, if there is one.
        composers: none: what else Composer's Trainer takes is refused with the reason.

    Raises:
        CheckpointError: when the checkpoint to go on from is torn, altered, or does not fit; nothing is changed then.
    """

    def __init__(  # noqa: PLR0913 - the names that Composer's users know
        self,
        model: nn.Module,
        train_dataloader: Source | None = None,
        eval_dataloader: Evaluated | None = None,
        max_duration: int | str | Time = "1ep",
        algorithms: Algorithm | Sequence[Algorithm] | None = None,
        *,
        optimizers: Optimizer | Sequence[Optimizer] | None = None,
        schedulers: LRScheduler | CosineWithWarmup | Sequence[LRScheduler | CosineWithWarmup] | None = None,
        step_schedulers_every_batch: bool = False,
        loss_fn: Callable[[Any, Any], Tensor] = F.cross_entropy,
        metrics: Mapping[str, Metric] | None = None,
        device: str | torch.device | None = None,
        parallelism: Parallelism | None = None,
        precision: str = "fp32",
        compile: bool | Mapping[str, Any] = False,  # noqa: A002 - Composer's users know it
        deterministic_mode: bool = False,
        device_train_microbatch_size: int | None = None,
        gradient_clip_norm: float | None = None,
        eval_interval: int | str | Time | None = "1ep",
        train_subset_num_batches: int = -1,
        eval_subset_num_batches: int = -1,
        seed: int | None = None,
        input_key: Key = 0,
        target_key: Key = 1,
        callbacks: Callback | Sequence[Callback] | None = None,
        loggers: Logger | Sequence[Logger] | None = None,
        progress_bar: bool = True,
        save_folder: str | Path | None = None,
        save_interval: int | str | Time | None = "1ep",
        save_num_checkpoints_to_keep: int = -1,
        save_best: str | None = None,
        save_sharded: bool = False,
        load_path: str | Path | None = None,
        autoresume: bool = False,
        **composers: object,
    ) -> None:
        refuse(composers, Trainer)
        refuse_values(device_train_microbatch_size=device_train_microbatch_size)
        check_parallelism(parallelism)
        place = device_for(device)
        world = join(place)
        aloud = progress_bar and world.rank == 0
        context = precision_for(place, precision)
        self._is_closed = self._has_ended = False
        self._is_deterministic = deterministic_mode
        if deterministic_mode:
            check_deterministic(place)
        folder = None if save_folder is None else checked_folder(save_folder)
        start = Start.of(load_path, folder, world, autoresume=autoresume)
        seed = world.broadcast(seed_for(start.content.values["seed"] if seed is None and start is not None else seed))
        limit = limit_for("train_subset_num_batches", train_subset_num_batches)
        use = Use(seed, limit, world, aloud=aloud, count=lambda batch: num_samples(get_item(batch, input_key)))
        batches = None if train_dataloader is None else batches_of(train_dataloader, "train_dataloader", use)
        self._record = Record(folder, several("loggers", loggers, Logger), world, is_continued=autoresume)
        self._loggers = self._record.loggers
        saving = SavingSettings.parse(
            folder, save_interval, save_num_checkpoints_to_keep, save_best, sharded=save_sharded
        )
        self._saver = None if saving is None else Saver(saving, self._loggers, self._record.files)
        self._signals = Signals(None if self._saver is None else self._saver.secure)
        watching = several("callbacks", callbacks, Callback)
        chosen = several("optimizers", optimizers, Optimizer)
        torchs, ours = split_schedulers(several("schedulers", schedulers, LRScheduler, CosineWithWarmup))
        check_optimizers(chosen, check_model(model, loss_fn), loss_fn)
        train_metrics, eval_metrics = (
            on_device({**metrics_of(model, is_train=is_train), **(metrics or {})}, place) for is_train in (True, False)
        )
        self.state = State(
            model=model.to(place),
            loss_fn=loss_fn,
            device=place,
            seed=seed,
            world=world,
            precision=precision,
            input_key=input_key,
            target_key=target_key,
            takes_batch=is_composers(model),
            optimizers=chosen,
            schedulers=torchs,
            scaler=scaler_for(place, precision),
            algorithms=(*several("algorithms", algorithms, Algorithm), *ours),
            callbacks=(
                *([TrainMetrics(copy.deepcopy(train_metrics))] if train_metrics else []),
                *watching,
                *([] if any(isinstance(one, SkipNonFinite) for one in watching) else [LossWatch()]),
                *self._record.watching(),
                *([ProgressBar()] if aloud else []),
                *([batches] if isinstance(batches, Callback) else []),
                *([] if self._saver is None else [self._saver]),
                self._signals,  # the last, when all others have seen the moment
            ),
            max_duration=Time.parse(max_duration, "max_duration"),
            batches_per_epoch=None if batches is None else batches.per_epoch,
        )
        if self.state.takes_batch:
            self.state.loss_fn = ComposerLoss(self.state)
        self.state.callbacks = (*spread(self.state, parallelism), *self.state.callbacks)
        check_schedulers(self.state.schedulers, self.state.optimizers)
        self._run = Runner(self.state, self._loggers)
        usual = Evaluator(
            (), eval_interval=eval_interval, subset_num_batches=eval_subset_num_batches, metrics=eval_metrics
        )
        self._evaluations = Evaluations(usual, self.state, context)
        self._evaluated = self._evaluations.of(eval_dataloader)
        settings = Settings(
            precision=context,
            microbatch_size=device_train_microbatch_size,
            step_schedulers_every_batch=step_schedulers_every_batch,
            gradient_clip_norm=gradient_clip_norm,
        )
        self._loop = None if batches is None else Loop(self._run, self._loggers, batches, self._evaluated, settings)
        if not self.state.optimizers and train_dataloader is not None:
            self._take_default_optimizer(aloud=aloud)
        self.state.forward = compiled(self.state.forward, compile)
        with self._chance():
            self._run(Event.INIT)
        if start is not None:
            self._go_on(start)
            if aloud:
                say(f"Going on from {start.folder}.")

    def fit(self, duration: int | str | Time | None = None) -> None:
        """Train until ``max_duration``, or for ``duration`` from where training stopped, mid-epoch too.

        Epochs are counted by their ends: in the midst of an epoch ``fit('1ep')`` trains what is left of it. SIGTERM and
        SIGINT end it after the step at hand, with a checkpoint where there is a ``save_interval``: by SystemExit(143)
        and KeyboardInterrupt; a second SIGINT at once.

        Raises:
            NonFiniteLossError: when a loss is nan or infinite; ``SkipNonFinite`` passes such steps over.
        """
        self._check_open("fit")
        if self._loop is None:
            raise ValueError("train_dataloader must be given to fit, got None; pass it to the Trainer")
        if self._has_ended and duration is None:
            return
        self._aim(duration)
        with self._record.held(), self._chance(), self._determined(), self._signals.taken():
            try:
                self._loop.fit()
            except BaseException:
                self._loggers.flush_alone()
                raise
            self._loggers.settle()

    def eval(self, eval_dataloader: Evaluated | None = None) -> dict[str, float]:
        """Return what evaluation measures, under the names that are logged: ``eval/loss``, ``eval/accuracy``."""
        self._check_open("eval")
        evaluations = self._evaluated if eval_dataloader is None else self._evaluations.of(eval_dataloader)
        if not evaluations:
            raise ValueError("eval_dataloader must be given to evaluate, got None; pass it here or to the Trainer")
        with self._record.held(), self._determined():
            measured = {name: figure for each in evaluations for name, figure in each.measure(self._run).items()}
            self._loggers.settle()
        return measured

    def save_checkpoint(self) -> Path:
        """Write a checkpoint of the run as it is now, into ``save_folder``; return its folder."""
        self._check_open("save_checkpoint")
        if self._saver is None:
            raise ValueError("save_folder must be given to save, got none: name a folder, and leave save_interval on")
        with self._record.held():
            return self._saver.save(self.state)

    @property
    def best_checkpoint(self) -> Path | None:
        """Return the checkpoint that ``save_best`` has found best, if any."""
        return None if self._saver is None else self._saver.best

    def close(self) -> None:
        """Write out what is held back and let go of files, callbacks and loggers: nothing is measured after this."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loggers.close()
        for callback in self.state.callbacks:
            callback.close()

    if not TYPE_CHECKING:  # or any attribute would seem to be there

        def __getattr__(self, name: str) -> Never:
            if hasattr(type(self), name):  # a property that has failed: for its own reason
                object.__getattribute__(self, name)
            raise missing(name, self)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _go_on(self, start: Start) -> None:
        """Put everything where a checkpoint was taken; the files too, where it is the run's own."""
        go_on(start.content, self.state, self._loggers)
        if start.is_own and self._saver is not None:
            self._saver.take_over(start.content, self.state.world)
        # Stopped between its last step and the end of that epoch, it has both that and its evaluation to come.
        self._has_ended = self.state.has_ended

    def _check_open(self, method: str) -> None:
        if self._is_closed:
            raise ValueError(
                f"{method} must come before close, got a Trainer that is closed; close it (or leave its with block) "
                "after the last fit and eval, or make another Trainer"
            )

    def _take_default_optimizer(self, *, aloud: bool) -> None:
        self.state.optimizers = [default_optimizer(self.state.model)]
        if aloud:
            say("No optimizers given: training with AdamW(lr=1e-3).")

    def _aim(self, duration: int | str | Time | None) -> None:
        """Set ``state.max_duration``, and refuse to train for nothing."""
        state = self.state
        if duration is None and state.is_over and state.epoch_is_over:
            return
        state.stop_reason = None
        if duration is not None:
            state.max_duration = Time.parse(duration).after(state.timestamp)
        if state.is_over:
            raise ValueError(
                f"max_duration must lie ahead, got {state.max_duration}, which is reached; "
                f"train on with fit(duration='{state.max_duration}')"
            )

    def _determined(self) -> AbstractContextManager[None]:
        return deterministic() if self._is_deterministic else nullcontext()

    def _chance(self) -> AbstractContextManager[None]:
        """Lend the global generators of torch; leave them as found."""
        state = self.state
        return seeded(fold(state.seed, "run", state.timestamp.batch), generators_of(state.device))
