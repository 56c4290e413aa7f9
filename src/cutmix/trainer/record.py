"""What is written down of a run, and where."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, final

from cutmix.core.logger import Logger, Loggers
from cutmix.trainer.checkpoints.lock import locked
from cutmix.trainer.loggers import JsonLines, Timings, make_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from cutmix.core.callback import Callback
    from cutmix.core.world import World

FILES = ("metrics.jsonl", "timings.jsonl")


@final
class Record:
    """The folder of a run, held for this run alone while it writes there, the files in it, and all loggers.

    Rank 0 holds the folder and writes the files. Without a folder figures go to the user's loggers alone.
    """

    def __init__(self, folder: Path | None, loggers: Sequence[Logger], world: World, *, is_continued: bool) -> None:
        self._folder = None if world.rank else folder
        self._world = world
        self._is_continued = is_continued
        self._is_held = False
        self.files = [] if self._folder is None else [JsonLines(self._folder / name) for name in FILES]
        self.loggers = Loggers([*loggers, *self.files[:1]], world, waiting=True)

    def watching(self) -> list[Callback]:
        """Return what writes the files that no figures are logged to."""
        return [Timings(lines) for lines in self.files[1:]]

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder, and the files in it, for this run alone; what runs within finds it held.

        Raises:
            ValueError: on all ranks, when it is no folder, another trainer holds it, or a file is another run's.
        """
        if self._is_held:
            yield
            return
        with ExitStack() as held:
            self._world.agreed(partial(self._claim, held))
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    def _claim(self, held: ExitStack) -> None:
        if self._folder is not None:
            make_folder(self._folder)
            held.enter_context(locked(self._folder))
            for file in self.files:
                if self._is_continued:
                    file.set_aside()
                file.claim()
        self.loggers.begin()
