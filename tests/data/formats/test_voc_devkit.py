"""VOCdevkit: years in one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.formats import open_dataset
from sightline.data.formats.voc_devkit import years
from sightline.data.formats.voc_lists import colour, image_lists, read_class_list
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
        InputError, match=r"contains VOC2007, VOC2012, and a split .* belongs to one of them; give the path"
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


def test_what_is_a_year(tmp_path: Path):
    """Four digits after VOC and images inside; a folder that has images itself is no devkit."""
    for name in (
        "VOC2007/JPEGImages",
        "voc2012/JPEGImages",
        "VOC2010/Annotations",
        "VOC20070/JPEGImages",
        "x/JPEGImages",
    ):
        (tmp_path / name).mkdir(parents=True)
    assert [folder.name for folder in years(tmp_path)] == ["VOC2007", "voc2012"]
    assert years(tmp_path / "VOC2007") == years(tmp_path / "absent") == []


def test_lists_of_splits_and_of_classes(tmp_path: Path):
    """A list is of one class where its name ends with another list's, or where all of its lines have marks of it."""
    home = tmp_path / "ImageSets" / "Main"
    text(home / "train.txt", "a\n\n  b.jpg\n")
    text(home / "val.txt", "c -1\n")
    text(home / "dog_train.txt", "a 1\nb 0\n")
    text(home / "dog_extra.txt", "a 1\nb -1\n")
    text(home / "my_extra.txt", "a\nb\n")
    text(home / "empty_set.txt", "")
    text(home / "trainval.txt", "a\nb\nc\n")
    found = {split: names for split, _, names in image_lists(tmp_path, {"a", "b", "c"})}
    assert found == {"train": ["a", "b"], "val": ["c"], "empty_set": [], "my_extra": ["a", "b"]}
    assert list(found)[:2] == ["train", "val"]
    (home / "val.txt").unlink()
    assert "trainval" in {split for split, *_ in image_lists(tmp_path, set())}
    assert image_lists(tmp_path / "absent", set()) == []


def test_lists_of_class_names(tmp_path: Path):
    text(tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\na:b:1,2,3::\nplain\n\n")
    assert read_class_list(tmp_path) == ["a:b", "plain"]
    assert read_class_list(tmp_path / "absent") is None
    text(tmp_path / "labelmap.txt", "cat\ndog\ncat\n")
    with pytest.raises(InputError, match="names the class 'cat' twice"):
        read_class_list(tmp_path)
