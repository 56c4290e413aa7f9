"""Cross entropy of mixed labels from plain tensors: one softmax, and a look at each of the two labels.

Per sample it equals ``kept * cross_entropy(logits, own) + (1 - kept) * cross_entropy(logits, partner)``, and the cross
entropy on the blended rows, without a second softmax and without a dense matrix of labels.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from cutmix.shapes import Kept, Labels, Logits, Losses, Pairs, Rows, Shares

SUM = 2
"""What torch's operators call the sum."""

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
    if _is_plainest(own, kept, options):
        return _mean_of_shared(logits, own, partner, kept[0].item(), options)
    share = kept.to(logits, non_blocking=True).view(-1, *[1] * (own.ndim - 1))
    if own.is_floating_point():
        return _of_rows(logits, share * own + (1.0 - share) * partner, options)
    return _of_ids(logits, torch.stack((own, partner), 1).long(), torch.stack((share, 1.0 - share), 1), options)


def _is_plainest(own: Labels, kept: Kept, options: Options) -> bool:
    """Tell whether this is the mean over one index a sample, all with the same share.

    A plan of one box expands what it keeps to the whole batch, and says so by a stride of 0.
    """
    shared = kept.stride() == (0,) and own.dtype is torch.int64 and own.ndim == 1
    return shared and options.reduction == "mean" and not options.label_smoothing


def _mean_of_shared(logits: Logits, own: Labels, partner: Labels, kept: float, options: Options) -> Losses:
    """Return the mean where all samples share ``kept``: torch's own sums, and what counts in them."""
    weight = None if options.weight is None else options.weight.to(logits.dtype)
    if kept == 1.0:
        return F.cross_entropy(logits, own, weight, ignore_index=options.ignore_index)
    log_likelihoods = logits.log_softmax(1)
    losses, counts = zip(
        *(
            torch.ops.aten.nll_loss_forward.default(log_likelihoods, labels, weight, SUM, options.ignore_index)
            for labels in (partner, own)
        ),
        strict=True,
    )
    return torch.lerp(*losses, kept) / torch.lerp(*counts, kept)


def _of_rows(logits: Logits, rows: Rows, options: Options) -> Losses:
    settings = {name: getattr(options, name) for name in options.__slots__}
    return F.cross_entropy(logits, rows.to(logits.dtype), **settings)


def _of_ids(logits: Logits, ids: Pairs, shares: Shares, options: Options) -> Losses:
    """Return the loss against two labels a sample, each with its share of it."""
    ignored = (ids == options.ignore_index) | (shares == 0.0)
    ids, shares = ids.masked_fill(ignored, 0), shares.masked_fill(ignored, 0.0)
    counts = shares if options.weight is None else shares * options.weight.to(logits.dtype)[ids]
    log_likelihoods = logits.log_softmax(1)
    losses = -(counts * log_likelihoods.gather(1, ids).masked_fill(ignored, 0.0)).sum(1)
    if options.label_smoothing:
        uniform = shares.sum(1) * _against_every_class(log_likelihoods, options.weight)
        losses = torch.lerp(losses, uniform, options.label_smoothing)
    match options.reduction:
        case "none":
            return losses
        case "sum":
            return losses.sum()
        case _:
            return losses.sum() / counts.sum()


def _against_every_class(log_likelihoods: Logits, weight: Tensor | None) -> Losses:
    """Return the loss against the uniform row, the part that label smoothing adds."""
    if weight is not None:
        weight = weight.to(log_likelihoods.dtype).view(-1, *[1] * (log_likelihoods.ndim - 2))
        log_likelihoods = log_likelihoods * weight
    return -log_likelihoods.mean(1)
