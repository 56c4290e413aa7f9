"""Mixed targets: each sample's own label, its partner's, and how much of the own is kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutmix.crossentropy import Options, check_ids, check_parts, mixed_cross_entropy, mixed_nll
from cutmix.reductions import LossFn, Reduction, interpolated, unwrapped, with_reduction
from cutmix.shapes import Kept, Labels, Logits, Losses, Rows


class MixedTargetError(ValueError):
    """A mixed target met a torch function that takes tensors only."""


class MixedTarget(NamedTuple):
    """The labels of a mixed batch: ``kept`` of each sample's own, the rest of its partner's.

    It stands where the labels stood: ``F.cross_entropy(outputs, target)``, ``F.nll_loss`` and their modules take it as
    it is; for any other loss use ``cutmix.losses.mixed(loss_fn)``, ``target.dense(num_classes)`` or
    ``target.interpolate(loss_fn, outputs)``. Every other torch function raises a ValueError that says so: a comparison
    such as ``outputs.argmax(1) == target`` would be wrong in silence. It is a tuple: ``len(target)`` is 3, and
    ``len(target.kept)`` the number of samples.

    Attributes:
        own: class indices (batch,) of any integer dtype, or float rows (batch, classes).
        partner: the same of each sample's partner.
        kept: (batch,) float64 in [0, 1], on the host; where the plan is, if that was moved to a device.
    """

    own: Labels
    partner: Labels
    kept: Kept

    def dense(self, num_classes: int | None = None, dtype: torch.dtype | None = None) -> Rows:
        """Return the blended rows, (batch, num_classes, ...): one-hot for indices, as they are for rows.

        Args:
            num_classes: how many classes there are; needed for indices, and checked for rows.
            dtype: of the result; else float32 for indices, and the rows' own dtype.

        Raises:
            TypeError: when ``num_classes`` is no whole number, or ``dtype`` holds no fractions.
            ValueError: when ``num_classes`` is missing, is not what the rows have, or an index is no class.
        """
        check_parts(*self)
        if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
            raise TypeError(f"num_classes must be a whole number, got {num_classes!r}: pass outputs.shape[1]")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be floating point, got {dtype}: labels are blended, take torch.float32")
        if self.own.is_floating_point():
            return self._blended_rows(num_classes, dtype or self.own.dtype)
        return self._blended_ids(num_classes, dtype or torch.float32)

    def _blended_rows(self, num_classes: int | None, dtype: torch.dtype) -> Rows:
        if num_classes not in (None, *self.own.shape[1:2]):
            raise ValueError(
                f"num_classes must be the length of the rows, {tuple(self.own.shape[1:])}, got {num_classes}: "
                "leave it out, or convert ids with .long() before they are mixed"
            )
        share = self._share(torch.promote_types(dtype, torch.float32))
        return (share * self.own + (1.0 - share) * self.partner).to(dtype)

    def _blended_ids(self, num_classes: int | None, dtype: torch.dtype) -> Rows:
        if num_classes is None:
            raise ValueError(
                "num_classes must be given for class indices, got None: pass as many as the model has outputs, "
                "target.dense(outputs.shape[1])"
            )
        check_ids(self.own, num_classes, "own")
        check_ids(self.partner, num_classes, "partner")
        share = self._share(torch.promote_types(dtype, torch.float32)).expand(self.own.shape)
        rows = share.new_zeros(len(self.own), num_classes, *self.own.shape[1:])
        for ids, part in ((self.own, share), (self.partner, 1.0 - share)):
            rows = rows.scatter_add(1, ids.long().unsqueeze(1), part.unsqueeze(1))
        return rows.to(dtype)

    def _share(self, dtype: torch.dtype) -> Tensor:
        """Lay ``kept`` out so that it meets the labels of its sample."""
        return self.kept.to(self.own.device, dtype, non_blocking=True).view(-1, *[1] * (self.own.ndim - 1))

    def interpolate(self, loss_fn: LossFn, outputs: Any, *, reduction: Reduction | None = None) -> Losses:  # noqa: ANN401 - the loss's
        """Return ``kept * loss_fn(outputs, own) + (1 - kept) * loss_fn(outputs, partner)``, sample by sample.

        Equals the loss on blended rows where the loss is linear in its target (cross entropy is). Torch's cross entropy
        and ``nll_loss`` take the target as it is, class weights and ignored labels too.

        Args:
            loss_fn: any loss. Where all samples keep alike, two calls of it are weighted, reduced as they are. Where
                they differ, or a ``reduction`` is given, it must be one of torch's own, with a ``reduction`` to be
                taken off and put back, or return one value a sample.
            outputs: whatever the loss takes.
            reduction: of the weighted losses, "none", "mean" or "sum"; else the loss's own.

        Raises:
            ValueError: when losses a sample are needed, and the loss has none.
        """
        check_parts(*self)
        kind = unwrapped(loss_fn)
        if kind in ANSWERED or type(kind) in (nn.CrossEntropyLoss, nn.NLLLoss):
            return (with_reduction(loss_fn, reduction) if reduction else loss_fn)(outputs, self)
        return interpolated(loss_fn, outputs, *self, reduction)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "MixedTarget":
        """Move the labels; ``kept`` stays on the host, since some devices have no float64."""
        own, partner = (labels.to(device, non_blocking=non_blocking) for labels in (self.own, self.partner))
        return MixedTarget(own, partner, self.kept)

    def __eq__(self, other: object) -> bool:
        """Refuse to be compared with numbers and labels, as tensors are: the answer would be a silent False."""
        if not isinstance(other, tuple):
            raise MixedTargetError(
                f"a MixedTarget is no tensor, got it compared with {other!r}: compare target.own or target.partner"
            )
        return self is other or tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Refuse what ``==`` refuses."""
        return not self == other

    __hash__ = tuple.__hash__

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,  # noqa: ANN401 - torch's signature
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """Answer cross entropy, and refuse every other torch function with the remedy."""
        if function is F.cross_entropy:
            return _cross_entropy(*args, **(kwargs or {}))
        if function is F.nll_loss:
            return _nll_loss(*args, **(kwargs or {}))
        # Not TypeError: Python would turn that into a silent False in ``outputs == target``.
        raise MixedTargetError(
            f"a MixedTarget is no tensor, got it in torch's {getattr(function, '__name__', function)}: use "
            "cutmix.losses.mixed(loss_fn), target.dense(num_classes) or target.interpolate(loss_fn, outputs), "
            "and cutmix.metrics.accuracy(outputs, target) for the accuracy"
        )


def cross_entropy(
    outputs: Logits,
    target: Labels | MixedTarget,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Losses:
    """Return ``torch.nn.functional.cross_entropy``, also of a mixed target.

    Args:
        outputs: logits (batch, classes, ...).
        target: class indices, float rows, or a MixedTarget of either.
        weight: (classes,), one weight a class.
        ignore_index: the class index that does not count.
        reduction: "mean", "sum" or "none". With class weights or ignored labels the mean of a mixed target is over the
            weights that count, label by label; without them it is the plain mean over the batch.
        label_smoothing: share of the uniform row, in [0, 1].

    Raises:
        ValueError: when a setting is out of its range, or the labels of a mixed target do not fit the outputs.
    """
    if isinstance(target, MixedTarget):
        return mixed_cross_entropy(outputs, *target, Options(weight, ignore_index, reduction, label_smoothing))
    return F.cross_entropy(
        outputs, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


ANSWERED = (F.cross_entropy, F.nll_loss, cross_entropy)
"""The losses that take a MixedTarget as it is."""


def _cross_entropy(  # noqa: PLR0913 - torch's own signature
    input: Logits,  # noqa: A002
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,  # noqa: FBT001
    ignore_index: int = -100,
    reduce: bool | None = None,  # noqa: FBT001
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Losses:
    _refuse_legacy(size_average, reduce)
    return mixed_cross_entropy(input, *target, Options(weight, ignore_index, reduction, label_smoothing))


def _nll_loss(  # noqa: PLR0913 - torch's own signature
    input: Logits,  # noqa: A002
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,  # noqa: FBT001
    ignore_index: int = -100,
    reduce: bool | None = None,  # noqa: FBT001
    reduction: Reduction = "mean",
) -> Losses:
    _refuse_legacy(size_average, reduce)
    return mixed_nll(input, *target, Options(weight, ignore_index, reduction))


def _refuse_legacy(size_average: bool | None, reduce: bool | None) -> None:  # noqa: FBT001 - torch's
    if size_average is not None or reduce is not None:
        raise ValueError(
            f"size_average and reduce must be None with a MixedTarget, got {size_average} and {reduce}: torch has "
            "deprecated them, use reduction='mean', 'sum' or 'none'"
        )
