"""Where data comes from: class folders, parquet files, the hub; each becomes labelled pictures not yet decoded.

All goes through ``datasets``, but nothing is written into its cache except what the hub downloads: a folder is listed
here (its own builder keeps neither damaged files nor empty classes apart) and a parquet file is read into memory.
"""

import logging
import os
import re
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, cast, final

import torch

from cutmix.data.images import ClassIds
from cutmix.data.reading import Encoded

if TYPE_CHECKING:
    import datasets

HELD_OUT = ("val", "valid", "validation", "test")
"""What the part to test on may be called; where there are several, the first is used."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Labelled pictures, not yet decoded; ``origin`` is where they are, for whoever reads an error."""

    origin: str
    dataset: "datasets.Dataset"
    image_column: str
    classes: tuple[str, ...]
    labels: ClassIds
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Encoded]:
        nothing = Encoded(bytes=None, path=None)
        return (cast("Encoded", row[self.image_column]) or nothing for row in self.dataset)

    def chosen(self, indices: Sequence[int]) -> "Source":
        """Return the pictures that ``indices`` name."""
        names = tuple(self.names[index] for index in indices)
        return replace(self, dataset=self.dataset.select(indices), labels=self.labels[list(indices)], names=names)

    def whereabouts(self, index: int, picture: Encoded) -> str:
        """Return where a picture is, for whoever has to mend it."""
        path = picture["path"]
        return path if path is not None and picture["bytes"] is None else f"{self.names[index]} in {self.origin}"


def opened(argument: str, data: str) -> tuple[Source, Source | None]:
    """Return what ``data`` has to train on, and what it has to test on where it comes in splits.

    Args:
        argument: what an error calls it: ``data`` or ``eval_data``.
        data: where it is.

    Raises:
        ValueError: when there is no such data, or when it is not laid out as data should be.
    """
    if data.startswith("hf:"):
        return from_hub(argument, data)
    if Path(data).is_dir():
        return from_folder(Path(data))
    files = [data] if Path(data).is_file() else sorted(glob(data))  # noqa: PTH207 - a Path's own takes no absolute one
    if files and all(file.endswith(".parquet") for file in files):
        return from_parquet_splits(data, files)
    choices = ", hf:owner/name or the built-in openmoji" if argument == "data" else " or hf:owner/name"
    raise ValueError(
        f"{argument} must be a folder of class folders, parquet files{choices}, got {data!r}: "
        f"{'no parquet file' if files else 'there is no such file or folder'}"
    )


def held_out_in(names: Collection[str]) -> str | None:
    """Return which of the splits called ``names`` is the one to test on."""
    return next((name for name in HELD_OUT if name in names), None)


def from_folder(folder: Path) -> tuple[Source, Source | None]:
    """List a folder of class folders, of split folders that hold class folders, or of parquet files."""
    if files := sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        return from_parquet_splits(str(folder), [str(file) for file in files])
    inside = folders_in(folder)
    splits = {path.name.lower(): path for path in inside if path.name.lower() in ("train", *HELD_OUT)}
    if not splits:
        return from_class_folders(folder), None
    test = held_out_in(splits)
    if len(splits) < len(inside) or "train" not in splits or test is None:
        raise ValueError(
            f"{folder} must hold either class folders or the split folders train and {' or '.join(HELD_OUT)}, got "
            f"{shown([path.name for path in inside])}; rename a class of such a name, or name one split's own folder"
        )
    return from_class_folders(splits["train"]), from_class_folders(splits[test])


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in ``folder``, sorted, but for hidden ones and what archives leave behind (__MACOSX)."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def from_class_folders(folder: Path) -> Source:
    """List the pictures of a folder of class folders; a class may have folders within."""
    import datasets

    inside = folders_in(folder)
    if not inside:
        raise ValueError(
            f"{folder} must hold one folder of pictures for each class ({folder / 'cat' / '1.png'}), got "
            f"{shown([path.name for path in sorted(folder.iterdir())]) or 'an empty folder'}"
        )
    pictures = [pictures_in(path) for path in inside]
    rows = [(str(path), label) for label, paths in enumerate(pictures) for path in paths]
    features = datasets.Features(
        image=datasets.Image(decode=False), label=datasets.ClassLabel(names=[path.name for path in inside])
    )
    listed = {"image": [path for path, _ in rows], "label": [label for _, label in rows]}
    return checked(str(folder), datasets.Dataset.from_dict(listed, features=features))


def pictures_in(folder: Path) -> list[Path]:
    """Return the files below ``folder`` that are named as pictures are, sorted."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    named = (path for path in folder.rglob("*") if path.suffix.lower() in ImageFolder.EXTENSIONS)
    return sorted(path for path in named if not path.name.startswith(".") and path.is_file())


def from_parquet_splits(origin: str, files: Sequence[str]) -> tuple[Source, Source | None]:
    """Read parquet files by the splits in their names, else in their folders' names.

    As data sets lie on the hub: ``data/train-00000-of-00002.parquet``, ``cifar10_test.parquet``, ``test/0.parquet``.
    A name says a split when it has the split's name as a word: between what are no letters.
    """
    root = os.path.commonpath(files)
    words = {file: split_words(Path(file).relative_to(root)) for file in files}
    if not any(words.values()):
        return from_parquet(origin, files), None
    unclear = [Path(file).name for file, said in words.items() if len(said) != 1]
    if unclear:
        raise ValueError(
            f"{origin} must hold parquet files that each name one split ({', '.join(('train', *HELD_OUT))}) or that "
            f"name none, got {shown(unclear)} beside files that name one; rename or remove those"
        )
    splits = {split: [file for file in files if split in words[file]] for split in sorted(set().union(*words.values()))}
    if len(splits) == 1:
        return from_parquet(origin, files), None
    if "train" not in splits:
        raise ValueError(f"{origin} must hold parquet files to train on, named train, got only {shown([*splits])}")
    test = held_out_in(splits)
    train = from_parquet(f"{origin} (train)", splits["train"])
    return train, None if test is None else from_parquet(f"{origin} ({test})", splits[test])


def split_words(file: Path) -> set[str]:
    """Return which splits a file's name says, else which its folder's name says."""
    stem, folder = (
        set(re.findall("[a-z]+", name.lower())) & {"train", *HELD_OUT} for name in (file.stem, file.parent.name)
    )
    return stem or folder


def from_parquet(origin: str, files: Sequence[str]) -> Source:
    """Read parquet files in the Hugging Face layout."""
    import datasets
    import pyarrow as pa
    from datasets.table import InMemoryTable
    from pyarrow import parquet

    try:
        features = datasets.Features.from_arrow_schema(parquet.read_schema(files[0]))
        columns = list(columns_of(origin, features))
        table = pa.concat_tables([parquet.read_table(file, columns=columns) for file in files])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{origin} cannot be read as parquet ({str(error).splitlines()[0]}); fetch it again"
        ) from error
    return checked(origin, datasets.Dataset(InMemoryTable(table)))


def from_hub(argument: str, data: str) -> tuple[Source, Source | None]:
    """Load ``hf:owner/name``; what is downloaded lies in the cache of ``datasets``, as its users expect."""
    import datasets

    try:
        with silence():
            parts = {str(name): part for name, part in datasets.load_dataset(data.removeprefix("hf:")).items()}
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{argument} {data!r} could not be loaded from the hub ({reason}); check name and network"
        ) from error
    if "train" not in parts:
        raise ValueError(f"{argument} {data!r} must have a split called train, got {shown(list(parts))}")
    test = held_out_in(parts)
    train = checked(f"{data} (train)", parts["train"])
    return train, None if test is None else checked(f"{data} ({test})", parts[test])


@contextmanager
def silence() -> Generator[None]:
    """Keep the hub from showing progress and from telling of each retry."""
    import datasets

    hub, silent = logging.getLogger("huggingface_hub"), datasets.are_progress_bars_disabled()
    level = hub.level
    datasets.disable_progress_bars()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)
        if not silent:
            datasets.enable_progress_bars()


def checked(origin: str, dataset: "datasets.Dataset") -> Source:
    """Find the columns and the classes of ``dataset``, and leave its pictures undecoded."""
    import datasets

    image, label = columns_of(origin, dataset.features)
    pictures = dataset.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
    values, feature = pictures[label][:], pictures.features[label]
    without = sum(value in (None, -1, "") or value != value for value in values)  # noqa: PLR0124 - only nan does
    if without:
        raise ValueError(f"{origin} must have a label for each picture, got {without:,} of {len(values):,} without one")
    if isinstance(feature, datasets.ClassLabel):
        classes, labels = tuple(feature.names), torch.tensor(values, dtype=torch.int64)
    else:
        found = {value: place for place, value in enumerate(sorted(set(values)))}
        classes, labels = tuple(map(str, found)), torch.tensor([found[value] for value in values], dtype=torch.int64)
    check_filled(origin, classes, labels)
    return Source(origin, pictures, image, classes, labels, named(pictures, image))


def named(dataset: "datasets.Dataset", column: str) -> tuple[str, ...]:
    """Return what each picture is called: its file's name, else its place."""
    paths = dataset.with_format("arrow")[:][column].combine_chunks().field("path").to_pylist()
    return tuple(Path(path).stem if path else f"picture {place}" for place, path in enumerate(paths))


def columns_of(origin: str, features: "datasets.Features") -> tuple[str, str]:
    """Return the first column of pictures and the first of classes (else one called label or labels)."""
    import datasets

    kinds = ", ".join(f"{name}: {getattr(kind, 'dtype', None) or 'struct'}" for name, kind in features.items())
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image) or is_encoded(kind)]
    if not images:
        raise ValueError(f"{origin} must have an image column (struct of bytes and path), got the columns {kinds}")
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels += [name for name in ("label", "labels") if isinstance(features.get(name), datasets.Value)]
    if not labels:
        raise ValueError(f"{origin} must have a column of classes (ClassLabel) or one called label, got {kinds}")
    return images[0], labels[0]


def is_encoded(kind: object) -> bool:
    """Tell whether a column holds pictures although its file does not say so."""
    return isinstance(kind, dict) and set(kind) == {"bytes", "path"}


def check_filled(origin: str, classes: Sequence[str], labels: ClassIds) -> None:
    """Refuse a class without a picture."""
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        raise ValueError(
            f"{origin} must hold a picture of each class, got none of {shown(empty)}; add some or remove it"
        )


def shown(names: Sequence[str], most: int = 10) -> str:
    """Return ``names`` as one line that leaves out what a reader would."""
    return ", ".join(names[:most]) + (f", ... ({len(names):,} in all)" if len(names) > most else "")
