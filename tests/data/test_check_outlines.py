"""Rules about outlines and keypoints, and what the repaired copy does about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.data.blob import Blob
from sightline.data.check import check, fix
from sightline.data.check.repairs import clip_polygon
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.ops.masks import polygons_to_mask
from sightline.structures import Instances


def data(entries: list[str], keypoints: np.ndarray | None = None) -> Dataset:
    """Two images of 48 × 64 whose objects have these segmentations."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 255, (3, 48, 64), dtype=torch.uint8, generator=generator) for _ in range(2)]
    first = (len(entries) + 1) // 2
    targets = [
        Instances((48, 64), boxes=[[1, 2, 9 + k, 20] for k in range(n)], labels=[0] * n)
        for n in (first, len(entries) - first)
    ]
    made = Dataset.from_instances(images, targets, ["x"])
    return made.with_columns(made.columns.replace(segmentations=Blob.of(entries), keypoints=keypoints))


GOOD = "[[1,2,9,2,5,20]]"
SMALL = '{"size":[40,64],"counts":[2560]}'


def found(dataset: Dataset, rule: str) -> list[str]:
    return [p.message for p in check(dataset, progress=False).problems if p.rule == rule]


def test_outlines_in_order():
    report = check(data([GOOD, '{"size":[48,64],"counts":[3072]}']).with_fields("masks"), progress=False)
    assert not {"outline-broken", "mask-size-differs", "outline-missing"} & {p.rule for p in report.problems}


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("[[1,2,9,2]]", "has a polygon of 2 points, but an outline needs three or more"),
        ("[[1,2,9,2,5,20],[4,4]]", "has a polygon (one of 2) of 1 point, but an outline needs three or more"),
        ("[[1,2,9,2,5,20,7]]", "has a polygon of 7 coordinates, but points need x and y each"),
    ],
)
def test_broken_outlines(entry: str, what: str):
    (message,) = found(data([GOOD, entry, GOOD]), "outline-broken")
    assert message.startswith(f"000000.png: object 2 {what}; draw the outline again; --fix removes the unusable parts")
    with pytest.raises(InputError, match=r"000000\.png: segmentation 1 has a"):
        data([GOOD, entry, GOOD]).with_fields("masks").target(0)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("[3]", "has an outline that is neither a list of polygons nor an RLE"),
        ('"here"', "has an outline that is neither a list of polygons nor an RLE"),
        ("true", "has an outline that is neither a list of polygons nor an RLE"),
        ('[["a","b","c","d","e","f"]]', "has a polygon with the coordinate 'a', which is not a finite number"),
        ("[[1,2,9,2,5,true]]", "has a polygon with the coordinate True, which is not a finite number"),
        ("[[1,2,9,2,5,NaN]]", "has a polygon with the coordinate nan, which is not a finite number"),
        ('{"size":[48]}', "has an RLE without size and counts"),
        ('{"size":[48,64],"counts":["a"]}', "has a mask that cannot be read"),
    ],
)
def test_malformed_outlines_are_errors_without_masks_too(entry: str, what: str, tmp_path: Path):
    dataset = data([GOOD, entry, GOOD])
    (message,) = found(dataset, "outline-malformed")
    assert message.startswith(f"000000.png: object 2 {what}")
    assert not check(dataset, progress=False).ok
    with pytest.raises(InputError, match=r"000000\.png: segmentation 1 has a"):
        dataset.with_fields("masks").target(0)
    assert fix(dataset, tmp_path / "out", progress=False).counts == {"outline-malformed": 1}
    assert check(open_dataset(tmp_path / "out"), progress=False).ok


def test_masks_of_another_size():
    dataset = data([GOOD, GOOD, SMALL])
    (message,) = found(dataset, "mask-size-differs")
    assert "000001.png: object 1 has a mask of 64 × 40 pixels, but the image is 64 × 48" in message
    assert check(dataset, progress=False).ok
    assert not check(dataset.with_fields("masks"), progress=False).ok
    with pytest.raises(
        InputError, match=r"segmentation 0 has a mask of 64 × 40 pixels, but the image is 64 × 48; correct"
    ):
        dataset.with_fields("masks").target(1)


def test_objects_without_outline_among_others():
    (message,) = found(data([GOOD, "", "", GOOD]), "outline-missing")
    assert message.startswith("2 of 4 objects have only a box, the first in 000000.png")
    assert found(data(["", ""]), "outline-missing") == []


def test_keypoints_outside(tmp_path: Path):
    points = np.zeros((2, 3, 3), np.float32)
    points[0] = [[5, 5, 2], [70, 5, 2], [5, -3, 1]]
    points[1] = [[-9, 90, 0], [64.2, 48, 2], [3, 3, 2]]  # absent; within rounding
    (message,) = found(data([GOOD, GOOD], points), "keypoint-outside")
    assert "object 1 has keypoint 1 at 70, 5 (and 1 more) in an image 64 wide and 48 high; move the point" in message
    summary = fix(data([GOOD, GOOD], points).with_fields("keypoints"), tmp_path / "out", progress=False)
    assert summary.counts == {"keypoint-outside": 1}
    fixed = open_dataset(tmp_path / "out").with_fields("keypoints")
    assert fixed.target(0).keypoints.tolist() == [[[5, 5, 2], [0, 0, 0], [0, 0, 0]]]
    points[1, 2, 0] = np.nan
    assert len(found(data([GOOD, GOOD], points), "keypoint-outside")) == 1


def test_keypoints_that_are_no_places(tmp_path: Path):
    points = np.zeros((2, 3, 3), np.float32)
    points[0] = [[5, 6, 2], [np.nan, 5, 1], [7, np.inf, 2]]
    points[1] = [[5, 6, 1], [7, 5, 3], [7, 8, 0.5]]
    dataset = data([GOOD, GOOD], points).with_fields("keypoints")
    (message,) = found(dataset, "keypoint-not-finite")
    assert "object 1 has keypoint 1 at nan, 5 (and 1 more); mark the point again" in message
    (message,) = found(dataset, "keypoint-visibility")
    assert "000001.png: object 1 has keypoint 1 with visibility 3 (and 1 more); write 0 (absent), 1" in message
    assert found(dataset, "keypoint-outside") == []
    assert not check(dataset, progress=False).ok
    with pytest.raises(InputError, match=r"000000\.png: object 1 has a keypoint at .*nan.*, which is not finite; mark"):
        dataset.target(0)
    summary = fix(dataset, tmp_path / "out", progress=False)
    assert summary.counts == {"keypoint-not-finite": 1, "keypoint-visibility": 1}
    fixed = open_dataset(tmp_path / "out").with_fields("keypoints")
    assert fixed.target(0).keypoints.tolist() == [[[5, 6, 2], [0, 0, 0], [0, 0, 0]]]
    assert fixed.target(1).keypoints.tolist() == [[[5, 6, 1], [7, 5, 2], [7, 8, 2]]]


def test_the_repaired_copy_keeps_the_boxes(tmp_path: Path):
    summary = fix(data([GOOD, "[[1,2,9,2]]", SMALL, GOOD]), tmp_path / "out", progress=False)
    assert summary.counts == {"outline-broken": 1, "mask-size-differs": 1}
    assert "1 object left without an outline (it was unusable)" in str(summary)
    again = open_dataset(tmp_path / "out").with_fields("masks")
    assert again.columns.objects == 4
    assert [again.target(i).masks.any((1, 2)).tolist() for i in range(2)] == [[True, False], [False, True]]


@pytest.mark.parametrize("seed", range(4))
def test_clipping_equals_cutting_the_mask(seed: int):
    generator = np.random.default_rng(seed)
    for _ in range(20):
        polygon = generator.uniform(-15, 55, (6 if seed % 2 else 3, 2))
        centre = polygon.mean(0)
        polygon = polygon[np.argsort(np.arctan2(*(polygon - centre).T))]  # does not cross itself
        clipped = clip_polygon(polygon.ravel().tolist(), 40, 30)
        shifted = polygons_to_mask([polygon.ravel() + 20], (70, 80))[20:50, 20:60]
        mask = (
            polygons_to_mask([np.array(clipped) + 20], (70, 80)) if clipped else torch.zeros(70, 80, dtype=torch.bool)
        )
        assert (mask[20:50, 20:60] != shifted).sum() <= 6  # rounding along the sides
        assert mask.sum() - mask[20:50, 20:60].sum() == 0
        values = np.array(clipped).reshape(-1, 2)
        assert (values >= 0).all()
        assert (values <= (40, 30)).all()


@pytest.mark.parametrize("to", ["via", "labelme", "cvat", "yolo-seg", "coco"])
def test_a_clipped_box_has_a_clipped_outline(to: str, tmp_path: Path):
    """In a format that takes boxes from outlines both must be clipped, or the copy would be as broken."""
    whole = data(["[[50,10,80,10,80,60]]", GOOD])
    boxes = np.array([[50, 10, 80, 60], [1, 2, 9, 20.0]])
    convert(whole.with_columns(whole.columns.replace(boxes=boxes)), tmp_path / "in", to)
    dataset = open_dataset(tmp_path / "in")
    assert len(found(dataset, "box-outside")) == 1
    summary = fix(dataset, tmp_path / "out", progress=False)
    assert summary.counts == {"box-clipped": 1}
    again = open_dataset(tmp_path / "out").with_fields("masks")
    assert again.format == to
    assert found(again, "box-outside") == []
    assert again.target(0).boxes.tolist() == [[50, 10, 64, pytest.approx(10 + 14 * 50 / 30 if to != "coco" else 48)]]
    assert (again.target(0).masks != dataset.with_fields("masks").target(0).masks).sum() <= 3
