"""MixUp: blend each sample with another of the batch."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import cast, final

import torch

from cutmix import boxes
from cutmix.algorithms.recipe import Recipe
from cutmix.algorithms.schedule import Schedule, Until
from cutmix.algorithms.settings import check_number
from cutmix.axes import check_shape, checked_axes
from cutmix.core.batch import Key
from cutmix.draws import Pairing, draw_betas
from cutmix.shapes import Boxes, Opacity


@final
@dataclass(frozen=True, slots=True)
class MixUp(Recipe):
    """Blend each sample with another of the batch, ``(1 - mixing) * own + mixing * partner`` (Zhang et al. 2018).

    ``mixing`` is the smaller of lambda and 1 - lambda, lambda ~ Beta(alpha, alpha), so that the own sample is the main
    one, as in Composer. One weight for the whole batch, unless ``per_sample``.

    Args:
        alpha: of the Beta distribution; 0.2 is the usual choice, 0 mixes nothing. It may follow
            the clock: ``linear(0.8, 0.0)``, or any function of the elapsed share of the run, see ``at``.
        interpolate_loss: in the Trainer, weigh two calls of the loss instead of calling it on blended label rows.
        input_key: where the samples are in a batch (index, key, attribute, or a getter and setter); else the
            Trainer's, and 0 in a plain loop.
        target_key: where the targets are; else the Trainer's, and 1 in a plain loop.
        p: the share of batches that are mixed, in [0, 1]; of samples with ``per_sample``. It may follow the clock too.
        per_sample: draw a weight of its own for each sample.
        mixing: the partner's weight, in [0, 1], instead of drawing it; ``alpha`` is then unused.
        pairing: "ring", one random cycle, where nobody is its own partner; "shuffle", a plain permutation; or
            "same_class", a random cycle inside each class, where who is alone in it stays as it is.
        until: mix nothing from then on: ``'270ep'`` since the start of the run, or a share of it, 0.9.
        spatial_dims: the axes that a mask shares with the samples; else all behind the channels.

    Raises:
        TypeError: when a setting is of the wrong type.
        ValueError: when a setting is out of its range.
    """

    alpha: float | Schedule = 0.2
    interpolate_loss: bool = False
    input_key: Key | None = None
    target_key: Key | None = None
    _: KW_ONLY
    p: float | Schedule = 1.0
    per_sample: bool = False
    mixing: float | None = None
    pairing: Pairing = "ring"
    until: Until | None = None
    spatial_dims: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self._check_settings()
        if self.mixing is not None:
            check_number("mixing", self.mixing, 0.0, 1.0, "it is the partner's weight")

    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the axes of the box, which is the whole sample: ``spatial_dims``, else all behind the channels."""
        check_shape(shape)
        if self.spatial_dims is not None:
            return checked_axes(shape, self.spatial_dims)
        if len(shape) < 2:  # noqa: PLR2004 - the batch, and something to blend
            raise ValueError(f"samples must have an axis behind the batch, got shape {tuple(shape)}: add one")
        return tuple(range(min(2, len(shape) - 1), len(shape)))

    def draw_regions(
        self, size: tuple[int, ...], count: int, generator: torch.Generator | None
    ) -> tuple[Boxes, Opacity]:
        """Draw the partners' weights; a box is the whole sample, or empty where they weigh nothing."""
        mixing = self._draw_mixing(count, generator)
        return boxes.fixed([0] * len(size), size, 1) * (mixing > 0.0)[:, None, None], mixing

    def _draw_mixing(self, count: int, generator: torch.Generator | None) -> Opacity:
        if self.mixing is not None or self._has_no_alpha:
            return torch.full((count,), float(self.mixing or 0.0), dtype=torch.float64)
        kept = torch.from_numpy(draw_betas(cast("float", self.alpha), count, generator))
        return torch.minimum(kept, 1.0 - kept)
