"""Cityscapes: label ids as train ids, objects from ids of instances and from polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .drawn import masks
from .helpers import picture, rows, write_json

NAMES = [
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic_light",
    "traffic_sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
]


def label(root: Path, split: str, kind: str, values: np.ndarray, city: str = "ulm") -> Path:
    path = root / "gtFine" / split / city / f"{city}_000000_000019_gtFine_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def image(root: Path, split: str, city: str = "ulm") -> None:
    picture(root / "leftImg8bit" / split / city / f"{city}_000000_000019_leftImg8bit.png", (2, 6))


def test_label_ids_become_train_ids(tmp_path: Path):
    for split in ("train", "val"):
        image(tmp_path, split)
    label(tmp_path, "train", "labelIds", np.array([[0, 7, 8, 33, 26, 3], [29, 31, 11, 23, 30, 1]], np.uint8))
    label(tmp_path, "val", "labelIds", np.full((2, 6), 24, np.uint8))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("cityscapes", ("train", "val"))
    assert [name.replace(" ", "_") for name in data.classes] == NAMES
    assert data.target(0).labels.tolist() == [[-1, 0, 1, 18, 13, -1], [-1, 16, 2, 10, -1, -1]]  # type: ignore[union-attr]
    assert NAMES[int(data["val"].target(0).labels[0, 0])] == "person"  # type: ignore[union-attr]
    assert data.image_name(0) == "ulm_000000_000019_leftImg8bit.png"


def test_train_ids_alone_and_classes_in_another_order(tmp_path: Path):
    image(tmp_path, "train")
    label(tmp_path, "train", "labelTrainIds", np.array([[0, 18, 255, 13, 13, 13]] * 2, np.uint8))
    assert open_dataset(tmp_path).target(0).labels[0].tolist() == [0, 18, -1, 13, 13, 13]  # type: ignore[union-attr]
    turned = open_dataset(tmp_path, classes=[name.replace("_", " ") for name in NAMES[::-1]])
    assert turned.target(0).labels[0].tolist() == [18, 0, -1, 5, 5, 5]  # type: ignore[union-attr]


def test_objects_pixel_by_pixel(tmp_path: Path):
    image(tmp_path, "train")
    ids = np.array([[26000, 26000, 26001, 7, 24, 24], [26000, 7, 26001, 7, 7, 33012]], np.uint16)
    label(tmp_path, "train", "instanceIds", ids)
    data = open_dataset(tmp_path, format="cityscapes-instances")
    drawn = dict(zip([row[0] for row in rows(data, 0)], masks(data)["train", data.image_name(0)], strict=False))
    assert [row[0] for row in rows(data, 0)] == ["person", "car", "car", "bicycle"]
    assert data.columns.crowd.tolist() == [True, False, False, False]
    assert np.array_equal(drawn["bicycle"], ids == 33012)
    assert np.array_equal(drawn["car"], ids == 26001)
    assert len(data.classes) == 8


def test_objects_from_polygons(tmp_path: Path):
    image(tmp_path, "train")
    objects: list[dict[str, Any]] = [
        {"label": "road", "polygon": [[0, 0], [6, 0], [6, 2]]},
        {"label": "car", "polygon": [[1, 0], [3, 0], [3, 2], [1, 2]]},
        {"label": "persongroup", "polygon": [[3, 0], [6, 0], [6, 2]]},
    ]
    name = "ulm_000000_000019_gtFine_polygons.json"
    write_json(tmp_path / "gtFine/train/ulm" / name, {"imgHeight": 2, "imgWidth": 6, "objects": objects})
    data = open_dataset(tmp_path, format="cityscapes-instances")
    assert rows(data, 0) == [("car", 1, 0, 3, 2), ("person", 3, 0, 6, 2)]
    assert data.columns.crowd.tolist() == [False, True]


def test_without_labels(tmp_path: Path):
    image(tmp_path, "train")
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(InputError, match=r"has 1 images in leftImg8bit, but no \*_labelIds for them in gtFine"):
        open_dataset(tmp_path)
