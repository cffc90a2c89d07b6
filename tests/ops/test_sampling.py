"""Values of maps between their cells, against grid_sample and by hand."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sightline.ops.sampling import values_at


def test_values_are_those_of_grid_sample():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64)
    images = torch.tensor([1, 0, 1])
    positions = torch.rand(3, 4, 2, generator=generator, dtype=torch.float64) * torch.tensor([9.0, 7.0]) - 1
    grid = positions / torch.tensor([7.0, 5.0]) * 2 - 1
    expected = F.grid_sample(maps[images], grid[:, None], "bilinear", "border", align_corners=False)
    assert ((positions < 0) | (positions > torch.tensor([7.0, 5.0]))).any(), "some positions lie outside"
    torch.testing.assert_close(values_at(maps, images, positions), expected[:, :, 0].transpose(1, 2))


def test_a_cell_has_its_value_at_its_centre_and_mixes_halfway():
    maps = torch.tensor([[[[1.0, 3.0], [5.0, 11.0]]]])
    positions = torch.tensor([[[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [9.0, 9.0]]])
    assert values_at(maps, torch.tensor([0]), positions).flatten().tolist() == [1.0, 2.0, 5.0, 11.0]


def test_gradients_reach_the_map():
    maps = torch.zeros(1, 1, 2, 2, requires_grad=True)
    values_at(maps, torch.tensor([0]), torch.tensor([[[1.0, 0.75]]])).sum().backward()
    torch.testing.assert_close(maps.grad, torch.tensor([[[[0.375, 0.375], [0.125, 0.125]]]]))
    assert values_at(maps, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, 2)).shape == (0, 3, 1)
