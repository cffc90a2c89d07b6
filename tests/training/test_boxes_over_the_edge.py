"""Objects that leave their image are learnt as far as they lie in it, whatever the augmentation, and validated so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sightline.data.check import check
from sightline.data.dataset import Dataset
from sightline.data.transforms import Compose, Mosaic, ZoomOut, recipes
from sightline.data.transforms.targets import within_image
from sightline.structures import ClassScores, Instances
from sightline.training.loader import EpochBatches, make_loader

SIZE = (40, 60)
BOXES = [[50.0, 10, 80, 30], [-10, -10, 10, 10], [10, 10, 20, 20], [60, 5, 90, 15], [5, -8, 20, 0], [-9, -9, 99, 99]]
CLIPPED = [[50.0, 10, 60, 30], [0, 0, 10, 10], [10, 10, 20, 20], [0, 0, 60, 40]]


def data() -> Dataset:
    target = Instances(SIZE, boxes=BOXES, labels=[0] * len(BOXES))
    images = [np.full((3, *SIZE), 9 * i, np.uint8) for i in range(4)]
    return Dataset.from_instances(images, [target] * 4, ["a"])


def test_boxes_areas_and_keypoints_by_hand():
    points = torch.zeros(6, 2, 3)
    points[0] = torch.tensor([[55.0, 15, 2], [70, 15, 2]])
    points[1] = torch.tensor([[60.0, 5, 1], [59, 39, 1]])  # x = 60 lies beyond the last column
    target = Instances(SIZE, boxes=BOXES, labels=range(6), areas=[300.0, 400, 100, 1, 1, 1000], keypoints=points)
    inside = within_image(target)
    assert inside.boxes.tolist() == CLIPPED
    assert inside.labels.tolist() == [0, 1, 2, 5]
    # 10 × 20 of 30 × 20 are seen, 10 × 10 of 20 × 20, all, 60 × 40 of 108 × 108
    assert inside.areas.tolist() == pytest.approx([100, 100, 100, 1000 * 2400 / 11664])
    assert inside.keypoints[0].tolist() == [[55, 15, 2], [0, 0, 0]]
    assert inside.keypoints[1].tolist() == [[0, 0, 0], [59, 39, 1]]
    assert within_image(inside) is inside
    empty, score = Instances(SIZE), ClassScores(SIZE, 0)
    assert within_image(empty) is empty
    assert within_image(score) is score


@pytest.mark.parametrize(("size", "clipped"), [((100, 20), [0, 0, 20, 10]), ((20, 100), [0, 0, 50, 10])])
def test_width_is_width(size, clipped):
    """A box 50 wide and 10 high: over the edge of an image of 20 × 100, but not of one of 100 × 20."""
    target = Instances(size, boxes=[[0.0, 0, 50, 10]], labels=[0])
    assert within_image(target).boxes.tolist() == [clipped]
    high = Instances(size[::-1], boxes=[[0.0, 0, 10, 50]], labels=[0])
    assert within_image(high).boxes.tolist() == [[clipped[1], clipped[0], clipped[3], clipped[2]]]


def test_the_area_of_a_mask_stays():
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    masks[0, 10:30, 50:] = True
    inside = within_image(Instances(SIZE, boxes=BOXES[:1], labels=[0], areas=[200.0], masks=masks))
    assert inside.areas.tolist() == [200]
    assert inside.boxes.tolist() == CLIPPED[:1]


def test_what_rounding_leaves_inside_is_no_object():
    assert len(within_image(Instances(SIZE, boxes=[[59.99999, 5, 90, 15]], labels=[0]))) == 0
    assert len(within_image(Instances(SIZE, boxes=[[5, 5, 5.0005, 15]], labels=[0]))) == 1  # as it was drawn


@pytest.mark.parametrize("name", recipes.NAMES)
def test_every_recipe_gives_boxes_in_their_image(name: str):
    order = EpochBatches(4, 4, 0)
    for epoch in range(6):
        order.begin(epoch)
        for batch in make_loader(data(), order, recipes.named(name), 0, size=(48, 48)):
            for image, target in zip(*batch.to("cpu"), strict=True):
                height, width = target.image_size
                assert (height, width) == tuple(image.shape[1:])
                boxes = target.boxes
                assert (boxes[:, :2] >= 0).all()
                assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
                assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_without_augmentation_as_in_validation_boxes_are_the_clipped_ones():
    (batch,) = make_loader(data(), EpochBatches(4, 4, 0, shuffle=False), None, 0)
    assert [t.boxes.tolist() for t in batch.to("cpu")[1]] == [CLIPPED] * 4


def test_a_picture_zoomed_out_has_boxes_on_the_picture_not_on_the_fill():
    image = torch.full((3, *SIZE), 255, dtype=torch.uint8)
    target = Instances(SIZE, boxes=BOXES[:1], labels=[0])
    for transform in (Compose([ZoomOut((2.0, 2.0), p=1)]), Mosaic(scale=(0.4, 0.4), flip=0, p=0, size=SIZE)):
        for seed in range(5):
            out, moved = transform(image, target, np.random.default_rng(seed))
            rows, columns = (out[0] == 255).nonzero().unbind(1)
            # the object reaches the picture's right border, and no further
            assert float(moved.boxes[0, 2]) == pytest.approx(int(columns.max()) + 1, abs=1)
            assert int(rows.min()) <= float(moved.boxes[0, 1]) < float(moved.boxes[0, 3]) <= int(rows.max()) + 1


def test_evaluation_keeps_labels_as_they_are_and_check_tells_of_them():
    assert data().target(0).boxes.tolist() == BOXES
    found = [p.message for p in check(data(), progress=False).problems if p.rule == "box-outside"]
    outside = [message for message in found if "wholly outside an image" in message]
    assert (len(found), len(outside)) == (5 * 4, 2 * 4)
    assert "ignores boxes that are entirely outside" in found[0]
