"""Cross entropy of mixed labels from plain tensors: one softmax, and a look at each of the two labels.

Per sample it equals ``kept * cross_entropy(logits, own) + (1 - kept) * cross_entropy(logits, partner)``, and the cross
entropy on the blended rows, without a second softmax and without a dense matrix of labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from cutmix.reductions import Reduction
from cutmix.shapes import Ids, Kept, Labels, Logits, Losses, Rows
from cutmix.tensors import holds_whole_numbers, is_readable

SUM = 2
"""What torch's operators call the sum."""
FEW = 1 << 15
"""Up to so many logits, calls cost more than memory: two of torch's own sums, which make a gradient each."""
Look: TypeAlias = Callable[[Logits, Ids], Losses]
"""Finds the log-likelihoods of some classes of each sample."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """The settings of ``torch.nn.functional.cross_entropy``, with its meaning."""

    weight: Tensor | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    @property
    def is_plain_mean(self) -> bool:
        """Tell whether torch's own sums are all it takes."""
        return self.reduction == "mean" and not self.label_smoothing

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
        ValueError: when the labels are neither class ids nor rows of as many entries as the logits have, their parts do
            not fit each other, or, told where that costs no waiting, on the host and outside of graphs, when an id is
            no class or ``kept`` no share.
    """
    check_parts(own, partner, kept)
    if own.is_floating_point():
        return _of_rows(logits, own, partner, kept, options)
    if _keeps_all(kept):
        return _checked(
            lambda: F.cross_entropy(_wide(logits), own.long(), **_settings(options, logits)), logits, options, own=own
        )
    if options.label_smoothing or _are_few(logits, own, options) or torch.compiler.is_compiling():
        # Every class is looked at, or calls are what costs, or the graph fuses all of it.
        return mixed_nll(logits.log_softmax(1, dtype=_wide_dtype(logits)), own, partner, kept, options)
    return _nll(log_softmax_at, logits, own, partner, kept=kept, options=options)


def mixed_nll(log_likelihoods: Logits, own: Labels, partner: Labels, kept: Kept, options: Options) -> Losses:
    """Return the loss against two class ids a sample, each for its share, of what ``log_softmax`` has made of logits.

    Half precision is computed, and returned, in float32.

    Raises:
        ValueError: when the labels are no class ids; see ``mixed_cross_entropy``.
    """
    check_parts(own, partner, kept)
    log_likelihoods = _wide(log_likelihoods)
    share = _shared(kept) if _are_few(log_likelihoods, own, options) else None
    if share is None or not 0.0 < share < 1.0:
        return _nll(_gathered, log_likelihoods, own, partner, kept=kept, options=options)
    return _checked(
        lambda: _mean_of_shared(log_likelihoods, own.long(), partner.long(), share=share, options=options),
        log_likelihoods,
        options,
        own=own,
        partner=partner,
    )


def _nll(look: Look, logits: Logits, own: Labels, partner: Labels, *, kept: Kept, options: Options) -> Losses:
    return _checked(
        lambda: _of_each(look, logits, own.long(), partner.long(), kept=kept, options=options),
        logits,
        options,
        own=own,
        partner=partner,
    )


def _checked(loss: Callable[[], Losses], logits: Logits, options: Options, **labels: Labels) -> Losses:
    """Return a loss, or say which of the labels are no class ids where torch has found that some are not."""
    for name, ids in labels.items():
        _check_whole(ids, logits.shape[1], name)
        _check_fit(logits, ids, name, options.weight)
    try:
        return loss()
    except (IndexError, RuntimeError):
        for name, ids in labels.items():
            check_ids(ids, logits.shape[1], name, options.ignore_index)
        raise


def check_parts(own: Labels, partner: Labels, kept: Kept) -> None:
    """Check that the parts of a mixed target belong together, for one can be put together by hand.

    Raises:
        ValueError: when they do not.
    """
    if own.shape != partner.shape or own.dtype != partner.dtype:
        raise ValueError(
            f"partner must be labels like the own ones, {own.dtype} of shape {tuple(own.shape)}, got {partner.dtype} "
            f"of shape {tuple(partner.shape)}: take it from the same labels, own[plan.partners]"
        )
    if not isinstance(kept, Tensor) or kept.shape != own.shape[:1] or not kept.is_floating_point():
        raise ValueError(f"kept must be float numbers ({len(own)},), one a sample, got {kept}: take plan.kept")
    if is_readable(kept) and not _are_shares(kept):
        raise ValueError(f"kept must lie in [0, 1], got {kept}: it is the own label's share, take plan.kept")


def _are_shares(kept: Kept) -> bool:
    numbers = (kept[:1] if kept.stride() == (0,) else kept).numpy()  # which asks less than torch for so few numbers
    return not len(numbers) or bool(numbers.min() >= 0.0 and numbers.max() <= 1.0)


def _check_fit(logits: Logits, ids: Labels, name: str, weight: Tensor | None) -> None:
    """Check that there is one class id for each place of the logits, and one weight for each class."""
    if ids.shape != (*logits.shape[:1], *logits.shape[2:]):
        raise ValueError(
            f"{name} labels must be one class id for each of the outputs {tuple(logits.shape)}, classes on the second "
            f"axis, got shape {tuple(ids.shape)}: outputs and target must be of the same batch"
        )
    if weight is not None and weight.shape != logits.shape[1:2]:
        raise ValueError(
            f"weight must be ({logits.shape[1]},), one a class, got shape {tuple(weight.shape)}: "
            "leave it out to weigh all alike"
        )


def check_ids(ids: Labels, classes: int, name: str, ignore_index: int | None = None) -> None:
    """Check that labels are class ids, in their range where the host can tell at once.

    Raises:
        ValueError: when they are not.
    """
    _check_whole(ids, classes, name)
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


def _check_whole(ids: Labels, classes: int, name: str) -> None:
    if not holds_whole_numbers(ids):
        raise ValueError(
            f"{name} labels must be class ids, or float rows with one entry for each of {classes} classes, got "
            f"{ids.dtype} of shape {tuple(ids.shape)}: convert ids with .long() before they are mixed, give rows an "
            "entry for each output"
        )


def _are_few(logits: Logits, own: Labels, options: Options) -> bool:
    return options.is_plain_mean and own.ndim == 1 and logits.numel() <= FEW


def _keeps_all(kept: Kept) -> bool:
    """Tell whether nothing is mixed, as far as that can be read."""
    share = _shared(kept)
    return is_readable(kept) and bool((kept == 1.0).all()) if share is None else share == 1.0


def _shared(kept: Kept) -> float | None:
    """Return what all samples keep: a plan of one box expands it to the whole batch, and says so by a stride of 0."""
    return kept[0].item() if is_readable(kept) and kept.stride() == (0,) else None


def _mean_of_shared(log_likelihoods: Logits, own: Ids, partner: Ids, *, share: float, options: Options) -> Losses:
    """Return the mean where all samples keep ``share``: torch's own sums, and what counts in them."""
    weight = None if options.weight is None else options.weight.to(log_likelihoods.dtype)
    (own_loss, own_count), (partner_loss, partner_count) = (
        torch.ops.aten.nll_loss_forward.default(log_likelihoods, ids, weight, SUM, options.ignore_index)
        for ids in (own, partner)
    )
    loss = share * own_loss + (1.0 - share) * partner_loss  # not lerp, which makes nan of two infinite losses
    return loss / (share * own_count + (1.0 - share) * partner_count)


def _of_rows(logits: Logits, own: Rows, partner: Rows, kept: Kept, options: Options) -> Losses:
    if own.shape != logits.shape:
        _check_whole(own, logits.shape[1], "own")
    logits = _wide(logits)
    share = _a_sample(kept, logits, own)
    rows = share * own + (1.0 - share) * partner
    return F.cross_entropy(logits, rows.to(logits.dtype), **_settings(options, logits))


def _of_each(look: Look, logits: Logits, own: Ids, partner: Ids, *, kept: Kept, options: Options) -> Losses:
    """Return the loss against two labels a sample, each with its share of it."""
    ids = torch.stack((own, partner), 1)
    ignored, shares = ids == options.ignore_index, _shares(kept, logits, own)
    if shares.stride(0):  # some may be 0: nothing of an impossible class is nothing
        ignored = ignored | (shares == 0.0)
    ids, shares = ids.masked_fill(ignored, 0), shares.masked_fill(ignored, 0.0)
    counts = shares if options.weight is None else shares * options.weight.to(shares.dtype)[ids]
    losses = counts * look(logits, ids).masked_fill(ignored, 0.0)
    if options.is_plain_mean:
        return -losses.sum() / counts.sum()
    losses = -losses.sum(1)
    if options.label_smoothing:
        uniform = shares.sum(1) * _against_every_class(logits, options.weight)
        losses = torch.lerp(losses, uniform, options.label_smoothing)
    match options.reduction:
        case "none":
            return losses
        case "sum":
            return losses.sum()
        case _:
            return losses.sum() / counts.sum()


def _gathered(log_likelihoods: Logits, ids: Ids) -> Losses:
    return log_likelihoods.gather(1, ids)


def log_softmax_at(logits: Logits, ids: Ids) -> Losses:
    """Return ``logits.log_softmax(1).gather(1, ids)``, in float32 at least, each exponential taken once.

    torch's own takes them forward and backward, since it keeps the logarithms. Where few of these are asked for, the
    softmax can be kept in their place: it is the gradient, but for a factor a sample and a term an id.
    """
    found, _ = _LogSoftmaxAt.apply(logits, ids)
    return found


@final
class _LogSoftmaxAt(torch.autograd.Function):
    """Gives the softmax beside what is looked up, so that its gradient can be derived too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Logits, ids: Ids) -> tuple[Losses, Logits]:
        softmax = logits.softmax(1, dtype=_wide_dtype(logits))
        # The greatest of the softmax is no less than 1 / classes: its logarithm is exact, whatever the logits are.
        below_greatest = _wide(logits.gather(1, ids)) - _wide(logits.amax(1, keepdim=True))
        return below_greatest + softmax.amax(1, keepdim=True).log(), softmax

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Logits, Ids], output: tuple[Losses, Logits]) -> None:  # noqa: ANN401
        ctx.save_for_backward(output[1], inputs[1])
        ctx.save_for_forward(output[1], inputs[1])
        ctx.dtype = inputs[0].dtype
        ctx.set_materialize_grads(value=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Losses | None) -> tuple[Logits | None, None]:  # noqa: ANN401
        (softmax, ids), (of_found, of_softmax) = ctx.saved_tensors, gradients
        gradient = None
        if of_softmax is not None:
            gradient = softmax * (of_softmax - (softmax * of_softmax).sum(1, keepdim=True))
        if of_found is not None:
            each = softmax * -of_found.sum(1, keepdim=True)
            gradient = (each if gradient is None else each + gradient).scatter_add_(1, ids, of_found)
        return None if gradient is None else gradient.to(ctx.dtype), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Losses, Logits]:  # noqa: ANN401
        (softmax, ids), of_logits = ctx.saved_tensors, _wide(tangents[0])
        mean = (softmax * of_logits).sum(1, keepdim=True)
        return of_logits.gather(1, ids) - mean, softmax * (of_logits - mean)


def _shares(kept: Kept, logits: Logits, own: Ids) -> Losses:
    """Return what a sample's two labels count, (batch, 2, ...): one pair for all, if none of the two is nothing."""
    share = _shared(kept)
    if share is not None and 0.0 < share < 1.0:
        pair = torch.tensor((share, 1.0 - share), dtype=_wide_dtype(logits)).view(2, *[1] * (own.ndim - 1))
        return pair.to(logits.device, non_blocking=True).expand(len(own), *pair.shape)
    share = _a_sample(kept, logits, own)
    return torch.stack((share, 1.0 - share), 1)


def _against_every_class(log_likelihoods: Logits, weight: Tensor | None) -> Losses:
    """Return the loss against the uniform row, the part that label smoothing adds."""
    if weight is not None:
        weight = weight.to(log_likelihoods.dtype).view(-1, *[1] * (log_likelihoods.ndim - 2))
        log_likelihoods = log_likelihoods * weight
    return -log_likelihoods.mean(1)


def _a_sample(kept: Kept, logits: Logits, labels: Labels) -> Tensor:
    """Lay ``kept`` out, in the loss's dtype and on the logits' device, so that it meets the labels of its sample."""
    return kept.to(logits.device, _wide_dtype(logits), non_blocking=True).view(-1, *[1] * (labels.ndim - 1))


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
