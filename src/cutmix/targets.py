"""Mixed targets: each sample's own label, its partner's, and how much of the own is kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cutmix.crossentropy import Options, Reduction, mixed_cross_entropy
from cutmix.shapes import Ids, Kept, Labels, Logits, Losses, Rows


class MixedTargetError(ValueError):
    """A mixed target met a torch function that takes tensors only."""


class MixedTarget(NamedTuple):
    """The labels of a mixed batch: ``kept`` of each sample's own, the rest of its partner's.

    It stands where the labels stood: ``F.cross_entropy(outputs, target)`` and ``nn.CrossEntropyLoss()`` take it as it
    is; for any other loss use ``cutmix.losses.mixed(loss_fn)``, ``target.dense(num_classes)`` or
    ``target.interpolate(loss_fn, outputs)``. Every other torch function raises a ValueError that says so: a comparison
    such as ``outputs.argmax(1) == target`` would be wrong in silence. It is a tuple: ``len(target)`` is 3, and
    ``len(target.kept)`` the number of samples.

    Attributes:
        own: class indices (batch,) of any integer dtype, or float rows (batch, classes).
        partner: the same of each sample's partner.
        kept: (batch,) float64 in [0, 1], always on the host.
    """

    own: Labels
    partner: Labels
    kept: Kept

    def dense(self, num_classes: int | None = None, dtype: torch.dtype | None = None) -> Rows:
        """Return the blended rows, (batch, num_classes): one-hot for indices, as they are for rows.

        Args:
            num_classes: how many classes there are; needed for indices, and checked for rows.
            dtype: of the result; else float32 for indices, and the rows' own dtype.

        Raises:
            ValueError: when ``num_classes`` is missing or is not what the rows have.
        """
        own, partner = (_rows(labels, num_classes, dtype) for labels in (self.own, self.partner))
        kept = self.kept.to(own, non_blocking=True).view(-1, *[1] * (own.ndim - 1))
        return kept * own + (1.0 - kept) * partner

    def interpolate(self, loss_fn: Callable[[Any, Any], Tensor], outputs: Any) -> Losses:  # noqa: ANN401 - the loss's
        """Return ``kept * loss_fn(outputs, own) + (1 - kept) * loss_fn(outputs, partner)``.

        Equals the loss on blended rows where the loss is linear in its target (cross entropy is).

        Raises:
            ValueError: when ``kept`` differs between samples and the loss has no value for each of them.
        """
        own, share = loss_fn(outputs, self.own), float(self.kept[0])
        shared = bool((self.kept == share).all())
        if shared and share == 1.0:
            return own
        kept = share if shared else self._a_sample_of(own)
        return kept * own + (1.0 - kept) * loss_fn(outputs, self.partner)

    def _a_sample_of(self, loss: Losses) -> Tensor:
        """Lay ``kept`` out so that it meets the loss of its sample."""
        if loss.ndim == 0 or len(loss) != len(self.kept):
            raise ValueError(
                f"loss_fn must return one value a sample where kept differs between samples, got shape "
                f"{tuple(loss.shape)} for a batch of {len(self.kept)}: pass it with reduction='none'"
            )
        return self.kept.to(loss, non_blocking=True).view(-1, *[1] * (loss.ndim - 1))

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "MixedTarget":
        """Move the labels; ``kept`` stays on the host, since some devices have no float64."""
        own, partner = (labels.to(device, non_blocking=non_blocking) for labels in (self.own, self.partner))
        return MixedTarget(own, partner, self.kept)

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
        # Not TypeError: Python would turn that into a silent False in ``outputs == target``.
        raise MixedTargetError(
            f"a MixedTarget is no tensor, got it in torch's {getattr(function, '__name__', function)}: use "
            "cutmix.losses.mixed(loss_fn), target.dense(num_classes) or target.interpolate(loss_fn, outputs), "
            "and cutmix.metrics.accuracy(outputs, target) for the accuracy"
        )


def _rows(labels: Labels, num_classes: int | None, dtype: torch.dtype | None) -> Rows:
    if not labels.is_floating_point():
        return _one_hot(labels, num_classes).to(dtype or torch.float32)
    if num_classes not in (None, *labels.shape[1:2]):
        raise ValueError(f"num_classes must be the length of the rows, {tuple(labels.shape[1:])}, got {num_classes}")
    return labels if dtype is None else labels.to(dtype)


def _one_hot(ids: Ids, num_classes: int | None) -> Tensor:
    if num_classes is None:
        raise ValueError(
            "num_classes must be given for class indices, got None: pass as many as the model has outputs, "
            "target.dense(outputs.shape[1])"
        )
    return F.one_hot(ids.long(), num_classes)


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
    if size_average is not None or reduce is not None:
        raise ValueError(
            f"size_average and reduce must be None with a MixedTarget, got {size_average} and {reduce}: torch has "
            "deprecated them, use reduction='mean', 'sum' or 'none'"
        )
    return mixed_cross_entropy(input, *target, Options(weight, ignore_index, reduction, label_smoothing))
