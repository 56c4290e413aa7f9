"""Figures for Weights & Biases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, final

from cutmix.core.continued import Continued

if TYPE_CHECKING:
    from collections.abc import Mapping

    import wandb

    from cutmix.core.logger import Figure


@final
class WandB(Continued):
    """Logs to one run of Weights & Biases, also after a resume: steps that stand there already are passed over.

    For what has no argument here wandb reads variables, such as ``WANDB_ENTITY`` and ``WANDB_DIR``.

    Args:
        project: that the run belongs to; else wandb chooses.
        name: of the run; else wandb chooses.
        config: settings to show beside the figures.
        mode: ``'offline'`` sends nothing; each resume then begins another folder of the run.
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
    ) -> None:
        super().__init__()
        try:
            import wandb
        except ImportError as error:
            raise ImportError('needs: pip install "cutmix[wandb]"') from error
        self._init = partial(wandb.init, project=project, name=name, config=dict(config or {}), mode=mode)
        self._id: str | None = None
        self._run: wandb.Run

    def open(self, step: int) -> None:  # noqa: ARG002 - wandb knows how far it came
        self._run = self._init(id=self._id, resume="allow")
        self._id = self._run.id

    def write(self, metrics: Mapping[str, Figure], step: int) -> None:
        if step >= self._run.starting_step:
            self._run.log(dict(metrics), step=step)

    def shut(self) -> None:
        self._run.finish()

    def state_dict(self) -> Mapping[str, Any]:
        return {**super().state_dict(), "id": self._id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._id = state["id"]
