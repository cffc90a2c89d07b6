"""Warped regions against loops over pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sightline.ops.warping import warp_regions


def naive(image: Tensor, box: list[float], size: int, context: float) -> Tensor:
    """One region: the square's inner part shows the box, its border the surroundings; outside the image is 0."""
    channels, height, width = image.shape
    x1, y1, x2, y2 = box
    inner = size * (1 - 2 * context)  # the side that shows the box, in output pixels
    out = torch.zeros(channels, size, size, dtype=image.dtype)
    for row in range(size):
        for column in range(size):
            x = x1 + (column + 0.5 - size * context) / inner * (x2 - x1) - 0.5
            y = y1 + (row + 0.5 - size * context) / inner * (y2 - y1) - 0.5
            for iy in (math.floor(y), math.floor(y) + 1):
                for ix in (math.floor(x), math.floor(x) + 1):
                    if 0 <= iy < height and 0 <= ix < width:
                        out[:, row, column] += image[:, iy, ix] * (1 - abs(x - ix)) * (1 - abs(y - iy))
    return out


@pytest.mark.parametrize("context", [0.0, 16 / 227, 0.25])
def test_by_loops(context: float) -> None:
    image = torch.rand(2, 13, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    boxes = [[2.0, 3.0, 9.0, 12.0], [0, 0, 17, 13], [-4, 5, 3, 20], [4.3, 4.1, 4.9, 6.2], [30, 30, 40, 40]]
    found = warp_regions(image, torch.tensor(boxes, dtype=torch.float64), 7, context)
    assert found.shape == (5, 2, 7, 7)
    for region, box in zip(found, boxes, strict=True):
        torch.testing.assert_close(region, naive(image, box, 7, context), atol=1e-9, rtol=1e-9)


def test_a_region_of_that_size_is_copied() -> None:
    image = torch.rand(3, 20, 30)
    found = warp_regions(image, torch.tensor([[5.0, 2.0, 13.0, 10.0]]), 8)
    torch.testing.assert_close(found[0], image[:, 2:10, 5:13], atol=1e-5, rtol=1e-5)
    framed = warp_regions(image, torch.tensor([[7.0, 4.0, 11.0, 8.0]]), 8, 0.25)  # two pixels around
    torch.testing.assert_close(framed, found, atol=1e-5, rtol=1e-5)


def test_no_regions_and_empty_regions() -> None:
    image = torch.rand(3, 5, 5)
    assert warp_regions(image, torch.zeros(0, 4), 8).shape == (0, 3, 8, 8)
    assert warp_regions(image, torch.tensor([[2.5, 2.5, 2.5, 2.5]]), 4).isfinite().all()
