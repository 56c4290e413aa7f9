"""What is seen while a comparison runs: read from the run folders only."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cutmix.evidence.arms import Run
from cutmix.runs.folder import RunFolder

EVERY = 15.0
"""Seconds between two plain lines."""
ENDED = ("finished", "failed")


@contextmanager
def watching(runs: Sequence[Run]) -> Generator[Callable[[], None]]:
    """Yield what shows how far ``runs`` are: a live table on a terminal, else a line now and then."""
    console = Console()
    if not console.is_terminal:
        yield _Lines(runs)
        return
    with Live(_table(runs), console=console, auto_refresh=False) as live:
        yield lambda: live.update(_table(runs), refresh=True)


class _Lines:
    """Prints a line when the last one is old enough."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._last = monotonic()

    def __call__(self) -> None:
        if monotonic() - self._last >= EVERY:
            self._last = monotonic()
            print("; ".join(_words(self._runs)), flush=True)


def _words(runs: Sequence[Run]) -> list[str]:
    states = [(run.name, *_state(run.folder)) for run in runs]
    ended = sum(left in ENDED for *_, left in states)
    working = [f"{name}: epoch {epoch}, {left} left" for name, epoch, left in states if epoch]
    return [f"{ended} of {len(runs)} runs ended", *working]


def _table(runs: Sequence[Run]) -> Table:
    table = Table("arm", "seed", "epoch", "time left")
    for run in runs:
        table.add_row(run.settings.arm, str(run.settings.seed), *_state(run.folder))
    return table


def _state(folder: RunFolder) -> tuple[str, str]:
    """Return the epoch and the time left, or the one word that says why there is neither."""
    if folder.finished:
        return "", ENDED[0]
    if folder.error.exists():
        return "", ENDED[1]
    progress = folder.progress
    if progress is None:
        return "", "waiting"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return str(progress.epoch), f"{minutes}:{seconds:02}"
