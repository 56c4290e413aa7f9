"""Who is paired with whom, by what is known of the batch: its length, its labels, another batch."""

import torch
from torch import Tensor

from cutmix.boxes import are_whole
from cutmix.draws import Pairing, draw_from, draw_ring, draw_ring_in_each_class, draw_shuffle
from cutmix.shapes import Classes, Labels, Partners
from cutmix.tensors import holds_whole_numbers
from cutmix.trees import named

ROUNDING = 0.01
"""How far from 1 a row of shares in half precision may sum."""


def draw_pairs(
    batch: int, pairing: Pairing, labels: Labels | None, source: int | None, generator: torch.Generator | None
) -> Partners:
    """Draw each sample's partner: in another batch of ``source`` samples where there is one, else by ``pairing``.

    Raises:
        TypeError: when the labels are no tensor.
        ValueError: when the labels that a pairing needs are not given or are no classes, or the source is empty.
    """
    if source is not None:
        _check_source(source, pairing)
        return draw_from(source, batch, generator)
    if pairing == "same_class":
        return draw_ring_in_each_class(_classes(labels, batch), generator)
    return draw_ring(batch, generator) if pairing == "ring" else draw_shuffle(batch, generator)


def labels_in(targets: object) -> Tensor:
    """Return the labels by which samples are paired: the targets themselves, or the one tensor of class ids in them.

    Raises:
        ValueError: when there is no such tensor, or more than one.
    """
    if isinstance(targets, Tensor):
        return targets
    leaves = named(targets, "targets")
    ids = [path for path, leaf in leaves.items() if leaf.ndim == 1 and holds_whole_numbers(leaf)]
    if len(ids) == 1:
        return leaves[ids[0]]
    raise ValueError(
        f"targets must hold one tensor of class ids (batch,) to be paired by it, got {' and '.join(ids) or 'none'} of "
        f"{', '.join(leaves)}: say by which to pair, mix(images, targets, recipe.draw(images.shape, labels=ids))"
    )


def _check_source(source: int, pairing: Pairing) -> None:
    if pairing == "same_class":
        raise ValueError(
            "pairing must not be 'same_class' with source=, whose partners are drawn whatever their class, "
            "got 'same_class': leave one of the two out"
        )
    if not are_whole((source,)) or source < 1:
        raise ValueError(
            f"source must hold at least one sample, got {source!r}: pass how many, partners are drawn from it"
        )


def _classes(labels: Labels | None, batch: int) -> Classes:
    """Return the class of each sample on the host, by one copy from where the labels are."""
    if not isinstance(labels, Tensor):
        raise TypeError(
            f"labels must be a torch.Tensor for pairing='same_class', got {type(labels).__name__}: "
            "draw(images.shape, labels=target)"
        )
    by_rows = labels.ndim == 2 and labels.is_floating_point()  # noqa: PLR2004 - (batch, classes)
    ids = _largest(labels) if by_rows else labels
    if tuple(ids.shape) != (batch,) or not holds_whole_numbers(ids):
        raise ValueError(
            f"labels must be class ids ({batch},) or rows of shares ({batch}, classes) for pairing='same_class', "
            f"got {labels.dtype} of shape {tuple(labels.shape)}: pass draw(images.shape, labels=ids)"
        )
    classes = ids.cpu().long()
    if by_rows and not torch.compiler.is_compiling() and (classes < 0).any():
        row = int((classes < 0).nonzero()[0])
        raise ValueError(
            f"labels must be rows of shares that sum to 1 for pairing='same_class', got row {row} that does not: "
            "multi-label and regression rows have no one class, pass class ids as draw(images.shape, labels=ids)"
        )
    return classes


def _largest(rows: Labels) -> Labels:
    """Return where each row of shares is largest, -1 for what is no such row."""
    are_shares = (rows >= 0).all(1) & ((rows.sum(1) - 1.0).abs() <= ROUNDING)
    return torch.where(are_shares, rows.argmax(1), -1)
