"""YOLO-seg: recognised by its lines, read beside boxes, and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from sightline.data.check import check
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .drawn import files_of, masks, oracle_masks, outlined, same_masks
from .helpers import everything, picture, rows, text

TRIANGLE = "0 0.25 0.5 0.5 0.75 0.25 1\n"  # on 48×64


def folder(root: Path, label: str) -> Path:
    picture(root / "images" / "a.jpg")
    text(root / "labels" / "a.txt", label)
    text(root / "classes.txt", "cat\ndog\n")
    return root


def test_the_lines_tell_it_from_boxes(tmp_path: Path):
    assert open_dataset(folder(tmp_path / "boxes", "1 0.5 0.5 0.25 0.5\n")).format == "yolo"
    data = open_dataset(folder(tmp_path / "seg", TRIANGLE))
    assert data.format == "yolo-seg"
    assert rows(data, 0) == [("cat", 16, 24, 32, 48)]
    assert data.columns.areas.tolist() == [192]
    same_masks(masks(data), oracle_masks(data))
    assert open_dataset(tmp_path / "seg", format="yolo-seg").format == "yolo-seg"


def test_boxes_among_polygons(tmp_path: Path):
    data = open_dataset(folder(tmp_path, TRIANGLE + "1 0.5 0.5 0.25 0.5\n"))
    assert rows(data, 0) == [("cat", 16, 24, 32, 48), ("dog", 24, 12, 40, 36)]
    assert data.with_fields("masks").target(0).masks.any((1, 2)).tolist() == [True, False]
    report = check(data, progress=False)
    (problem,) = [p for p in report.problems if p.rule == "outline-missing"]
    assert "1 of 2 object has only a box, the first in images/a.jpg" in problem.message


def test_a_polygon_of_two_points_is_a_box_and_of_two_and_a_half_none(tmp_path: Path):
    assert rows(open_dataset(folder(tmp_path, "0 0.25 0.5 0.5 0.5\n")), 0) == [("cat", 0, 12, 32, 36)]
    folder(tmp_path, "0 0.25 0.5 0.5 0.5 1.7\n")
    with pytest.raises(InputError, match=r"a\.txt: line 1 is '0 0.25 0.5 0.5 0.5 1.7', but a line must be"):
        open_dataset(tmp_path)


def test_what_is_written(tmp_path: Path):
    out = convert(outlined(), tmp_path / "out", "yolo-seg").folder
    assert files_of(out) == [
        "data.yaml",
        "images/train/a.png",
        "images/train/deep/b.png",
        "images/val/c.png",
        "labels/train/a.txt",
        "labels/train/deep/b.txt",
        "labels/val/c.txt",
    ]
    lines = (out / "labels/train/a.txt").read_text().splitlines()
    assert lines[0] == "0 0.0703125 0.08333333333 0.3125 0.1041666667 0.1875 0.359375"
    assert (out / "labels/train/deep/b.txt").read_text() == ""
    assert len((out / "labels/val/c.txt").read_text().splitlines()[0].split()) == 9


def test_real(shared: Path, tmp_path: Path):
    """COCO's panoptic ids in labels_seg: with the names of its own description, and its folder where YOLO looks."""
    root = shared / "data" / "formats" / "coco128_yolo"
    (tmp_path / "images").symlink_to(root / "images")
    (tmp_path / "labels").symlink_to(root / "labels_seg")
    names = yaml.safe_load((root / "instance_segmentation.yaml").read_text())["names"]
    config = {"train": "images/train2017", "val": "images/val2017", "names": names}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(config))
    data = open_dataset(tmp_path)
    assert data.format == "yolo-seg"
    assert len(data.classes) == 80
    boxes = open_dataset(root / "object_detection.yaml")
    assert tuple(boxes.classes)[:4] == tuple(data.classes)[:4] == ("person", "bicycle", "car", "motorcycle")
    same_masks(masks(data), oracle_masks(data))
    near = total = 0
    for key, mine in everything(boxes).items():  # the boxes of the detection labels are those of the polygons
        for name, *box in mine:
            others = [row[1:] for row in everything(data)[key] if row[0] == name]
            total += 1
            near += any(np.abs(np.subtract(box, other)).max() < 2 for other in others)
    assert near > 0.85 * total  # crowds have no polygons there
    again = open_dataset(convert(data, tmp_path / "again", "yolo-seg", symlink=True).folder)
    same_masks(masks(data), masks(again))
    # Opened as it is, the labels beside it are those of boxes, whose ids are others: refused, not mixed up.
    with pytest.raises(InputError, match=r"line \d+ has class id \d+, which is not among the classes \(1 person"):
        open_dataset(root / "instance_segmentation.yaml")
