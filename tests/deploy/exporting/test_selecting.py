"""Selection with fixed shapes: the same detections as the selection of the library."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sightline.deploy.exporting.operators import LEAST, kept_by_nms
from sightline.deploy.exporting.selecting import selected
from sightline.errors import InputError
from sightline.models.detection.candidates import DenseCandidates, Selection, select

SIZE = (60, 80)


def candidates(images: int = 2, classes: int = 3, counts: tuple[int, ...] = (30, 12)) -> DenseCandidates:
    """Random boxes that often overlap; some leave the image."""
    generator = torch.Generator().manual_seed(3)
    places = sum(counts)
    corner = torch.rand(images, places, 2, generator=generator) * torch.tensor([80.0, 60.0]) - 5
    sides = torch.rand(images, places, 2, generator=generator) * 30 + 1
    logits = torch.randn(images, places, classes, generator=generator)
    boxes = torch.cat([corner, corner + sides], -1)
    return DenseCandidates(boxes, logits, logits.sigmoid(), boxes[0], counts)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(0.3, 10, "level", nms_iou=0.4, max_detections=8),
        Selection(0.3, 10, "class", nms_iou=0.4, max_detections=8),
        Selection(0.3, 10, "image", nms_iou=0.4, max_detections=100),
        Selection(0.5, None, nms_iou=0.3, max_detections=None),
        Selection(0.5, 500, "image", nms_iou=0.3, min_size=9.0),
        Selection(0.2, 20, "level", nms_iou=0.2, per_class=False, per_level=True),
        Selection(-1.0, nms_iou=None, max_detections=1),
        Selection(2.0, 10, nms_iou=0.5),
    ],
    ids=["level", "class", "image", "no limit", "least side", "within levels", "best alone", "none"],
)
def test_the_same_detections(selection: Selection) -> None:
    found = candidates()
    chosen = selected(found, selection, torch.tensor(SIZE))
    for i, own in enumerate(found.of_images([SIZE] * 2)):
        rows, classes = select(own, selection)
        there = chosen.scores[i] > LEAST
        assert int(there.sum()) == len(rows)
        assert bool(there[: len(rows)].all())  # the places without a detection come last
        assert chosen.places[i, : len(rows)].tolist() == rows.tolist()
        assert chosen.labels[i, : len(rows)].tolist() == classes.tolist()
        torch.testing.assert_close(chosen.boxes[i, : len(rows)], own.boxes_of(rows, classes), atol=0, rtol=0)
        torch.testing.assert_close(chosen.scores[i, : len(rows)], own.scores[rows, classes], atol=0, rtol=0)


def test_a_method_that_has_no_fixed_shape_is_refused() -> None:
    with pytest.raises(InputError, match="selected by merging, which is not exported"):
        selected(candidates(), replace(Selection(), method="merging"), torch.tensor(SIZE))


def test_places_without_a_box_are_never_kept() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]])
    kept = kept_by_nms(boxes, torch.tensor([[0.9, 0.8, -1.0]]), torch.zeros(1, 3, dtype=torch.int64), 1, 0.5)
    assert kept.tolist() == [[True, False, False]]
    apart = kept_by_nms(boxes, torch.tensor([[0.9, 0.8, -1.0]]), torch.tensor([[0, 1, 0]]), 2, 0.5)
    assert apart.tolist() == [[True, True, False]]
