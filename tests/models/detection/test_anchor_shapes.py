"""The widths and heights of each model's anchors in the pixels of an image, by hand: what data are compared with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sightline.models.creation import create_model
from sightline.models.detection.efficientdet import EfficientDet
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.grid_sliding import GridSettings, GridSliding
from sightline.models.detection.overfeat import OverFeat
from sightline.models.detection.pp_yolo import PPYOLO
from sightline.models.detection.retinanet import RetinaNet
from sightline.models.detection.sliding_window import SlidingWindow
from sightline.models.detection.ssd import SSD
from sightline.models.preprocess import Preprocess

HALVED = Preprocess(min_size=60, max_size=200, divisor=1)  # an image of 120 × 240 is seen at 60 × 120
BASES = [torch.tensor([[-8.0, -4.0, 8.0, 4.0]]), torch.tensor([[-1.0, -3.0, 1.0, 3.0]])]


def test_anchors_of_an_image_that_is_seen_half_as_large() -> None:
    """16 × 8 and 2 × 6 pixels inside the network are 32 × 16 and 4 × 12 of the image's own."""
    assert HALVED.resized((120, 240)) == (60, 120)
    wanted = [[32, 16], [4, 12]]
    dense = SimpleNamespace(anchor_bases=BASES, preprocess=HALVED)
    two_stages = SimpleNamespace(rpn=SimpleNamespace(anchor_bases=BASES), preprocess=HALVED)
    assert RetinaNet.anchor_shapes(dense, (120, 240)).tolist() == wanted  # type: ignore[arg-type]
    assert EfficientDet.anchor_shapes(dense, (120, 240)).tolist() == wanted  # type: ignore[arg-type]
    assert FasterRCNN.anchor_shapes(two_stages, (120, 240)).tolist() == wanted  # type: ignore[arg-type]


def test_windows_of_an_image_that_is_seen_half_as_large() -> None:
    """A window of side 32 and height / width 4 is 16 wide and 64 high; twice that in the image."""
    settings = SimpleNamespace(sizes=(32, 10), ratios=(4.0,), scales=(1.0, 2.0))
    window = SimpleNamespace(settings=settings, preprocess=HALVED, window=50)
    found = SlidingWindow.anchor_shapes(window, (120, 240))  # type: ignore[arg-type]
    assert found.tolist() == [[32, 128], [10, 40]]
    found = OverFeat.anchor_shapes(window, (120, 240))  # type: ignore[arg-type]
    assert found.tolist() == [[100, 100], [50, 50]]  # on the image twice as large a window sees half as much


def test_shapes_that_are_parts_of_the_image() -> None:
    squared = Preprocess(fixed_size=(50, 50))
    pixels = SimpleNamespace(shapes=[torch.tensor([[10.0, 20.0]]), torch.tensor([[5.0, 5.0]])], preprocess=squared)
    found = PPYOLO.anchor_shapes(pixels, (100, 200))  # type: ignore[arg-type]
    assert found.tolist() == [[40, 40], [20, 10]]  # four times as wide as the network sees it, and twice as high
    boxes = SimpleNamespace(shapes=[torch.tensor([[0.5, 0.25]]), torch.tensor([[1.0, 0.1]])])
    found = SSD.anchor_shapes(boxes, (100, 200))  # type: ignore[arg-type]
    assert found.flatten().tolist() == pytest.approx([100, 25, 200, 10])
    grid = SimpleNamespace(settings=GridSettings(cells=8, regions=(2, 4)))
    found = GridSliding.anchor_shapes(grid, (80, 160))  # type: ignore[arg-type]
    assert found.tolist() == [[40, 20], [80, 40]]


@pytest.mark.parametrize(
    ("name", "arguments"), [("ssd_mobilenet_v1", {"width": 0.25}), ("ssdlite320_mobilenet_v2", {})]
)
def test_sides_of_the_default_boxes_on_mobilenets(name: str, arguments: dict[str, float]) -> None:
    """Six sides evenly from 0.2 to 0.95 of the image, each also as √(s · the next), the last one's next being 1."""
    shapes = create_model(name, ["a"]).shapes
    sides = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    for level in range(1, 6):
        side, following = sides[level : level + 2]
        wanted = [(side, side), ((side * following) ** 0.5,) * 2]
        wanted += [(side * r**0.5, side / r**0.5) for r in (2, 1 / 2, 3, 1 / 3)]
        wanted = [(min(1.0, w), min(1.0, h)) for w, h in wanted]  # none is larger than the image
        assert shapes[level].tolist() == [pytest.approx(pair, abs=1e-6) for pair in wanted]
    first = [(0.2 * r**0.5, 0.2 / r**0.5) for r in (2, 1 / 2)]
    if name == "ssd_mobilenet_v1":  # three boxes on the finest map, the first of them a tenth
        assert shapes[0].tolist() == [pytest.approx(pair, abs=1e-6) for pair in [(0.1, 0.1), *first]]
    else:
        assert shapes[0][2:4].tolist() == [pytest.approx(pair, abs=1e-6) for pair in first]
