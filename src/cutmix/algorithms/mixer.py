"""What all mixing algorithms share: how they are called, and what they do in the Trainer."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, final, overload

import torch
from torch import Tensor
from torch.utils.data import default_collate

from cutmix.algorithms.pairing import labels_in
from cutmix.core.algorithm import Algorithm
from cutmix.core.batch import Key, get_item, set_item
from cutmix.core.event import Event
from cutmix.core.logger import Logger
from cutmix.core.state import State
from cutmix.core.time import Moment, Time
from cutmix.draws import check_generator
from cutmix.keys import generator_for
from cutmix.losses import mixed
from cutmix.mixing import check_targets, mix_checked, samples_in
from cutmix.plans import Plan
from cutmix.shapes import Images, Labels
from cutmix.targets import MixedTarget
from cutmix.trees import Tree, named


class Mixer(Algorithm):
    """How to mix a batch: settings only; the chance is in ``draw``.

    Call it in a plain loop, ``images, target = mix(images, target)`` or ``batch = mix(batch)``; hand it to
    ``Trainer(algorithms=[mix])``; or to a loader, ``DataLoader(collate_fn=mix.collate())``.
    """

    __slots__ = ()

    interpolate_loss: bool
    input_key: Key | None
    target_key: Key | None

    @abstractmethod
    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return which axes of a batch of this shape are cut, counted from the front."""

    @final
    def draw(
        self,
        shape: Sequence[int],
        *,
        generator: torch.Generator | None = None,
        labels: Labels | None = None,
        source: int | None = None,
    ) -> Plan:
        """Draw the plan for one batch of this shape, on the host.

        Args:
            shape: of the whole batch, as ``images.shape``.
            generator: a CPU generator; else torch's default one. It is advanced, never seeded.
            labels: class ids (batch,), or rows of shares (batch, classes) of which the largest counts: for
                ``pairing="same_class"``, else not looked at. From a device they are copied to the host once, which
                waits for them.
            source: the length of another batch that the partners come from, whatever the pairing: nobody twice before
                everybody has been drawn once. ``plan.partners`` then are positions in that batch.

        Raises:
            TypeError: when the generator is none.
            ValueError: when the shape needs ``spatial_dims``, the pairing labels or the settings a time, or the
                generator lives on another device.
        """
        self._check_settled()
        check_generator(generator)
        return self.draw_plan(shape, generator, labels, source)

    @abstractmethod
    def draw_plan(
        self, shape: Sequence[int], generator: torch.Generator | None, labels: Labels | None, source: int | None
    ) -> Plan:
        """Draw the plan, by settings that are numbers; else as ``draw``."""

    @property
    @abstractmethod
    def needs_labels(self) -> bool:
        """Tell whether who is paired depends on the labels."""

    @property
    @abstractmethod
    def is_scheduled(self) -> bool:
        """Tell whether any setting follows the clock, so that a draw needs a time."""

    @abstractmethod
    def settled(self, moment: Moment) -> Self:
        """Return the recipe of one moment, whose settings are numbers."""

    @abstractmethod
    def without_mixing(self) -> Self:
        """Return a recipe with the same keys that mixes nothing."""

    def _check_settled(self) -> None:
        if self.is_scheduled:
            raise ValueError(
                f"a recipe must come with a time to draw by, got {self}: mix.at(epoch, of=epochs)(images, targets)"
            )

    @final
    def at(self, time: float | str | Moment, *, of: str | int | Time | None = None) -> Self:
        """Return the recipe of one moment, whose settings are numbers: itself where none of them follows the clock.

        In a plain loop ``mix.at(epoch / epochs)(images, targets)``; in the Trainer leave it to the Trainer.

        Args:
            time: what is over of the run: a share, from 0 to 1; or with ``of`` a time in the same unit.
            of: how long the run is: ``'300ep'``, ``'9000ba'``, or a whole number of epochs.

        Raises:
            ValueError: when the time lies outside the run, or too little is known for what follows it.
        """
        moment = Moment.parse(time, of)
        return self.settled(moment) if self.is_scheduled else self

    @overload
    def __call__(
        self,
        images: Images,
        targets: Labels,
        /,
        *,
        source: tuple[Images, Labels] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Images, MixedTarget | Tensor]: ...

    @overload
    def __call__(
        self,
        images: Tree,
        targets: Tree,
        /,
        *,
        source: tuple[Tree, Tree] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Any, Any]: ...

    @overload
    def __call__(self, batch: Any, /, *, source: Any = None, generator: torch.Generator | None = None) -> Any: ...  # noqa: ANN401 - any batch

    def __call__(self, *batch: Any, source: Any = None, generator: torch.Generator | None = None) -> Any:
        """Mix a batch, out of place: ``images, target`` as two arguments, or one batch that holds them at its keys.

        Args:
            batch: the images and their targets, tensors or trees of them; or one tuple, list, dict, named tuple or
                dataclass, which is returned anew with the images and the targets replaced.
            source: another batch, of any length, that the partners come from: (images, targets), or one that holds
                them as ``batch`` does.
            generator: a CPU generator to draw from; else torch's default one. See ``cutmix.keys.generator_for``.

        Raises:
            TypeError: when the batch is neither, or holds no tensors.
            ValueError: when a shape does not fit.
        """
        match batch:
            case (images, targets):
                return self._mixed(images, targets, source, generator)
            case (whole,) if not isinstance(whole, Tensor):
                keys = self._keys(0, 1)
                images, targets = (get_item(whole, key) for key in keys)
                partners = None if source is None else tuple(get_item(source, key) for key in keys)
                mixed = self._mixed(images, targets, partners, generator)
                return set_item(set_item(whole, keys[0], mixed[0]), keys[1], mixed[1])
        raise TypeError(
            f"a mixer takes images and targets, or one batch that holds both, got {len(batch)} argument(s) of type "
            f"{[type(argument).__name__ for argument in batch]}: call mix(images, targets) or mix(batch)"
        )

    def collate(self, collate_fn: Callable[[list[Any]], Any] = default_collate) -> "Collate":
        """Return a function for ``DataLoader(collate_fn=...)`` that mixes each batch where it is put together.

        It draws from the worker's default generator, which torch seeds from the loader's: in a loop on several ranks
        give each rank's loader a ``generator=`` of its own, or all ranks draw the same boxes.

        Raises:
            ValueError: when a setting follows the clock.
        """
        if self.is_scheduled:
            raise ValueError(
                f"collate must come from a recipe whose settings are numbers, got {self}: workers do not see the "
                "clock; mix in the loop, mix.at(epoch, of=epochs)(images, targets)"
            )
        return Collate(self, collate_fn)

    events = (Event.FIT_START, Event.AFTER_DATALOADER)

    def apply(self, event: Event, state: State, logger: Logger) -> None:  # noqa: ARG002 - the interface
        if event == Event.FIT_START:
            _check_alone(state)
            if not getattr(state.loss_fn, "takes_mixed_targets", False):
                state.loss_fn = mixed(state.loss_fn, interpolate=self.interpolate_loss)
        elif event == Event.AFTER_DATALOADER:
            self._mix_batch(state)

    def _mix_batch(self, state: State) -> None:
        input_key, target_key = self._keys(state.input_key, state.target_key)
        images, targets = get_item(state.batch, input_key), get_item(state.batch, target_key)
        generator = generator_for(state.seed, state.timestamp.batch, state.plan_rank)
        recipe = self.settled(state.moment) if self.is_scheduled else self
        state.plan = recipe._plan_for(images, targets, None, generator)  # noqa: SLF001
        out = images if state.owns_batch else None
        mixed_images, targets = recipe._applied(state.plan, images, targets, out=out)  # noqa: SLF001
        if mixed_images is not images:
            state.batch_set_item(input_key, mixed_images)
        state.batch_set_item(target_key, targets)

    def _mixed(
        self, images: Tree, targets: Tree, source: tuple[Tree, Tree] | None, generator: torch.Generator | None
    ) -> tuple[Any, Any]:
        return self._applied(self._plan_for(images, targets, source, generator), images, targets, source=source)

    def _plan_for(
        self, images: Tree, targets: Tree, source: tuple[Tree, Tree] | None, generator: torch.Generator | None
    ) -> Plan:
        check_targets(targets, images)
        labels = labels_in(targets) if self.needs_labels else None
        return self.draw(_shape(images), generator=generator, labels=labels, source=samples_in(source))

    def _applied(
        self, plan: Plan, images: Tree, targets: Tree, *, source: tuple[Tree, Tree] | None = None, out: Tree = None
    ) -> tuple[Any, Any]:
        shape = _shape(images)
        axes = self.axes(shape)
        # Images that lie beside the first one may have another rank: the last axes are the last ones of each.
        spatial_dims = None if axes == tuple(range(len(shape)))[-len(axes) :] else axes
        return mix_checked(images, targets, plan, source=source, out=out, spatial_dims=spatial_dims)

    def _keys(self, input_key: Key, target_key: Key) -> tuple[Key, Key]:
        return (
            input_key if self.input_key is None else self.input_key,
            target_key if self.target_key is None else self.target_key,
        )


@final
@dataclass(frozen=True, slots=True)
class Collate:
    """Puts samples together as ``collate_fn`` does, then mixes the batch; picklable for spawned workers."""

    mixer: Mixer
    collate_fn: Callable[[list[Any]], Any]

    def __call__(self, samples: list[Any]) -> Any:  # noqa: ANN401 - what collate_fn makes
        """Return the mixed batch of these samples."""
        return self.mixer(self.collate_fn(samples))


def _shape(images: Tree) -> torch.Size:
    return next(iter(named(images, "images").values())).shape


def _check_alone(state: State) -> None:
    mixers = [algorithm for algorithm in state.algorithms if isinstance(algorithm, Mixer)]
    if len(mixers) > 1:
        raise ValueError(
            f"algorithms must hold one mixing algorithm at most, got {mixers}: a batch is mixed once; keep one of them"
        )
