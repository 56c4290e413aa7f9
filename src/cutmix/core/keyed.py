"""Chance inside a data set: drawn by a key, so that a sample is the same again whoever fetches it, and when."""

from __future__ import annotations

import random
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from cutmix.keys import fold

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Sample = TypeVar("Sample")


class Place(NamedTuple):
    """Where a sample stands in a run: its index, the key of its epoch, and its number in the epoch's order."""

    index: Any
    key: int
    number: int


@final
class Keyed(Dataset[Sample]):
    """Draws each sample of a data set by a key, and so repeats what ``__getitem__`` draws from the global generators.

    Those are torch's, numpy's and Python's; each is put back. In the Trainer the key is made of the seed, the epoch and
    the sample's number in the epoch's order. So a sample is augmented in the same way whatever the workers, the ranks,
    the batch size and the step that a run is resumed at; in another way in each epoch, and each time that it is drawn.
    Generators that the data set holds for itself are out of reach. In a loop of your own nothing is keyed.

    Wrap the outermost data set: ``DataLoader(Keyed(data), ...)``. Samples are fetched one by one.
    """

    def __init__(self, dataset: Dataset[Sample]) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"dataset must be read by index, got a {type(dataset).__name__}; key what a stream draws where it draws"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # ty: ignore[invalid-argument-type]

    def __getitem__(self, index: Any) -> Sample:  # noqa: ANN401 - what the data set is read by
        if not isinstance(index, Place):
            return self.dataset[index]
        with drawing_by(fold(index.key, index.number)):
            return self.dataset[index.index]


def places(indices: Any, key: int, first: int) -> Iterator[Place]:  # noqa: ANN401 - what a sampler gives
    """Say of ``indices`` where they stand, the first at number ``first``."""
    return (Place(index, key, number) for number, index in enumerate(indices, first))


@contextmanager
def drawing_by(key: int) -> Generator[None]:
    """Seed the global generators of torch's CPU, numpy and Python, and leave them as they were found."""
    found, numpys, pythons = torch.default_generator.get_state(), np.random.get_bit_generator(), random.getstate()  # ty: ignore[missing-attribute]
    # Another generator in its place is a hundred times as fast as its state read and written; one keyed data set within
    # another needs a second one.
    spare = _spare() if numpys is not _spare() else np.random.MT19937()
    np.random.set_bit_generator(spare)  # ty: ignore[missing-attribute]
    try:
        seed_all(key)
        yield
    finally:
        torch.default_generator.set_state(found)
        np.random.set_bit_generator(numpys)  # ty: ignore[missing-attribute]
        random.setstate(pythons)


@cache
def _spare() -> np.random.MT19937:
    """Return what numpy draws from meanwhile."""
    return np.random.MT19937()


def seed_all(key: int) -> None:
    """Seed the global generators of torch's CPU, numpy and Python by 32 bits."""
    torch.default_generator.manual_seed(key)
    np.random.seed(key)  # noqa: NPY002 - the one that data sets draw from
    random.seed(key)


@final
class Seeding(Dataset[Any]):
    """A data set as a worker has it, who is handed a seed with what to fetch; in all else it is the data set itself.

    What the data set draws then depends neither on how many workers there are nor on the batches that came before.
    """

    def __init__(self, dataset: Any) -> None:  # noqa: ANN401 - whatever a DataLoader takes
        vars(self)["_seeded"] = dataset

    def __getitems__(self, indices: tuple[int, Any]) -> list[Any]:
        seed, wanted = indices
        seed_all(seed)
        fetch = getattr(self._seeded, "__getitems__", None)
        return fetch(wanted) if fetch else [self._seeded[index] for index in wanted]

    def __getitem__(self, index: tuple[int, Any]) -> Any:  # noqa: ANN401
        seed, wanted = index
        seed_all(seed)
        return self._seeded[wanted]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name == "_seeded":  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self._seeded, name)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        setattr(self._seeded, name, value)
