"""Figures for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from cutmix.core.continued import Continued

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.utils.tensorboard import SummaryWriter

    from cutmix.core.logger import Figure


@final
class TensorBoard(Continued):
    """Writes event files into ``folder``; what another run has written there is hidden from TensorBoard."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError('needs: pip install "cutmix[tensorboard]"') from error
        self._make = SummaryWriter
        self._folder = str(folder)
        self._writer: SummaryWriter

    def open(self, step: int) -> None:
        # With a step to purge from the very first time on: TensorBoard takes the first such mark for no restart.
        self._writer = self._make(self._folder, purge_step=step)

    def write(self, metrics: Mapping[str, Figure], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        if self._is_open:
            self._writer.flush()

    def shut(self) -> None:
        self._writer.close()
