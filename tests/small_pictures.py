"""Small pictures of one colour each, on disk and in parquet files, for the tests of the data floor."""

import io
from pathlib import Path

import datasets
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared_data = pytest.mark.skipif(not SHARED.exists(), reason="the real images lie beside the project only")

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def picture(colour, size=(8, 8)):
    return Image.new("RGB", size, COLOURS[colour])


def class_folders(folder, count=10, size=(8, 8), classes=tuple(COLOURS)):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(name, size).save(folder / name / f"{number:02}.png")
    return folder


def rows(count=10, classes=tuple(COLOURS)):
    def content(name):
        file = io.BytesIO()
        picture(name).save(file, format="PNG")
        return {"bytes": file.getvalue(), "path": None}

    names = [name for name in classes for _ in range(count)]
    return {"image": [content(name) for name in names], "label": [classes.index(name) for name in names]}


def as_dataset(listed, classes=tuple(COLOURS), image="image", label="label"):
    features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=list(classes))})
    return datasets.Dataset.from_dict({image: listed["image"], label: listed["label"]}, features=features)


def colours_of(images):
    return {
        images.classes[label]: tuple(image[:, 0, 0].tolist())
        for image, label in zip(images.pixels, images.labels, strict=True)
    }


def notes_of(splits):
    return "\n".join(splits.notes)


def number_each(folder):
    for value, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(path)
