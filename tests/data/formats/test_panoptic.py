"""COCO panoptic: colours number segments; class maps of all, or the things as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.dataset import Dataset
from sightline.data.formats import open_dataset
from sightline.errors import InputError

from .drawn import masks
from .helpers import coco, coco_image, coco_object, picture, rows, write_json

IDS = np.array([[0, 5, 5, 300], [70000, 70000, 5, 300], [70000, 0, 9, 9]])
SEGMENTS: list[dict[str, Any]] = [
    {"id": 5, "category_id": 1, "iscrowd": 0, "bbox": [1, 0, 2, 2], "area": 3},
    {"id": 300, "category_id": 1, "iscrowd": 1, "bbox": [3, 0, 1, 2], "area": 2},
    {"id": 70000, "category_id": 200, "iscrowd": 0, "bbox": [0, 1, 2, 2], "area": 3},
    {"id": 9, "category_id": 44, "iscrowd": 0, "bbox": [2, 2, 2, 1], "area": 2},
]


def made(root: Path, splits: tuple[str, ...] = ("train2017", "val2017"), **change: Any) -> Path:
    categories = [
        {"id": 200, "name": "rug", "isthing": 0, "color": [1, 2, 3]},
        {"id": 1, "name": "person", "isthing": 1, "color": [1, 2, 4]},
        {"id": 44, "name": "bottle", "isthing": 1, "color": [1, 2, 5]},
    ]
    for split in splits:
        picture(root / split / "a.jpg", (3, 4))
        folder = root / "annotations" / f"panoptic_{split}"
        folder.mkdir(parents=True)
        rgb = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], 2).astype(np.uint8)
        Image.fromarray(rgb).save(folder / "a.png")
        annotation = {"image_id": 7, "file_name": "a.png", "segments_info": SEGMENTS} | change
        content = {"images": [coco_image(7, "a.jpg", (3, 4))], "annotations": [annotation], "categories": categories}
        write_json(root / "annotations" / f"panoptic_{split}.json", content)
    return root


def test_class_maps(tmp_path: Path):
    data = open_dataset(made(tmp_path))
    assert (data.format, data.kind, data.splits) == ("panoptic", "class_map", ("train", "val"))
    assert tuple(data.classes) == ("person", "bottle", "rug")
    expected = [[-1, 0, 0, 0], [2, 2, 0, 0], [2, -1, 1, 1]]
    for view in (data, data["val"], data[[1]], data.split(0.5, 0.5, 0)["val"]):
        assert view.target(0).labels.tolist() == expected  # type: ignore[union-attr]
    assert data.path(0) == tmp_path / "train2017" / "a.jpg"


def test_things_as_objects(tmp_path: Path):
    data = open_dataset(
        made(tmp_path, ("val2017",)) / "annotations" / "panoptic_val2017.json", format="panoptic-instances"
    )
    assert rows(data, 0) == [("person", 1, 0, 3, 2), ("person", 3, 0, 4, 2), ("bottle", 2, 2, 4, 3)]
    assert data.columns.crowd.tolist() == [False, True, False]
    assert tuple(data.classes) == ("person", "bottle")
    drawn = masks(data)["all", "a.jpg"]
    assert [np.array_equal(mask, id == IDS) for mask, id in zip(drawn, (5, 300, 9), strict=True)] == [True] * 3


def test_beside_coco_it_is_read_as_coco(tmp_path: Path):
    made(tmp_path)
    content = coco([coco_image(7, "a.jpg", (3, 4))], [coco_object(1, 7, 1, [0, 0, 2, 2])], {1: "person"})
    for split in ("train2017", "val2017"):
        write_json(tmp_path / "annotations" / f"instances_{split}.json", content)
    assert open_dataset(tmp_path).format == "coco"
    assert open_dataset(tmp_path, format="panoptic").format == "panoptic"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"segments_info": SEGMENTS[:3]}, "contains segment 9, which its JSON does not list"),
        ({"segments_info": [{"id": 5, "category_id": 8}]}, "category 8, which is not among the classes"),
        ({"segments_info": [{"id": 5}]}, "is not COCO panoptic: KeyError 'category_id'"),
        ({"file_name": "gone.png"}, "there is no image .*gone.png"),
    ],
)
def test_mistakes(tmp_path: Path, change: dict[str, Any], sentence: str):
    def use(data: Dataset) -> None:
        data.target(0)

    with pytest.raises(InputError, match=sentence):
        use(open_dataset(made(tmp_path, ("val2017",), **change)))


def test_pictures_that_are_not_there(tmp_path: Path):
    made(tmp_path, ("val2017",))
    (tmp_path / "annotations" / "panoptic_val2017").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"there is no folder .*panoptic_val2017 with the segment PNGs"):
        open_dataset(tmp_path)
