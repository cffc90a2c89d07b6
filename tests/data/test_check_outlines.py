"""Rules about outlines and keypoints, and what the repaired copy does about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.data.check import check, fix
from sightline.data.columns import Blob
from sightline.data.dataset import Dataset
from sightline.data.formats import open_dataset
from sightline.errors import InputError
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
        ("[[1,2,9,2]]", "has a polygon of 2 points"),
        ("[[1,2,9,2,5,20],[4,4]]", "has a polygon of 1 points"),
        ("[[1,2,9,2,5,20,7]]", "has a polygon of 3.5 points"),
        ("[3]", "has an outline that is neither polygons nor an RLE"),
        ('{"size":[48]}', "has an RLE without size and counts"),
    ],
)
def test_broken_outlines(entry: str, what: str):
    (message,) = found(data([GOOD, entry, GOOD]), "outline-broken")
    assert message.startswith(f"000000.png: object 2 {what}; draw the outline anew; --fix removes it and keeps the box")
    with pytest.raises(InputError, match=r"000000\.png: segmentation 1: "):
        data([GOOD, entry, GOOD]).with_fields("masks").target(0)


def test_masks_of_another_size():
    dataset = data([GOOD, GOOD, SMALL])
    (message,) = found(dataset, "mask-size-differs")
    assert "000001.png: object 1 has a mask of 64 × 40 pixels, but the image is 64 × 48" in message
    assert check(dataset, progress=False).ok
    assert not check(dataset.with_fields("masks"), progress=False).ok
    with pytest.raises(InputError, match=r"segmentation 0 is of size \[40, 64\], but the image is \[48, 64\]; encode"):
        dataset.with_fields("masks").target(1)


def test_objects_without_outline_among_others():
    (message,) = found(data([GOOD, "", "", GOOD]), "outline-missing")
    assert message.startswith("2 of 4 objects have a box alone, the first in 000000.png")
    assert found(data(["", ""]), "outline-missing") == []


def test_keypoints_outside():
    points = np.zeros((2, 3, 3), np.float32)
    points[0] = [[5, 5, 2], [70, 5, 2], [5, -3, 1]]
    points[1] = [[-9, 90, 0], [64.2, 48, 2], [3, 3, 2]]  # absent; within rounding
    (message,) = found(data([GOOD, GOOD], points), "keypoint-outside")
    assert "object 1 has keypoint 1 at 70, 5 (and 1 more) in an image 64 wide and 48 high; move the point" in message
    points[1, 2, 0] = np.nan
    assert len(found(data([GOOD, GOOD], points), "keypoint-outside")) == 2


def test_the_repaired_copy_keeps_the_boxes(tmp_path: Path):
    summary = fix(data([GOOD, "[[1,2,9,2]]", SMALL, GOOD]), tmp_path / "out", progress=False)
    assert summary.counts == {"outline-broken": 1, "mask-size-differs": 1}
    assert "1 object left without outline (it enclosed nothing)" in str(summary)
    again = open_dataset(tmp_path / "out").with_fields("masks")
    assert again.columns.objects == 4
    assert [again.target(i).masks.any((1, 2)).tolist() for i in range(2)] == [[True, False], [False, True]]
