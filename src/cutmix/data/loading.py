"""One way in for every kind of data: ``load``."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import numpy as np
import torch

from cutmix.data.images import LabelledImages, Splits
from cutmix.data.openmoji import openmoji
from cutmix.data.reading import DamagedError, Encoded, read, size_of
from cutmix.data.sources import Source, check_filled, opened, shown
from cutmix.data.splitting import divide
from cutmix.keys import generator_for

SIDE = 64
"""The side that pictures of several sizes are brought to, in pixels."""
MOST_BYTES = 4 << 30
"""How much memory the images may take as bytes; as floats they take four times that."""


def load(
    data: str,
    eval_data: str | None = None,
    *,
    image_size: int | None = None,
    train_size: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> Splits:
    """Read ``data`` into memory: what to train on, what to test on, and notes on what was found.

    Args:
        data: a folder of class folders, or of split folders (``train`` beside ``val``, ``valid``, ``validation`` or
            ``test``); a parquet file in the Hugging Face layout, a folder of them, or a pattern; ``hf:owner/name``;
            or the built-in ``openmoji``.
        eval_data: what to test on, named in the same way; else the split that is there, else a fifth of ``data``.
        image_size: the side in pixels; else the pictures' own size where all agree (openmoji: 32), else 64.
        train_size: how many to train on; every class keeps its share.
        seed: decides what is held back and what ``train_size`` chooses.
        skip_bad: go on past damaged pictures, and name them in a note.

    Raises:
        ValueError: naming what is wrong with the data or with a setting, and the remedy, in one line.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be a side in pixels, at least 1, got {image_size}")
    notes: list[str] = []
    if data == "openmoji":
        train, test = built_in(eval_data, image_size, notes)
        train = train.chosen(part_of(train, train_size, seed, notes))
    else:
        listed, held_out = parted(data, eval_data, seed, notes)
        listed = listed.chosen(part_of(listed, train_size, seed, notes))
        size = chosen_size(chain(listed, held_out), image_size, notes)
        train, test = (decoded(source, size, notes, skip_bad=skip_bad) for source in (listed, held_out))
    return Splits(train, test, (*found(train, test), *notes))


def built_in(eval_data: str | None, image_size: int | None, notes: list[str]) -> tuple[LabelledImages, LabelledImages]:
    """Draw the built-in data, which brings its own part to test on."""
    if eval_data is not None:
        raise ValueError(f"eval_data must be left out with the built-in data openmoji, got {eval_data!r}")
    notes.append("The pictures are drawn from the OpenMoji font; half of each Unicode group is held back.")
    return openmoji(image_size)


def parted(data: str, eval_data: str | None, seed: int, notes: list[str]) -> tuple[Source, Source]:
    """Return what to train on and what to test on: from ``eval_data``, from a split that is there, else a fifth."""
    train, test = opened("data", data)
    if len(train.classes) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        raise ValueError(f"{train.origin} must hold two classes or more, got {shown(train.classes) or 'none'}")
    if eval_data is not None:
        whole, test = opened("eval_data", eval_data)
        test = whole if test is None else test
    if test is None:
        return fifth_held_back(train, seed, notes)
    notes.append(f"Tested on {test.origin}.")
    return train, with_classes_of(train, test)


def fifth_held_back(source: Source, seed: int, notes: list[str]) -> tuple[Source, Source]:
    """Divide ``source`` where it brings no part to test on."""
    counts = torch.bincount(source.labels).tolist()
    single = [name for name, count in zip(source.classes, counts, strict=True) if count == 1]
    if single:
        raise ValueError(
            f"{source.origin} must hold two pictures or more of each class, so that a fifth can be held back, got one "
            f"of {shown(single)}; add some, or pass eval_data (--eval-data)"
        )
    size = max(len(counts), len(source) // 5)
    test, train = divide(source.labels, size, generator_for(seed, 0, purpose="held back"), leave=1)
    notes.append(
        f"No split was found: a fifth of each class is held back to test on, drawn anew for each seed (here {seed})."
    )
    return source.chosen(train), source.chosen(test)


def with_classes_of(train: Source, test: Source) -> Source:
    """Return ``test`` with its classes numbered as in ``train``."""
    only_train = sorted(set(train.classes) - set(test.classes))
    only_test = sorted(set(test.classes) - set(train.classes))
    if only_train or only_test:
        differing = [
            f"only {where.origin} has {shown(names)}"
            for where, names in ((train, only_train), (test, only_test))
            if names
        ]
        raise ValueError(
            f"training and test data must have the same classes: {'; '.join(differing)}; rename or remove those"
        )
    number = torch.tensor([train.classes.index(name) for name in test.classes])
    return replace(test, classes=train.classes, labels=number[test.labels])


def part_of(images: Source | LabelledImages, size: int | None, seed: int, notes: list[str]) -> Sequence[int]:
    """Return which of ``images`` to train on: all, or ``size`` of them by the seed, each class by its share."""
    if size is None:
        return range(len(images))
    if not len(images.classes) <= size <= len(images):
        raise ValueError(
            f"train_size must lie between the number of classes ({len(images.classes)}) and that of the pictures to "
            f"train on ({len(images):,}), got {size:,}"
        )
    part, _ = divide(images.labels, size, generator_for(seed, 0, purpose="train size"))
    notes.append(
        f"Trained on {size:,} of {len(images):,} pictures, each class by its share, drawn anew for each seed "
        f"(here {seed})."
    )
    return part


def chosen_size(pictures: Iterable[Encoded], image_size: int | None, notes: list[str]) -> tuple[int, int]:
    """Return the height and width that all images get: as told, else the pictures' own where all agree, else 64."""
    sizes = sorted(sizes_of(pictures), key=math.prod)
    if image_size is None and len(sizes) == 1:
        return sizes[0]
    side = SIDE if image_size is None else image_size
    if sizes and sizes != [(side, side)]:
        own = " to ".join(f"{height}x{width}" for height, width in dict.fromkeys((sizes[0], sizes[-1])))
        told = ", since their sizes differ (--image-size sets another)" if image_size is None else ""
        notes.append(f"Pictures of {own} (height x width) are resized and cropped to {side}x{side}{told}.")
    return side, side


def sizes_of(pictures: Iterable[Encoded]) -> set[tuple[int, int]]:
    """Return the heights and widths that occur; what is damaged is found when it is read."""
    sizes = set()
    for picture in pictures:
        with suppress(DamagedError):
            sizes.add(size_of(picture))
    return sizes


def decoded(source: Source, size: tuple[int, int], notes: list[str], *, skip_bad: bool) -> LabelledImages:
    """Read all pictures of ``source`` into memory; a damaged one is an error, or is skipped and named in a note."""
    pixels = room_for(source, size)
    good, bad = [], []
    for place, picture in enumerate(source):
        try:
            pixels[len(good)] = read(picture, *size)
            good.append(place)
        except DamagedError as error:
            bad.append(source.whereabouts(place, picture))
            if not skip_bad:
                raise ValueError(
                    f"{bad[0]} cannot be read: {error}; mend or remove it, or skip damaged pictures (--skip-bad)"
                ) from error
    if bad:
        notes.append(f"{len(bad):,} damaged of {len(source):,} pictures skipped in {source.origin}: {shown(bad)}.")
    labels = source.labels[good]
    check_filled(source.origin, source.classes, labels)
    names = tuple(source.classes[label] for label in labels.tolist())
    return LabelledImages(torch.from_numpy(pixels[: len(good)]), labels, source.classes, names)


def room_for(source: Source, size: tuple[int, int]) -> np.ndarray:
    """Return memory for the images of ``source``."""
    height, width = size
    shape = (len(source), 3, height, width)
    if math.prod(shape) > MOST_BYTES:
        raise ValueError(
            f"image_size is missing: {len(source):,} images of {height}x{width} take {math.prod(shape) / 1e9:.0f} GB "
            f"of memory, and at most {MOST_BYTES / 1e9:.0f} are taken; choose a smaller size (--image-size)"
        )
    return np.empty(shape, dtype=np.uint8)


def found(train: LabelledImages, test: LabelledImages) -> list[str]:
    """Say in two sentences what there is."""
    height, width = train.size
    counts = torch.bincount(train.labels).tolist()
    each = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    return [
        f"{len(train.classes)} classes: {shown(train.classes)}.",
        f"{len(train):,} images to train on ({each} a class), {len(test):,} to test on, {height}x{width} pixels.",
    ]
