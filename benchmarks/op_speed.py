"""What mixing a batch costs, in multiples of copying it into existing memory, beside the other libraries.

Run ``make bench``, or ``python benchmarks/op_speed.py`` with what ``peers.txt`` names on the path; it writes
``benchmarks/results/op_speed.json``. With ``--quick`` it runs on a few samples and writes nothing.

"ours" is called as users call it, ``cutmix.functional.cutmix_batch(x, y, ...)``: the draw, the check of the arguments,
the images and the labels; "op alone" applies a plan that was drawn before. Boxes are random, so each figure is the mean
over many draws, against the median of ``out.copy_(x)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import Any, final

import torch
from torch import Tensor

from cutmix.algorithms import CutMix
from cutmix.backends import mix_images
from cutmix.functional import cutmix_batch
from peers import Peer, load
from recording import spread
from timing import Arm, Must, Pace, Times, judged, measure, ratios, report, seed_everything

PLANS = 64
BATCH_AND_CHANNELS = 2


@final
@dataclass(frozen=True, slots=True)
class Work:
    """One kind of batch, and what the arms on it may cost."""

    shape: tuple[int, ...]
    musts: tuple[Must, ...] = ()
    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    num_classes: int = 1000

    def __str__(self) -> str:
        name = f"{'x'.join(map(str, self.shape))} {str(self.dtype).removeprefix('torch.')}"
        return name + ", channels_last" * (self.memory_format is torch.channels_last)

    @property
    def axes(self) -> tuple[int, ...]:
        """Return the axes that are cut."""
        return tuple(range(BATCH_AND_CHANNELS, len(self.shape)))

    def shrunk(self, times: int) -> "Work":
        """Return the same work on fewer samples."""
        batch, *sample = self.shape
        return replace(self, shape=(batch // times, *sample))

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return images in memory of their own, and their class indices."""
        whole = not self.dtype.is_floating_point
        images = torch.randint(256, self.shape, dtype=self.dtype) if whole else torch.randn(self.shape).to(self.dtype)
        return images.contiguous(memory_format=self.memory_format), torch.arange(len(images)) % self.num_classes


LARGE = Work(
    (128, 3, 224, 224),
    (
        Must("ours, in place", "copy", 0.45),
        Must("ours, in place", "Composer", 0.1),
        Must("ours, fresh", "clone", 1.3),
        Must("ours, out=buffer", "copy", 1.4),
        Must("ours, per sample, in place", "ours, in place", 1.5, per_replaced=True),
    ),
)
SMALL = Work(
    (512, 3, 32, 32),
    (
        Must("ours, in place", "copy", 2.5),
        Must("ours, per sample, in place", "keras", 0.25),
        Must("ours, per sample, in place", "kornia", 0.1),
        Must("ours, per sample, in place", "timm, elem", 0.1),
    ),
    num_classes=10,
)
BYTES = Work((256, 3, 224, 224), (Must("ours, in place", "copy", 0.8),), torch.uint8)
PICTURES = Work((128, 3, 224, 224))
OTHERS = (
    replace(PICTURES, shape=(256, 3, 224, 224), dtype=torch.bfloat16),
    replace(PICTURES, memory_format=torch.channels_last),
    replace(PICTURES, shape=(128, 8, 18816)),
    replace(PICTURES, shape=(32, 3, 16, 112, 112)),
    replace(PICTURES, shape=(22, 1, 96, 96, 96)),
)
"""The same work in another type, layout or number of axes (signals, clips, volumes), with about as many bytes."""


def ours(work: Work, images: Tensor, ids: Tensor) -> dict[str, Arm]:
    """Return our ways to mix ``images``, after a check of their pixels."""
    axes = {} if work.axes == PICTURES.axes else {"spatial_dims": work.axes}
    ways = {
        "ours, in place": {"out": images},
        "ours, fresh": {},
        "ours, out=buffer": {"out": torch.empty_like(images)},
        "ours, per sample, in place": {"out": images, "per_sample": True},
        "ours, per sample, fresh": {"per_sample": True},
    }
    for way in ways.values():
        check_pixels(images, **axes, **way)
    return {name: partial(cutmix_batch, images, ids, **axes, **way) for name, way in ways.items()}


def check_pixels(images: Tensor, **settings: Any) -> None:  # noqa: ANN401 - what cutmix_batch takes
    """Check our pixels against the authors' rule, written as plain slices of each sample."""
    before = images.clone()
    seed_everything(0)
    mixed, partners, _, boxes = cutmix_batch(images, torch.arange(len(images)), **settings)
    expected = before.clone()
    for sample, edges in enumerate(torch.as_tensor(boxes).expand(len(images), -1).tolist()):
        axes = len(edges) // 2
        box = (..., *map(slice, edges[:axes], edges[axes:]))
        expected[sample][box] = before[partners[sample]][box]
    assert torch.equal(mixed, expected), f"wrong pixels: {tuple(images.shape)} {images.dtype}, {[*settings]}"


def op_alone(images: Tensor) -> dict[str, Arm]:
    """Return the op without the draw, the checks and the labels."""

    def pasting(recipe: CutMix) -> Arm:
        plans = cycle([recipe.draw(images.shape) for _ in range(PLANS)])
        return lambda: mix_images(images, next(plans), out=images)

    return {
        "op alone, in place": pasting(CutMix()),
        "op alone, per sample, in place": pasting(CutMix(per_sample=True)),
    }


def theirs(work: Work, images: Tensor, ids: Tensor, usable: Mapping[str, Peer]) -> dict[str, Arm]:
    """Return the peers' ways to mix ``images``; integers only where one box serves the batch."""
    return {
        name: peer.make(images, ids, work.num_classes)
        for name, peer in usable.items()
        if work.dtype.is_floating_point or not peer.per_sample
    }


def against_peers(work: Work, usable: Mapping[str, Peer], pace: Pace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Time all ways to mix one batch; return the figures and what they say of the musts."""
    images, ids = work.batch()
    buffer = torch.empty_like(images)
    arms = {"copy": partial(buffer.copy_, images), "clone": images.clone, **ours(work, images, ids)}
    times = measure({**arms, **op_alone(images), **theirs(work, images, ids, usable)}, pace)
    figures = {
        "work": str(work),
        "copy_milliseconds": spread([1e3 * seconds for seconds in times["copy"].seconds], digits=4),
        "in_copies": {
            name: {"draws": taken.draws * pace.trials, **ratios(taken, times["copy"])} for name, taken in times.items()
        },
    }
    return figures, judged(str(work), times, work.musts)


def across_shapes(shrink: int, pace: Pace) -> list[dict[str, Any]]:
    """Time our in-place op on other types and shapes, against float32 pictures, for as many replaced bytes."""
    works = {str(work): work for work in (PICTURES, *OTHERS)}
    times = measure(
        {name: ours(work, *work.shrunk(shrink).batch())["ours, in place"] for name, work in works.items()}, pace
    )
    return judged(
        "in place, a replaced byte",
        {name: in_bytes(taken, works[name]) for name, taken in times.items()},
        tuple(Must(str(work), str(PICTURES), 1.3, per_replaced=True) for work in OTHERS),
    )


def in_bytes(times: Times, work: Work) -> Times:
    """Return the times with what was replaced in bytes."""
    size = torch.Size(work.shape).numel() * work.dtype.itemsize
    return replace(times, replaced=[share * size for share in times.replaced])


def measured(pace: Pace) -> dict[str, Any]:
    """Return all figures, and what they say of the musts."""
    usable, described = load()
    shrink = 8 if pace.quick else 1
    figures, musts = zip(
        *(against_peers(work.shrunk(shrink), usable, pace) for work in (LARGE, SMALL, BYTES)), strict=True
    )
    return {
        "what": "time to mix a batch, in multiples of out.copy_(x)",
        "threads": torch.get_num_threads(),
        "peers": described,
        "works": figures,
        "musts": [*(must for some in musts for must in some), *across_shapes(shrink, pace)],
    }


if __name__ == "__main__":
    report("op_speed", measured)
