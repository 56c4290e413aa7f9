"""What all mixing algorithms share: how they are called, and what they do in the Trainer."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, final, get_args, overload

import torch
from torch import Tensor
from torch.utils.data import default_collate

from cutmix import boxes
from cutmix.core.algorithm import Algorithm
from cutmix.core.batch import Key, get_item, set_item
from cutmix.core.event import Event
from cutmix.core.logger import Logger
from cutmix.core.state import State
from cutmix.draws import SMALLEST_ALPHA, Pairing, draw_partners, draw_uniform
from cutmix.keys import generator_for
from cutmix.losses import Mixed, mixed
from cutmix.mixing import check_targets, mix
from cutmix.plans import OPAQUE, Plan
from cutmix.shapes import Boxes, Images, Labels
from cutmix.targets import MixedTarget


class Mixer(Algorithm):
    """A recipe: how to draw a plan. It holds settings only; the chance is in ``draw``.

    Call it in a plain loop, ``images, target = mix(images, target)`` or ``batch = mix(batch)``; hand it to
    ``Trainer(algorithms=[mix])``; or to a loader, ``DataLoader(collate_fn=mix.collate())``.
    """

    __slots__ = ()

    alpha: float
    interpolate_loss: bool
    input_key: Key | None
    target_key: Key | None
    p: float
    pairing: Pairing
    spatial_dims: tuple[int, ...] | None

    @abstractmethod
    def axes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return which axes of a batch of this shape are cut, counted from the front."""

    @abstractmethod
    def draw_region(self, size: tuple[int, ...], generator: torch.Generator | None) -> tuple[Boxes, float]:
        """Draw the box of one batch, and the opacity of the partners in it."""

    def draw(self, shape: Sequence[int], *, generator: torch.Generator | None = None) -> Plan:
        """Draw the plan for one batch of this shape, on the host.

        Args:
            shape: of the whole batch, as ``images.shape``.
            generator: a CPU generator; else torch's default one. It is advanced, never seeded.

        Raises:
            ValueError: when the shape needs ``spatial_dims``, or the generator lives on another device.
        """
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {generator!r}: pass one, or leave it out")
        if generator is not None and generator.device.type != "cpu":
            raise ValueError(
                f"generator must live on the CPU, where plans are drawn, got one on {generator.device}: "
                "pass torch.Generator().manual_seed(...)"
            )
        size = tuple(shape[axis] for axis in self.axes(shape))
        partners = draw_partners(shape[0], self.pairing, generator)
        mixes = shape[0] > 1 and (self.p == 1.0 or draw_uniform(generator) < self.p)
        box, opacity = self.draw_region(size, generator) if mixes else (boxes.empty(len(size)), 1.0)
        return Plan(partners, box, OPAQUE if opacity == 1.0 else torch.tensor([opacity], dtype=torch.float64), size)

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

    def _check_settings(self) -> None:
        check_number("alpha", self.alpha, 0.0, math.inf, "it is the parameter of Beta(alpha, alpha); 1 is standard")
        if 0.0 < self.alpha < SMALLEST_ALPHA or self.alpha == math.inf:
            raise ValueError(
                f"alpha must be 0 (mixes nothing) or finite and at least {SMALLEST_ALPHA}, got {self.alpha}: "
                "for fewer mixed batches use p"
            )
        for name in ("interpolate_loss", "uniform_sampling"):
            if not isinstance(getattr(self, name, False), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.spatial_dims is not None and not _are_whole(self.spatial_dims):
            raise TypeError(f"spatial_dims must be a tuple of axes, got {self.spatial_dims!r}: for example (2, 3)")
        check_number("p", self.p, 0.0, 1.0, "it is the share of batches that are mixed")
        if self.pairing not in get_args(Pairing):
            raise ValueError(f"pairing must be one of {get_args(Pairing)}, got {self.pairing!r}")


@final
@dataclass(frozen=True, slots=True)
class Collate:
    """Puts samples together as ``collate_fn`` does, then mixes the batch; picklable for spawned workers."""

    mixer: Mixer
    collate_fn: Callable[[list[Any]], Any]

    def __call__(self, samples: list[Any]) -> Any:  # noqa: ANN401 - what collate_fn makes
        """Return the mixed batch of these samples."""
        return self.mixer(self.collate_fn(samples))


def check_number(name: str, value: float, low: float, high: float, meaning: str) -> None:
    """Check that a setting is a number from ``low`` to ``high``.

    Raises:
        TypeError: when it is no number.
        ValueError: when it lies outside, or is nan.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}: {meaning}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}: {meaning}")


def _are_whole(values: object) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, Integral) for value in values)


def _check_alone(state: State) -> None:
    mixers = [algorithm for algorithm in state.algorithms if isinstance(algorithm, Mixer)]
    if len(mixers) > 1:
        raise ValueError(
            f"algorithms must hold one mixing algorithm at most, got {mixers}: a batch is mixed once; keep one of them"
        )
