"""Grids over boxes: points, targets and the way back, against loops over pixels and in a round trip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.mask_grids import grid_coordinates, grown_boxes, paste_grids, sample_masks


def test_coordinates_are_the_centres_of_cells() -> None:
    x, y = grid_coordinates(4)
    assert x[0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert torch.equal(x, y.T)
    assert torch.equal(x[0], x[3])


def test_grown_boxes() -> None:
    assert grown_boxes(torch.tensor([[10.0, 20, 30, 60]]), 0.1).tolist() == [[8, 16, 32, 64]]


def test_sampled_masks_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 20, 30, generator=generator) > 0.5
    boxes = torch.tensor([[2.3, 1.1, 14.9, 17.2], [-4.0, -3.0, 10.0, 9.0], [20.0, 10.0, 36.5, 24.5], [5, 5, 5, 5]])
    objects = torch.tensor([2, 0, 1, 1])
    found = sample_masks(masks, objects, boxes, 5)
    assert found.dtype == torch.float32
    for p, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for i in range(5):
            for j in range(5):
                x, y = x1 + (x2 - x1) * (j + 0.5) / 5 - 0.5, y1 + (y2 - y1) * (i + 0.5) / 5 - 0.5
                wanted = 0.0
                for row in range(20):
                    for column in range(30):
                        weight = max(1 - abs(x - column), 0) * max(1 - abs(y - row), 0)
                        wanted += weight * float(masks[objects[p], row, column])
                assert float(found[p, i, j]) == pytest.approx(wanted, abs=1e-5)


def value_at(grid: Tensor, x: float, y: float) -> float:
    """Bilinear interpolation at (x, y) in units of cells from the grid's corner; beyond its points, the nearest."""
    size = len(grid)
    x, y = min(max(x - 0.5, 0), size - 1), min(max(y - 0.5, 0), size - 1)
    left, top = min(int(x), size - 2), min(int(y), size - 2)
    a, b = x - left, y - top
    upper = (1 - a) * grid[top, left] + a * grid[top, left + 1]
    lower = (1 - a) * grid[top + 1, left] + a * grid[top + 1, left + 1]
    return float((1 - b) * upper + b * lower)


def test_pasted_grids_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor(
        [[3.2, 2.7, 17.9, 15.1], [-5.0, -2.5, 6.5, 8.0], [22.0, 12.0, 41.0, 30.0], [9.1, 9.1, 9.3, 9.3], [40, 3, 50, 9]]
    )
    logits = torch.randn(5, 4, 4, generator=generator)
    found = paste_grids(logits, boxes, (20, 30))
    assert found.shape == (5, 20, 30)
    assert found.dtype == torch.bool
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for row in range(20):
            for column in range(30):
                x, y = column + 0.5, row + 0.5
                within = x1 <= x < x2 and y1 <= y < y2
                wanted = within and value_at(logits[n], (x - x1) / (x2 - x1) * 4, (y - y1) / (y2 - y1) * 4) > 0
                assert bool(found[n, row, column]) == wanted, (n, row, column)


def test_many_boxes_are_pasted_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(40, 2, generator=generator) * 180
    boxes = torch.cat([corners, corners + torch.rand(40, 2, generator=generator) * 160 + 1], 1)
    logits = torch.randn(40, 7, 7, generator=generator)
    together = paste_grids(logits, boxes, (200, 220))
    apart = [paste_grids(logits[i : i + 1], boxes[i : i + 1], (200, 220)) for i in range(40)]
    assert torch.equal(together, torch.cat(apart))
    assert paste_grids(logits[:0], boxes[:0], (200, 220)).shape == (0, 200, 220)


def ellipse(box: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    x1, y1, x2, y2 = box
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return (((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2) < 0.25


@pytest.mark.parametrize("box", [(10.4, 7.8, 33.1, 28.9), (3.0, 4.0, 50.5, 44.0), (20.2, 20.1, 31.9, 33.3)])
def test_a_mask_survives_the_round_trip_without_a_shift(box: tuple[float, float, float, float]) -> None:
    mask = ellipse(box, (50, 60))[None]
    boxes = grown_boxes(torch.tensor([box]), 0.1)
    back = paste_grids(sample_masks(mask, torch.tensor([0]), boxes, 28) - 0.5, boxes, (50, 60))
    assert (mask & back).sum() / (mask | back).sum() > 0.95
    y, x = torch.meshgrid(torch.arange(50.0), torch.arange(60.0), indexing="ij")
    for place in (x, y):  # the centres of mass agree to a small part of a pixel
        assert float(place[mask[0]].mean()) == pytest.approx(float(place[back[0]].mean()), abs=0.1)


def test_grids_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"logits \[2, 4, 4\] do not fit 1 boxes; give \[N, M, M\], one per box"):
        paste_grids(torch.zeros(2, 4, 4), torch.zeros(1, 4), (8, 8))
