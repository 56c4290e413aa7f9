"""A run is a function: from settings to a run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import torch
from safetensors.torch import save_model
from torch import nn
from torch.optim import SGD

from cutmix import models
from cutmix.algorithms.mixer import Mixer
from cutmix.data.augment import Augment
from cutmix.data.feed import Standardise, loader
from cutmix.data.images import LabelledImages, Splits
from cutmix.data.loading import load
from cutmix.keys import fold, generator_for
from cutmix.pictures import mixed_images
from cutmix.runs.config import check_same, config_of
from cutmix.runs.folder import RunFolder
from cutmix.runs.settings import Settings, Task
from cutmix.trainer.callbacks.finite import NonFiniteLossError
from cutmix.trainer.checkpoints.saving import Interval
from cutmix.trainer.optim import CosineWithWarmup
from cutmix.trainer.processes import full, join
from cutmix.trainer.runtime import device_for
from cutmix.trainer.trainer import Trainer

Way: TypeAlias = Literal["ddp", "fsdp"]
PICTURED = 8
KEPT_CHECKPOINTS = 2
"""The newest, and one that is left when that is damaged."""


@final
@dataclass(frozen=True, slots=True)
class Saving:
    """How a run is secured against being stopped."""

    interval: str | None = None
    """How often to write a checkpoint; None for never."""
    autoresume: bool = False
    """Whether to go on with what the folder holds of this run."""

    def __post_init__(self) -> None:
        if self.interval is not None:
            Interval.parse(self.interval)

    def check(self, folder: RunFolder) -> None:
        """Refuse a folder that this run cannot be written to.

        Raises:
            ValueError: when it holds something, unless it is a run to go on with.
        """
        if not (self.autoresume and folder.config.exists()):
            folder.check_free()


def train(settings: Settings, folder: Path, saving: Saving = Saving(), *, progress_bar: bool = True) -> None:
    """Train once, and write down in ``folder`` all that came of it.

    Raises:
        ValueError: when the settings, the data or the folder are bad; nothing is written then.
        NonFiniteLossError: when the loss does not stay finite; the figures are written, the weights are not.
    """
    saving.check(RunFolder(folder))
    prepare(settings).run(RunFolder(folder), saving, progress_bar=progress_bar)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A run that can start: its settings are checked, its data in memory, its network is built."""

    settings: Settings
    splits: Splits
    model: nn.Module

    def run(
        self, folder: RunFolder, saving: Saving = Saving(), parallelism: Way = "ddp", *, progress_bar: bool
    ) -> None:
        """Train ``model``, and write down what came of it: rank 0 does, where several processes train together.

        Raises:
            ValueError: when the folder holds another run.
            NonFiniteLossError: when the loss does not stay finite; the figures are written, the weights are not.
        """
        world = join()
        folder = world.broadcast(folder)
        world.led(lambda: self._claim(folder))
        with self._trainer(folder, saving, parallelism, progress_bar=progress_bar) as trainer:
            trainer.fit()
        network = self._put_together() if parallelism == "fsdp" and world.size > 1 else self.model
        if world.rank == 0:
            check_converged(folder)
            self._keep(folder, network)

    def check_same(self, folder: RunFolder) -> None:
        """Refuse a folder that holds another run.

        Raises:
            ValueError: naming what differs.
        """
        if folder.config.exists():
            check_same(folder, self._config)

    @property
    def _config(self) -> dict[str, Any]:
        return config_of(self.settings, self.splits, join().size)

    def _claim(self, folder: RunFolder) -> None:
        """Write into ``folder`` whose it is; refuse another run's."""
        self.check_same(folder)
        if not folder.config.exists():
            machine = {"device": str(device_for(None)), "threads": torch.get_num_threads()}
            folder.create({**self._config, "machine": machine})

    def _put_together(self) -> nn.Module:
        """Return a network with the weights of the one that is sharded."""
        network = build(self.settings.task.model, self.splits.train, self.settings.seed)
        network.load_state_dict({name: full(tensor) for name, tensor in self.model.state_dict().items()})
        return network

    def _keep(self, folder: RunFolder, network: nn.Module) -> None:
        """Write the weights, and a picture where images were mixed."""
        save_model(network, str(folder.weights))
        for recipe in self.settings.recipes:
            if isinstance(recipe, Mixer):
                draw_picture(recipe, self.splits.train, self.settings.seed, folder.picture)

    def _trainer(self, folder: RunFolder, saving: Saving, parallelism: Way, *, progress_bar: bool) -> Trainer:
        task, train, test = self.settings.task, self.splits.train, self.splits.test
        standardise = Standardise.fitted(train.pixels)
        augmentation = [Augment(flip=task.flip)] if task.augment else []
        optimizer = SGD(
            self.model.parameters(), task.lr, task.momentum, weight_decay=task.weight_decay, nesterov=task.momentum > 0
        )
        return Trainer(
            self.model,
            loader(standardise.of(train.pixels), train.labels, task.batch_size, shuffle=True),
            loader(standardise.of(test.pixels), test.labels, 8 * task.batch_size),
            task.max_duration,
            [*augmentation, *self.settings.recipes],
            optimizers=optimizer,
            schedulers=CosineWithWarmup(),
            seed=self.settings.seed,
            parallelism=parallelism,
            progress_bar=progress_bar,
            save_folder=folder.path,
            save_interval=saving.interval,
            save_num_checkpoints_to_keep=KEPT_CHECKPOINTS,
            autoresume=saving.autoresume,
        )


def prepare(settings: Settings) -> Job:
    """Read the data, build the network and try it on two images.

    Raises:
        ValueError: when the data or the model are bad, or do not fit each other.
    """
    splits = load_for(settings.task, settings.seed)
    return Job(settings, splits, build(settings.task.model, splits.train, settings.seed))


def load_for(task: Task, seed: int) -> Splits:
    """Read the data of a task; the seed draws what is held back and what is left out."""
    return load(
        task.data,
        task.eval_data,
        image_size=task.image_size,
        train_size=task.train_size,
        seed=seed,
        skip_bad=task.skip_bad,
    )


def build(model: str, images: LabelledImages, seed: int) -> nn.Module:
    """Build a network that fits ``images``; its initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fold(seed, "weights"))
        network = models.build(model, len(images.classes))
        models.check_fit(model, network, images.pixels[:2] / 255, len(images.classes))  # which may draw lazy weights
        return network


def check_converged(folder: RunFolder) -> None:
    """Refuse to go on from weights that are worth nothing, finite as they are.

    Raises:
        NonFiniteLossError: when the last evaluation's loss is not finite.
    """
    last = folder.last_evaluation
    if last["eval/loss"] is None:
        raise NonFiniteLossError(
            f"the loss must stay finite, got nan or infinity in the evaluation after step {last['step']}; lower the "
            "learning rate"
        )


def draw_picture(recipe: Mixer, images: LabelledImages, seed: int, path: Path) -> None:
    """Draw a few images as the recipe mixes them: of its first plans the one that mixes most evenly."""
    chosen = torch.randperm(len(images), generator=generator_for(seed, 0, purpose="picture"))[:PICTURED]
    few = images.chosen(chosen.tolist())
    plans = [recipe.draw(few.pixels.shape, generator=generator_for(seed, step)) for step in range(PICTURED)]
    plan = min(plans, key=lambda plan: abs(plan.kept[0] - 0.5))
    classes = [few.classes[label] for label in few.labels.tolist()]
    captions = [", ".join(dict.fromkeys(words)) for words in zip(few.names, classes, strict=True)]
    mixed_images(few.pixels, captions, plan, path, attribution=images.attribution)
