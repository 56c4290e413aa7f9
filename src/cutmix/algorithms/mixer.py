"""What all mixing algorithms share: how they are called, and what they do in the Trainer."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final, overload

import torch
from torch import Tensor
from torch.utils.data import default_collate

from cutmix.core.algorithm import Algorithm
from cutmix.core.batch import Key, get_item, set_item
from cutmix.core.event import Event
from cutmix.core.logger import Logger
from cutmix.core.state import State
from cutmix.keys import generator_for
from cutmix.losses import Mixed, mixed
from cutmix.mixing import check_targets, mix
from cutmix.plans import Plan
from cutmix.shapes import Images, Labels
from cutmix.targets import MixedTarget


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

    @abstractmethod
    def draw(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Plan:
        """Draw the plan for one batch of this shape, on the host.

        Args:
            shape: of the whole batch, as ``images.shape``.
            generator: a CPU generator; else torch's default one. It is advanced, never seeded.

        Raises:
            TypeError: when the generator is none.
            ValueError: when the shape needs ``spatial_dims``, or the generator lives on another device.
        """

    @overload
    def __call__(
        self, images: Images, targets: Labels, /, *, generator: torch.Generator | None = None
    ) -> tuple[Images, MixedTarget | Tensor]: ...

    @overload
    def __call__(self, batch: Any, /, *, generator: torch.Generator | None = None) -> Any: ...  # noqa: ANN401 - any batch

    def __call__(self, *batch: Any, generator: torch.Generator | None = None) -> Any:
        """Mix a batch, out of place: ``images, target`` as two arguments, or one batch that holds them at its keys.

        Args:
            batch: the images and their targets; or one tuple, list, dict, named tuple or dataclass, which is returned
                anew with the images and the targets replaced.
            generator: a CPU generator to draw from; else torch's default one. See ``cutmix.keys.generator_for``.

        Raises:
            TypeError: when the batch is neither, or holds no tensors.
            ValueError: when a shape does not fit.
        """
        match batch:
            case (images, targets):
                return self._mixed(images, targets, generator)
            case (whole,) if not isinstance(whole, Tensor):
                input_key, target_key = self._keys(0, 1)
                images, targets = self._mixed(get_item(whole, input_key), get_item(whole, target_key), generator)
                return set_item(set_item(whole, input_key, images), target_key, targets)
        raise TypeError(
            f"a mixer takes images and targets, or one batch that holds both, got {len(batch)} argument(s) of type "
            f"{[type(argument).__name__ for argument in batch]}: call mix(images, targets) or mix(batch)"
        )

    def collate(self, collate_fn: Callable[[list[Any]], Any] = default_collate) -> "Collate":
        """Return a function for ``DataLoader(collate_fn=...)`` that mixes each batch where it is put together.

        It draws from the worker's default generator, which torch seeds from the loader's: in a loop on several ranks
        give each rank's loader a ``generator=`` of its own, or all ranks draw the same boxes.
        """
        return Collate(self, collate_fn)

    def match(self, event: Event, state: State) -> bool:  # noqa: ARG002 - the interface
        return event in (Event.FIT_START, Event.AFTER_DATALOADER)

    def apply(self, event: Event, state: State, logger: Logger) -> None:  # noqa: ARG002 - the interface
        if event == Event.FIT_START:
            _check_alone(state)
            if not isinstance(state.loss_fn, Mixed):
                state.loss_fn = mixed(state.loss_fn, interpolate=self.interpolate_loss)
        elif event == Event.AFTER_DATALOADER:
            self._mix_batch(state)

    def _mix_batch(self, state: State) -> None:
        input_key, target_key = self._keys(state.input_key, state.target_key)
        images, targets = state.batch_get_item(input_key), state.batch_get_item(target_key)
        generator = generator_for(state.seed, state.timestamp.batch, state.rank)
        images, targets = self._mixed(images, targets, generator, memory=state.writable)
        state.batch_set_item(input_key, images)
        state.batch_set_item(target_key, targets)

    def _mixed(
        self,
        images: Images,
        targets: Labels,
        generator: torch.Generator | None,
        memory: Callable[[Images], Images] | None = None,
    ) -> tuple[Images, MixedTarget | Tensor]:
        check_targets(targets, images)
        plan = self.draw(images.shape, generator=generator)
        out = None if memory is None else memory(images)
        return mix(images, targets, plan, out=out, spatial_dims=self.axes(images.shape))

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


def _check_alone(state: State) -> None:
    mixers = [algorithm for algorithm in state.algorithms if isinstance(algorithm, Mixer)]
    if len(mixers) > 1:
        raise ValueError(
            f"algorithms must hold one mixing algorithm at most, got {mixers}: a batch is mixed once; keep one of them"
        )
