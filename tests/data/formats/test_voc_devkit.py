"""VOCdevkit: years in one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import open_dataset
from sightline.data.formats.voc_lists import colour
from sightline.errors import InputError

from .helpers import everything, picture, text, voc


def year(folder: Path, splits: dict[str, list[tuple[str, str]]]) -> None:
    """A year whose images each have one object of a class."""
    for split, images in splits.items():
        for name, label in images:
            picture(folder / "JPEGImages" / f"{name}.jpg")
            voc(folder / "Annotations" / f"{name}.xml", f"{name}.jpg", [(label, 1, 2, 30, 40)])
        text(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name, _ in images))


def test_years_are_joined_split_by_split(tmp_path: Path):
    root = tmp_path / "VOCdevkit"
    year(root / "VOC2007", {"train": [("000001", "dog")], "val": [("000002", "cat")], "test": [("000003", "dog")]})
    year(root / "VOC2012", {"train": [("2008_1", "bus"), ("000001", "cat")], "val": [("2008_2", "dog")]})
    data = open_dataset(root)
    assert data.format == "voc"
    box = (1, 2, 30, 40)
    assert everything(data) == {
        ("train", "VOC2007/JPEGImages/000001.jpg"): [("dog", *box)],
        ("train", "VOC2012/JPEGImages/2008_1.jpg"): [("bus", *box)],
        ("train", "VOC2012/JPEGImages/000001.jpg"): [("cat", *box)],
        ("val", "VOC2007/JPEGImages/000002.jpg"): [("cat", *box)],
        ("val", "VOC2012/JPEGImages/2008_2.jpg"): [("dog", *box)],
        ("test", "000003.jpg"): [("dog", *box)],
    }
    assert tuple(data.classes) == ("bus", "cat", "dog")
    assert all(path is not None and path.is_file() for path in map(data.path, range(len(data))))
    assert data.label_path(0) == root / "VOC2007" / "Annotations" / "000001.xml"
    with pytest.raises(
        InputError, match=r"holds VOC2007, VOC2012, and a split .* belongs to one of them; give the path"
    ):
        open_dataset(root, train="VOC2007/ImageSets/Main/train.txt")


def test_class_maps_of_years(tmp_path: Path):
    for name, value in (("VOC2007", 1), ("VOC2012", 20)):
        folder = tmp_path / name
        picture(folder / "JPEGImages" / "a.jpg", (4, 6))
        mask = Image.fromarray(np.full((4, 6), value, np.uint8))
        mask.putpalette([part for k in range(256) for part in colour(k)])
        (folder / "SegmentationClass").mkdir()
        mask.save(folder / "SegmentationClass" / "a.png")
        text(folder / "ImageSets" / "Segmentation" / "train.txt", "a\n")
    data = open_dataset(tmp_path, format="semantic")
    assert [int(data.target(i).labels.max()) for i in range(2)] == [1, 20]  # type: ignore[union-attr]
    assert data.classes[20] == "tvmonitor"
