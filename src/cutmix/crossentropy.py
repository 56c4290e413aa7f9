"""Cross entropy of mixed labels from plain tensors: one log-sum-exp, and a look at each of the two labels.

It equals ``kept * cross_entropy(logits, own) + (1 - kept) * cross_entropy(logits, partner)`` per sample, and the cross
entropy on the blended rows, without a second softmax and without a dense matrix.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from cutmix.shapes import Ids, Kept, Labels, Logits, Losses, Rows

Reduction: TypeAlias = Literal["none", "mean", "sum"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The settings of ``torch.nn.functional.cross_entropy``, with its meaning."""

    weight: Tensor | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be one of {get_args(Reduction)}, got {self.reduction!r}")
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(
                f"label_smoothing must lie in [0, 1], got {self.label_smoothing}: it is the share of the uniform row"
            )


def mixed_cross_entropy(logits: Logits, own: Labels, partner: Labels, kept: Kept, options: Options) -> Losses:
    """Return the cross entropy of ``logits`` against ``kept`` of ``own`` and the rest of ``partner``.

    Half-precision logits are computed, and returned, in float32. With class weights or ignored labels the mean is over
    the weights that count, label by label, as torch takes it for plain labels.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    share = kept.to(logits, non_blocking=True).view(-1, *[1] * (logits.ndim - 2))
    normaliser = logits.logsumexp(1)
    own_loss, own_count = _labelled(logits, normaliser, own, options)
    partner_loss, partner_count = _labelled(logits, normaliser, partner, options)
    losses = share * own_loss + (1.0 - share) * partner_loss
    if options.reduction == "none":
        return losses
    if options.reduction == "sum":
        return losses.sum()
    return losses.sum() / (share * own_count + (1.0 - share) * partner_count).sum()


def _labelled(logits: Logits, normaliser: Losses, labels: Labels, options: Options) -> tuple[Losses, Losses]:
    """Return the loss of each element against ``labels``, and what each counts for in the mean."""
    labelled = _against_rows if labels.is_floating_point() else _against_ids
    return labelled(logits, normaliser, labels, options)


def _against_ids(logits: Logits, normaliser: Losses, ids: Ids, options: Options) -> tuple[Losses, Losses]:
    counted = ids != options.ignore_index
    ids = torch.where(counted, ids, 0).long()
    losses = normaliser - logits.gather(1, ids.unsqueeze(1)).squeeze(1)
    count = counted.to(logits.dtype)
    if options.weight is not None:
        weight = options.weight.to(logits.dtype)[ids]
        losses, count = losses * weight, count * weight
    if options.label_smoothing:
        losses = torch.lerp(losses, _against_every_class(logits, normaliser, options), options.label_smoothing)
    return losses.masked_fill(~counted, 0.0), count


def _against_every_class(logits: Logits, normaliser: Losses, options: Options) -> Losses:
    """Return the loss against the uniform row, the part that label smoothing adds."""
    if options.weight is None:
        return normaliser - logits.mean(1)
    uniform = torch.full_like(logits, 1.0 / logits.shape[1])
    return _against_rows(logits, normaliser, uniform, replace(options, label_smoothing=0.0))[0]


def _against_rows(logits: Logits, normaliser: Losses, rows: Rows, options: Options) -> tuple[Losses, Losses]:
    rows = rows.to(logits.dtype)
    if options.label_smoothing:
        rows = torch.lerp(rows, torch.full_like(rows, 1.0 / rows.shape[1]), options.label_smoothing)
    if options.weight is not None:
        rows = rows * options.weight.to(logits.dtype).view(-1, *[1] * (logits.ndim - 2))
    return normaliser * rows.sum(1) - (rows * logits).sum(1), torch.ones_like(normaliser)
