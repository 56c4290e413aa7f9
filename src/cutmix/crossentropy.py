"""Cross entropy of mixed labels from plain tensors: one softmax, and a look at each of the two labels.

Per sample it equals ``kept * cross_entropy(logits, own) + (1 - kept) * cross_entropy(logits, partner)``, and the cross
entropy on the blended rows, without a second softmax and without a dense matrix of labels.
"""

from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from cutmix.reductions import Reduction, is_readable
from cutmix.shapes import Kept, Labels, Logits, Losses, Pairs, Rows, Shares


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

    Raises:
        ValueError: when the labels are neither class ids nor rows of as many entries as the logits have, or, told where
            that costs no waiting, on the host and outside of graphs, when an id is no class.
    """
    if own.is_floating_point():
        return _of_rows(logits, own, partner, kept, options)
    if is_readable(kept) and bool((kept == 1.0).all()):
        check_ids(own, logits.shape[1], "own", options.ignore_index)
        return F.cross_entropy(_wide(logits), own.long(), **_settings(options, logits))
    return mixed_nll(logits.log_softmax(1, dtype=_wide_dtype(logits)), own, partner, kept, options)


def mixed_nll(log_likelihoods: Logits, own: Labels, partner: Labels, kept: Kept, options: Options) -> Losses:
    """Return the loss against two class ids a sample, each for its share, of what ``log_softmax`` has made of logits.

    Raises:
        ValueError: when the labels are no class ids; see ``mixed_cross_entropy``.
    """
    for name, ids in (("own", own), ("partner", partner)):
        check_ids(ids, log_likelihoods.shape[1], name, options.ignore_index)
    share = _a_sample(kept, log_likelihoods, own)
    return _of_pairs(
        log_likelihoods, torch.stack((own, partner), 1).long(), torch.stack((share, 1.0 - share), 1), options
    )


def check_ids(ids: Labels, classes: int, name: str, ignore_index: int | None = None) -> None:
    """Check that labels are class ids, in their range where the host can tell at once.

    Raises:
        ValueError: when they are not.
    """
    if ids.is_floating_point():
        raise ValueError(
            f"{name} labels must be class ids, or float rows with one entry for each of {classes} classes, got "
            f"{ids.dtype} of shape {tuple(ids.shape)}: convert ids with .long() before they are mixed"
        )
    # A graph has no values yet, and a device would be waited for: there the lookup itself fails.
    if not is_readable(ids):
        return
    ids = ids.long()  # small integers wrap the numbers that they are compared with
    wrong = (ids < 0) | (ids >= classes)
    if ignore_index is not None:
        wrong &= ids != ignore_index
    if bool(wrong.any()):
        raise ValueError(
            f"{name} labels must be class ids in [0, {classes}), as many as there are outputs, got "
            f"{int(ids[wrong][0])}: count classes from 0, and mark what shall not count with ignore_index"
        )


def _of_rows(logits: Logits, own: Rows, partner: Rows, kept: Kept, options: Options) -> Losses:
    if own.shape != logits.shape:
        check_ids(own, logits.shape[1], "own")
    logits = _wide(logits)
    share = _a_sample(kept, logits, own)
    rows = share * own + (1.0 - share) * partner
    return F.cross_entropy(logits, rows.to(logits.dtype), **_settings(options, logits))


def _of_pairs(log_likelihoods: Logits, ids: Pairs, shares: Shares, options: Options) -> Losses:
    """Return the loss against two labels a sample, each with its share of it."""
    ignored = (ids == options.ignore_index) | (shares == 0.0)  # nothing of an impossible class is nothing
    ids, shares = ids.masked_fill(ignored, 0), shares.masked_fill(ignored, 0.0)
    counts = shares if options.weight is None else shares * options.weight.to(log_likelihoods.dtype)[ids]
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


def _a_sample(kept: Kept, logits: Logits, labels: Labels) -> Tensor:
    """Lay ``kept`` out, in the logits' dtype and on their device, so that it meets the labels of its sample."""
    return kept.to(logits, non_blocking=True).view(-1, *[1] * (labels.ndim - 1))


def _wide_dtype(logits: Logits) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _wide(logits: Logits) -> Logits:
    return logits.to(_wide_dtype(logits))


def _settings(options: Options, logits: Logits) -> dict[str, Any]:
    weight = None if options.weight is None else options.weight.to(_wide_dtype(logits))
    return {
        "weight": weight,
        "ignore_index": options.ignore_index,
        "reduction": options.reduction,
        "label_smoothing": options.label_smoothing,
    }
