"""Everything to repeat a run, as ``config.json`` holds it."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import version
from math import ceil
from typing import Any

import torch

from cutmix.core.time import Time
from cutmix.data.feed import Standardise
from cutmix.data.images import LabelledImages, Splits
from cutmix.runs.folder import RunFolder, read_json
from cutmix.runs.settings import Settings, Task


def config_of(settings: Settings, splits: Splits, processes: int = 1) -> dict[str, Any]:
    """Return everything to repeat a run: equal for two runs that come to the same."""
    train, test = splits.train, splits.test
    height, width = train.size
    return {
        "settings": {**asdict(settings), "algorithms": list(settings.algorithms)},
        "algorithms": [repr(recipe) for recipe in settings.recipes],
        "processes": processes,
        "steps": steps_of(settings.task, len(train), processes),
        "data": {
            "train_images": len(train),
            "test_images": len(test),
            "height": height,
            "width": width,
            "classes": list(train.classes),
            "standardise": {name: list(values) for name, values in asdict(Standardise.fitted(train.pixels)).items()},
            "fingerprint": fingerprint(train, test),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "cutmix": version("cutmix")},
    }


def steps_of(task: Task, images: int, processes: int = 1) -> int:
    """Return how many steps a task takes when it trains on so many images, a batch a step in each process."""
    steps, duration = ceil(ceil(images / task.batch_size) / processes), Time.parse(task.max_duration)
    match duration.unit:
        case "ep":
            return duration.value * steps
        case "ba":
            return duration.value
        case "sp":
            epochs, rest = divmod(duration.value, images)
            return epochs * steps + ceil(rest / (task.batch_size * processes))


def fingerprint(*parts: LabelledImages) -> str:
    """Return what tells these images and labels from any others."""
    digest = blake2b(digest_size=16)
    for images in parts:
        for tensor in (images.pixels, images.labels):
            digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def check_same(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Refuse a folder whose run was made from something else.

    Raises:
        ValueError: naming the folder and what differs.
    """
    there = read_json(folder.config)
    others = [name for name, value in config.items() if there.get(name) != value]
    if others:
        raise ValueError(
            f"save folder {folder.path} holds a run that differs in its {', '.join(others)}; name another folder, or "
            "remove this one"
        )
