"""What mixing costs on a GPU: beside a copy, torch's own operations, other libraries, and a step of a ResNet-50.

Run ``python benchmarks/triton_gpu.py``, with what ``peers.txt`` names on the path for the other libraries; it writes
``benchmarks/results/triton_gpu.json``. Where there is no GPU it says so. With ``--quick`` a few trials are run and
nothing is written.

Times are the device's, between two events; the stream is kept busy first, so that the host is ahead and what it takes
to launch is not among them (unless a call waits for the device: then it is). Boxes are random, so each figure is the
mean over many draws, against the median of ``out.copy_(x)``. All arms take turns in each trial.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle
from statistics import fmean, median
from time import perf_counter
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutmix.algorithms import CutMix, MixUp
from cutmix.algorithms.mixer import Mixer
from cutmix.backends import mix_images, mix_normalize
from cutmix.functional import cutmix_batch
from cutmix.models import normed
from cutmix.plans import Plan
from peers import Peer, load
from recording import record, spread

Arm: TypeAlias = Callable[[], Any]

PLANS, DRAWS, CLASSES = 64, 16, 1000
A_WHILE = 12_000_000
"""Cycles, about six milliseconds: longer than the host takes to launch the slowest call."""

WORKS = {
    "128x3x224x224 float32": ((128, 3, 224, 224), torch.float32, torch.contiguous_format),
    "128x3x224x224 bfloat16, channels_last": ((128, 3, 224, 224), torch.bfloat16, torch.channels_last),
    "256x3x224x224 uint8": ((256, 3, 224, 224), torch.uint8, torch.contiguous_format),
    "512x3x32x32 float32": ((512, 3, 32, 32), torch.float32, torch.contiguous_format),
}
STEP = "128x3x224x224 bfloat16, channels_last"
SHARE_OF_A_STEP = 0.5
PEERS = ("Composer", "timm", "torchvision")
OURS = "cutmix_batch, in place"
CALLS_IN_A_ROW = 100


class Bottleneck(nn.Module):
    """The block of a ResNet-50: 1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *normed(nn.Conv2d(width_in, width, 1, bias=False)),
            nn.ReLU(inplace=True),
            *normed(nn.Conv2d(width, width, 3, stride, padding=1, bias=False)),
            nn.ReLU(inplace=True),
            *normed(nn.Conv2d(width, 4 * width, 1, bias=False)),
        )
        unchanged = width_in == 4 * width and stride == 1
        shortcut = nn.Conv2d(width_in, 4 * width, 1, stride, bias=False)
        self.shortcut = nn.Identity() if unchanged else nn.Sequential(*normed(shortcut))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.body(maps) + self.shortcut(maps))


def resnet50() -> nn.Module:
    """Return a ResNet-50 for ``CLASSES`` classes."""
    layers = [*normed(nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    width_in = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(width_in, width, 1 if block else stride))
            width_in = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, CLASSES))


def training_step(images: Tensor, ids: Tensor) -> Arm:
    """Return a call that trains a ResNet-50 for one step, in bfloat16."""
    network = resnet50().cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(network(images), ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def milliseconds(arm: Arm) -> float:
    """Return what the device takes for one call."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(A_WHILE)  # noqa: SLF001 - torch's own benchmarks have no other
    start.record()
    arm()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


def measure(arms: Mapping[str, Arm], trials: int) -> dict[str, list[float]]:
    """Time every arm in each trial, after calls that compile."""
    for arm in arms.values():
        for _ in range(3):
            arm()
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(trials):
        for name, arm in arms.items():
            times[name].append(fmean(milliseconds(arm) for _ in range(DRAWS)))
    return times


def by_plans(mix: Callable[[Plan], Any], plans: list[Plan]) -> Arm:
    """Return a call that mixes by another plan each time."""
    following = cycle(plans)
    return lambda: mix(next(following))


def batch_of(name: str) -> tuple[Tensor, Tensor]:
    """Return images on the GPU, and their class indices."""
    shape, dtype, memory_format = WORKS[name]
    images = torch.randint(256, shape, device="cuda").to(dtype).contiguous(memory_format=memory_format)
    return images, torch.arange(len(images), device="cuda") % CLASSES


def drawn(images: Tensor, recipe: Mixer) -> list[Plan]:
    """Return plans for these images, always the same."""
    generator = torch.Generator().manual_seed(0)
    return [recipe.draw(images.shape, generator=generator) for _ in range(PLANS)]


def arms_on(name: str, peers: Mapping[str, Peer]) -> dict[str, Arm]:
    """Return what is timed on one batch."""
    images, ids = batch_of(name)
    out = torch.empty_like(images)
    arms: dict[str, Arm] = {"copy": partial(out.copy_, images), "clone": images.clone}
    recipes: dict[str, Mixer] = {"one box": CutMix(), "per sample": CutMix(per_sample=True)}
    if images.is_floating_point():
        recipes["MixUp"] = MixUp()
    for what, recipe in recipes.items():
        plans = drawn(images, recipe)
        check(images, plans[0])
        for backend in ("triton", "eager"):
            for place, target in (("in place", images), ("out=", out)):
                mix = partial(mix_images, images, out=target, backend=backend)
                arms[f"{backend}, {what}, {place}"] = by_plans(mix, plans)
    arms[OURS] = partial(cutmix_batch, images, ids, out=images)
    arms["cutmix_batch, fresh"] = partial(cutmix_batch, images, ids)
    if images.is_floating_point():
        arms |= {peer: peers[peer].make(images, ids, CLASSES) for peer in PEERS if peer in peers}
    return arms


def check(images: Tensor, plan: Plan) -> None:
    """Check that the kernel gives the bytes of the reference.

    Raises:
        ValueError: when it does not.
    """
    expected = mix_images(images.cpu(), plan, backend="reference")
    in_place = images.clone()
    mix_images(in_place, plan, out=in_place, backend="triton")
    for mixed in (mix_images(images, plan, backend="triton"), in_place):
        if not torch.equal(mixed.cpu(), expected):
            raise ValueError(f"the kernel's pixels are not the reference's, for {tuple(images.shape)} {images.dtype}")


def input_stage_arms() -> dict[str, Arm]:
    """Return the ways from bytes to a mixed bfloat16 batch."""
    images, _ = batch_of("256x3x224x224 uint8")
    plans = drawn(images, CutMix())
    mean, std = torch.full((3,), 0.45, device="cuda"), torch.full((3,), 0.22, device="cuda")
    out = torch.empty_like(images, dtype=torch.bfloat16, memory_format=torch.channels_last)
    arms: dict[str, Arm] = {"copy": partial(out.copy_, images)}
    for backend in ("triton", "eager"):
        mix = partial(mix_normalize, images, mean=mean, std=std, out=out, backend=backend)
        arms[backend] = by_plans(mix, plans)
    return arms


def over(times: Mapping[str, list[float]], unit: str = "copy") -> dict[str, Any]:
    """Return each arm's milliseconds, and what it takes in multiples of the median of ``unit``."""
    return {
        name: {
            "milliseconds": spread(taken, digits=4),
            f"over_{unit}": spread([one / median(times[unit]) for one in taken], digits=3),
        }
        for name, taken in times.items()
    }


def microseconds_of_the_host(arm: Arm) -> float:
    """Return what the host takes for one call, the median of many in a row: the device is not waited for."""
    torch.cuda.synchronize()
    taken = []
    for _ in range(CALLS_IN_A_ROW):
        start = perf_counter()
        arm()
        taken.append(1e6 * (perf_counter() - start))
    torch.cuda.synchronize()
    return round(median(taken), 1)


def beside_peers(work: str, times: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Return what our whole call takes on the device in multiples of what each peer's takes, trial by trial."""
    rows = []
    for peer in PEERS:
        if peer in times:
            figures = spread([own / other for own, other in zip(times[OURS], times[peer], strict=True)], digits=3)
            rows.append({"work": work, "arm": OURS, "over": peer, **figures, "must": 1.0})
    return [{**row, "holds": row["median"] <= row["must"]} for row in rows]


def share_of_a_step(trials: int) -> dict[str, Any]:
    """Return what part of a training step mixing takes on the device, in percent."""
    images, ids = batch_of(STEP)
    mix = by_plans(partial(mix_images, images, out=images, backend="triton"), drawn(images, CutMix()))
    times = measure({"step": training_step(images, ids), "mix": mix}, trials)
    shares = [100.0 * mixing / step for mixing, step in zip(times["mix"], times["step"], strict=True)]
    figures = spread(shares, digits=3)
    return {
        "what": f"percent of a ResNet-50 step on {STEP}",
        "step_milliseconds": spread(times["step"]),
        **figures,
        "must": SHARE_OF_A_STEP,
        "holds": figures["median"] <= SHARE_OF_A_STEP,
    }


def measured(trials: int) -> dict[str, Any]:
    """Return all figures."""
    works, musts = {}, []
    peers, described = load()
    for name in WORKS:
        arms = arms_on(name, peers)
        times = measure(arms, trials)
        musts += beside_peers(name, times)
        works[name] = over(times)
        for arm, call in arms.items():
            works[name][arm]["host_microseconds"] = microseconds_of_the_host(call)
    return {
        "what": "what mixing takes on the device, and in multiples of a copy into existing memory",
        "device": torch.cuda.get_device_name(),
        "triton": __import__("triton").__version__,
        "trials": trials,
        "draws_per_trial": DRAWS,
        "peers": {name: described[name] for name in PEERS},
        "works": works,
        "musts": musts,
        "input_stage": over(measure(input_stage_arms(), trials)),
        "share_of_a_step": share_of_a_step(trials),
    }


def main() -> None:
    """Measure, print and write down, where there is a GPU."""
    if not torch.cuda.is_available():
        print("there is no GPU here that torch can use: nothing was measured")
        return
    quick = "--quick" in sys.argv
    result = measured(3 if quick else 15)
    if quick:
        print(result)
    else:
        record("triton_gpu", result)


if __name__ == "__main__":
    main()
