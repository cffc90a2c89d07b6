"""What readers share, case by case: names of splits, finding images, lines that look like keypoints, colours."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sightline.data.formats import cityscapes, files
from sightline.data.formats.finder import Finder
from sightline.data.formats.listed import Listed, label_files
from sightline.data.formats.refusal import not_recognised
from sightline.data.formats.semantic_classes import _colour
from sightline.data.formats.yolo_lines import looks_like_keypoints
from sightline.errors import InputError
from sightline.words import counted

from .helpers import picture, text


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("train2017", "train"),
        ("Training", "train"),
        ("trn", "train"),
        ("valid", "val"),
        ("val-2012", "val"),
        ("dev", "val"),
        ("testing", "test"),
        ("default", "all"),
        ("batch2", "batch2"),
        ("train12", "train12"),  # a year has four digits
        ("2017", "2017"),
        ("trainval", "trainval"),
    ],
)
def test_names_of_splits(raw: str, name: str) -> None:
    assert files.split_name(raw) == name


def test_a_split_in_the_name_of_a_file() -> None:
    words = {"bees_train_v2": "train", "Labels-VAL": "val", "my.test.2": "test", "trained": None, "x": None}
    assert {stem: files.split_in(stem) for stem in words} == words


def test_names_that_a_split_s_folder_may_have() -> None:
    assert files.aliases("val2017") == ["val2017", "val", "valid", "validation", "dev"]
    assert files.aliases("odd") == ["odd"]
    assert files.in_order(["odd", "test", "train", "all"]) == ["train", "test", "odd", "all"]


def test_numbers_as_text() -> None:
    values = (2.0, 0.5, 1 / 3, 1e-7, -1e-9, 100.0, float("nan"))
    assert [files.number(value) for value in values] == ["2", "0.5", "0.333333", "0", "0", "100", "nan"]


def test_folders_with_a_meaning_of_their_own() -> None:
    names = ("train/a.jpg", "Images/a.jpg", "masks/a.jpg", "photos/a.jpg", "train.jpg", "photos/train/a.jpg")
    assert [files.sets_apart(name) for name in names] == [True, True, True, False, False, False]


def test_where_images_are_found(tmp_path: Path) -> None:
    for name in ("one/a.jpg", "two/a.jpg", "two/deep/b.png", "c.jpg", "one/deep/d.jpg", "two/deep/d.jpg"):
        picture(tmp_path / name)
    text(tmp_path / "e.txt", "no image")
    finder = Finder([tmp_path, tmp_path / "absent", tmp_path])
    assert finder.folders == [tmp_path]

    def find(name: str, *near: str) -> str | None:
        place = finder.find(name, [tmp_path / folder for folder in near])
        return None if place is None else place.relative_to(tmp_path).as_posix()

    assert find("c.jpg") == "c.jpg"
    assert find("  c.jpg ") == "c.jpg"
    assert find("somewhere/else/c.jpg") == "c.jpg"
    assert find("one\\a.jpg") == find("./one/../one/a.jpg") == "one/a.jpg"
    assert find("b.png") == find("b") == "two/deep/b.png"
    assert find("a.jpg", "two") == "two/a.jpg"
    assert find("d.jpg", "one") == "one/deep/d.jpg"  # of two below the folders the near one
    assert find(str(tmp_path / "two/a.jpg")) == "two/a.jpg"
    assert find("wrong/b") is None  # where a path is said, it must be the image's
    assert find("e.txt") is None
    assert find("") is None
    assert find("..") is None
    assert find("x" * 5000 + ".jpg") is None
    with pytest.raises(InputError, match=r"the image 'd.jpg' may be .*one/deep/d.jpg or .*two/deep/d.jpg"):
        find("d.jpg")
    assert Finder([]).find("c.jpg") is None


def test_where_label_files_are_found(tmp_path: Path) -> None:
    def found(root: Path) -> list[tuple[str, str]]:
        return [(split, file.name) for split, file in label_files(root, ".txt", lambda file: file.stem != "readme")]

    text(tmp_path / "deep" / "labels" / "a_train.txt", "")
    assert found(tmp_path) == [("all", "a_train.txt")]  # one other folder is no split
    text(tmp_path / "more" / "b.txt", "")
    assert found(tmp_path) == [("deep", "a_train.txt"), ("more", "b.txt")]
    text(tmp_path / "val" / "c.txt", "")
    assert found(tmp_path) == [("val", "c.txt")]
    text(tmp_path / "annotations" / "d_test.TXT", "")
    text(tmp_path / "annotations" / "readme.txt", "")
    assert found(tmp_path) == [("test", "d_test.TXT")]
    text(tmp_path / "e.txt", "")
    assert found(tmp_path) == [("all", "e.txt")]
    assert found(tmp_path / "val" / "c.txt") == [("all", "c.txt")]
    assert found(tmp_path / "annotations" / "readme.txt") == []


def test_an_image_that_is_listed_begins_with_nothing_known() -> None:
    one = Listed("a.jpg", Path("x.json"))
    assert (one.split, one.size, one.entries, one.extra, one.other_names) == ("all", (0, 0), [], {}, ())


@pytest.mark.parametrize(
    ("numbers", "answer"),
    [
        ([0.5, 0.5, 0.4, 0.2, 0.4, 0.5, 2], True),
        ([0.5, 0.5, 0.4, 0.2, 0.7, 0.6, 1], True),  # on the box's corner
        ([0.5, 0.5, 0.4, 0.2, 0.71, 0.6, 1], False),  # beside it
        ([0.5, 0.5, 0.4, 0.2, 0.5, 0.39, 1], False),  # above it
        ([0.5, 0.5, 0.4, 0.2, 0.4, 0.5, 3], False),  # no visibility
        ([0.5, 0.5, 0.4, 0.2, 0.4, 0.5, 0], False),  # nothing is seen
        ([0.5, 0.5, 0.4, 0.2, 0.9, 0.9, 0, 0.5, 0.5, 2], True),  # what is absent lies anywhere
        ([0.5, 0.5, 0.4, 0.2, 0.4, 0.5, 2, 0.4], False),
        ([0.5, 0.5, 0.4, 0.2], False),
    ],
)
def test_lines_that_look_like_keypoints(numbers: list[float], answer: bool) -> None:
    assert looks_like_keypoints(numbers) is answer


def test_colours() -> None:
    assert _colour("#ff8000", Path("f"), "x") == _colour("FF8000", Path("f"), "x") == (255, 128, 0)
    assert _colour([0, 255, 7], Path("f"), "x") == (0, 255, 7)
    for wrong in ("#ff80", "red", [1, 2], None, 5):
        with pytest.raises(InputError, match=r"f: 'x' has the colour .*; give #rrggbb or \[r, g, b\]"):
            _colour(wrong, Path("f"), "x")
    for wrong in ([0, 0, 256], [-1, 0, 0]):
        with pytest.raises(InputError, match="but each part is 0 to 255"):
            _colour(wrong, Path("f"), "x")


def test_the_label_ids_of_cityscapes() -> None:
    """cityscapesScripts, helpers/labels.py: what is counted, by label id, is numbered by train id from 0 to 18."""
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert list(cityscapes.CLASSES.values()) == ids
    assert [*cityscapes.CLASSES][:3] + [*cityscapes.CLASSES][-3:] == [
        *("road", "sidewalk", "building"),
        *("train", "motorcycle", "bicycle"),
    ]
    assert np.unique(ids).size == 19


@pytest.mark.parametrize(
    ("count", "advice"),
    [
        (1, r"Its folder a \(yolo\) is a dataset: give that path; "),
        (2, r"Its folders a \(yolo\), b \(yolo\) are datasets: give one of them; "),
        (3, r"Its folders a \(yolo\), b \(yolo\), c \(yolo\) are datasets: give one of them; "),
        (4, r"Its folders a \(yolo\), b \(yolo\), c \(yolo\), … are datasets: give one of them; "),
    ],
)
def test_datasets_inside_of_a_folder_are_named(tmp_path: Path, count: int, advice: str) -> None:
    for name in "abcd"[:count]:
        picture(tmp_path / name / "x.jpg")
    error = not_recognised(tmp_path, lambda folder: {} if folder == tmp_path else {"yolo": "labels"})
    assert re.search(advice, str(error)), error
    assert f"contains {counted(count)}, but it is not a dataset in a known format" in str(error)
