"""When a run is saved, which of its checkpoints stay, and from which it goes on."""

from __future__ import annotations

import math
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, final

from cutmix.core.callback import Callback
from cutmix.core.time import Time, Timestamp
from cutmix.core.world import ALONE
from cutmix.trainer.callbacks.finite import check_finite
from cutmix.trainer.checkpoints.checkpoint import (
    Content,
    checkpoints,
    given_up,
    is_folder,
    name_for,
    newest,
    read,
    remove,
    set_aside_after,
    sweep,
    write,
)
from cutmix.trainer.checkpoints.lock import locked
from cutmix.trainer.checkpoints.manifest import CheckpointError
from cutmix.trainer.checkpoints.snapshot import capture, capture_sharded, check_capture, restore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cutmix.core.logger import Logger, Loggers
    from cutmix.core.state import State
    from cutmix.core.world import World
    from cutmix.trainer.loggers import JsonLines

FOLDER = "checkpoints"
"""Where a run's checkpoints are, in its ``save_folder``."""
AGREE_EVERY = 16
"""Batches between two looks at the clock on the wall, where several processes must agree on what it says."""


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """How often to save: by the run's own clock, or by the one on the wall."""

    time: Time | None = None
    seconds: float = math.inf

    @staticmethod
    def parse(interval: str | int | Time) -> Interval:
        """Read ``'10min'``, or what ``Time`` reads."""
        found = re.fullmatch(r"(\d+)\s*min", interval.strip()) if isinstance(interval, str) else None
        if found is None:
            try:
                return Interval(Time.parse(interval, "save_interval"))
            except ValueError as error:
                raise ValueError(f"{error}, or minutes, '10min'") from None
        if int(found[1]) < 1:
            raise ValueError(f"save_interval must be at least a minute, got {interval!r}; write '10min' or '500ba'")
        return Interval(seconds=60.0 * int(found[1]))


@final
@dataclass(frozen=True, slots=True)
class Best:
    """The figure of evaluation by which a checkpoint is the best."""

    name: str
    highest: bool

    @staticmethod
    def parse(save_best: object) -> Best:
        """Read ``'eval/accuracy'``, of which the highest is best, as of all but losses, or ``'min:eval/error'``."""
        found = re.fullmatch(r"(?:(min|max):)?(.+)", save_best) if isinstance(save_best, str) else None
        if found is None:
            raise ValueError(
                f"save_best must name a figure of evaluation, got {save_best!r}; "
                "write 'eval/accuracy' or 'min:eval/error'"
            )
        return Best(found[2], found[1] == "max" if found[1] else "loss" not in found[2])

    def value(self, figures: Mapping[str, float]) -> float:
        """Return the figure as a number of which the highest is best; nan is worst."""
        if self.name not in figures:
            raise ValueError(
                f"save_best must name a figure of evaluation, got {self.name!r}; there are {', '.join(figures)}"
            )
        value = figures[self.name] if self.highest else -figures[self.name]
        return -math.inf if math.isnan(value) else value


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """Where, when and how many checkpoints are written."""

    folder: Path  # of the checkpoints
    interval: Interval
    keep: int | None  # None: all
    best: Best | None
    sharded: bool = False  # whether each rank writes its own shards

    @staticmethod
    def parse(
        folder: Path | None, interval: str | int | Time | None, keep: int, best: str | None, *, sharded: bool = False
    ) -> Settings | None:
        """Check what the Trainer is given; nothing is saved without a folder, or an interval."""
        if isinstance(keep, bool) or not isinstance(keep, int) or (keep < 1 and keep != -1):
            raise ValueError(f"save_num_checkpoints_to_keep must be at least 1, got {keep!r}; -1 keeps all of them")
        often = None if interval is None or interval == 0 else Interval.parse(interval)
        by = None if best is None else Best.parse(best)
        if folder is None or often is None:
            for name, given in {"save_best": best, "save_sharded": sharded or None}.items():
                if given is not None:
                    raise ValueError(
                        f"{name} must come with a save_folder and a save_interval, got {given!r} alone: name the "
                        "folder for checkpoints"
                    )
            return None
        return Settings(folder / FOLDER, often, None if keep == -1 else keep, by, sharded)


@final
class Saver(Callback):
    """Writes checkpoints: at the interval, when an evaluation was the best so far, and when the run is over."""

    def __init__(self, settings: Settings, loggers: Loggers, files: Sequence[JsonLines]) -> None:
        self._settings = settings
        self._loggers = loggers
        self._files = files
        self._before = Timestamp()  # the time of the last look
        self._saved: Timestamp | None = None
        self._last = monotonic()
        self._best, self._best_name = -math.inf, ""

    @property
    def best(self) -> Path | None:
        """Return the checkpoint that evaluation found best, if any."""
        return self._settings.folder / self._best_name if self._best_name else None

    def init(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        check_capture(state)

    def fit_start(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._before, self._last = state.timestamp, monotonic()
        state.world.led(lambda: self._begin(self._place(state)))

    def batch_checkpoint(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._look(state)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._look(state)

    def save(self, state: State) -> Path:
        """Write a checkpoint of the run as it is now; return its folder.

        Raises:
            NonFiniteLossError: when a weight is nan or infinite; nothing is written then.
        """
        check_finite(state)
        folder, world = self._place(state), state.world
        content = capture_sharded(state) if self._settings.sharded else capture(state)
        self._loggers.settle()
        # Nobody leaves before it is written, nor goes on where it is not.
        write(folder, world.agreed(lambda: self._completed(content) if world.rank == 0 else content), world)
        world.led(lambda: self._clear(folder))
        self._last, self._saved = monotonic(), state.timestamp
        return folder

    def secure(self, state: State) -> None:
        """Write a checkpoint unless this moment has one."""
        if self._saved != state.timestamp:
            self.save(state)

    def take_over(self, content: Content, world: World) -> None:
        """Go on with the files and the best checkpoint of the run that ``content`` is of."""
        saved = content.values["saving"]
        self._best, self._best_name = saved["best"], saved["best_name"]
        world.agreed(partial(self._take_files, saved["files"]))

    def _place(self, state: State) -> Path:
        return self._settings.folder / name_for(state.timestamp)

    def _take_files(self, positions: Mapping[str, int]) -> None:
        for file in self._files:
            file.go_on_at(positions[file.name])

    def _completed(self, content: Content) -> Content:
        """Add what this run has written, and found best."""
        loggers = self._loggers.state_dict()  # which writes out what the files hold back
        files = {file.name: file.position() for file in self._files}
        saving = {"best": self._best, "best_name": self._best_name, "files": files}
        return replace(content, values={**content.values, "loggers": loggers, "saving": saving})

    def _look(self, state: State) -> None:
        is_best = self._is_best(state)
        if self._is_due(state) or is_best or state.has_ended:
            self.save(state)
        self._before = state.timestamp

    def _is_best(self, state: State) -> bool:
        best = self._settings.best
        if best is None or (best.name not in state.eval_metrics and -1 in state.evaluated.values()):
            return False  # the evaluation that measures it may be to come
        value = best.value(state.eval_metrics)
        if value <= self._best:
            return False
        self._best, self._best_name = value, name_for(state.timestamp)
        return True

    def _is_due(self, state: State) -> bool:
        interval, now = self._settings.interval, state.timestamp
        if interval.time is not None:
            return interval.time.divides(self._before, now)
        if state.world.size > 1 and now.batch % AGREE_EVERY:
            return False
        return state.world.broadcast(monotonic() - self._last >= interval.seconds)

    def _begin(self, now: Path) -> None:
        sweep(now.parent)
        self._give_up(now)

    def _clear(self, latest: Path) -> None:
        self._give_up(latest)
        self._prune(latest)

    def _give_up(self, now: Path) -> None:
        """Set aside what is later than the run, which was sent back: nobody is to go on from there."""
        aside = [path.name for path in set_aside_after(now)]
        if aside:
            what = "1 checkpoint is" if len(aside) == 1 else f"{len(aside)} checkpoints are"
            warnings.warn(
                f"{what} later than {now.name}, where the run goes on: given up, and kept as {', '.join(aside)} in "
                f"{now.parent}",
                stacklevel=2,
            )

    def _prune(self, latest: Path) -> None:
        """Remove checkpoints beyond those to keep, first what was given up, but never the best nor the latest."""
        if self._settings.keep is None:
            return
        there = (*given_up(latest.parent), *checkpoints(latest.parent))
        others = [one for one in there if one not in (latest, self.best)]
        for one in others[: max(0, len(others) - self._settings.keep + 1)]:
            remove(one)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The checkpoint that a run goes on from."""

    folder: Path
    content: Content
    is_own: bool  # of this very run, whose files go on with it

    @staticmethod
    def of(load_path: str | Path | None, folder: Path | None, world: World, *, autoresume: bool) -> Start | None:
        """Read the checkpoint that is to be gone on from, on all ranks the same; None where the run begins.

        Raises:
            CheckpointError: when it is torn or altered, or the ranks have found different ones.
        """
        path = _starting_point(load_path, folder, world, autoresume=autoresume)
        check_same("none" if path is None else path.name, world)
        if path is None:
            return None
        content = read(path, world)
        check_same(name_for(Timestamp(**content.values["timestamp"])), world)
        own = [] if folder is None else checkpoints((folder / FOLDER).absolute())
        return Start(path, content, path.absolute() in own)


def _starting_point(
    load_path: str | Path | None, folder: Path | None, world: World, *, autoresume: bool
) -> Path | None:
    """Return the checkpoint to go on from: the newest of the run's own that verifies, else what ``load_path`` names."""
    if not autoresume:
        return None if load_path is None else named(Path(load_path), world)
    if folder is None:
        raise ValueError(
            "autoresume must come with a save_folder, got none: name the folder to look for checkpoints in"
        )
    world.led(lambda: _sweep_alone(folder))
    if _has_any(folder / FOLDER, world):
        return _newest(folder / FOLDER, world)
    return _starting_point(load_path, folder, world, autoresume=False)


def _sweep_alone(folder: Path) -> None:
    if is_folder(folder / FOLDER):
        with suppress(ValueError), locked(folder):  # where another trainer is at work, nothing is left over
            sweep(folder / FOLDER)


def check_same(found: str, world: World) -> None:
    """Refuse ranks that would go on from different steps, as where each machine has a folder of its own.

    Raises:
        CheckpointError: telling what each rank has ``found``.
    """
    everywhere = world.gathered(found)
    if len(set(everywhere)) > 1:
        raise CheckpointError(
            f"all processes must go on from one checkpoint, got {', '.join(everywhere)} on ranks 0 to "
            f"{world.size - 1}; keep load_path and save_folder where every machine sees them"
        )


def go_on(content: Content, state: State, loggers: Loggers) -> None:
    """Put ``state``, and what logs beside it, where ``content`` was taken."""
    restore(content, state)
    loggers.load_state_dict(content.values["loggers"])


def named(path: Path, world: World = ALONE) -> Path:
    """Return the checkpoint at ``path``, which may be that of a run too: then its newest is taken."""
    for parent in (path, path / FOLDER):
        if _has_any(parent, world):
            return _newest(parent, world)
    return path


def _has_any(folder: Path, world: World) -> bool:
    """Tell whether there are checkpoints, of which all ranks must see the same."""
    there = world.agreed(lambda: checkpoints(folder))
    check_same(there[-1].name if there else "none", world)
    return bool(there)


def _newest(folder: Path, world: World) -> Path:
    found = newest(folder, world)
    if found is None:
        raise CheckpointError(
            f"{folder} must hold a checkpoint that is whole, got {len(checkpoints(folder))} that are not, as the "
            "warnings say; move the folder away to begin anew"
        )
    return found
