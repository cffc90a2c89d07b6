"""The exporter's form of layers that behave differently while they are exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.nn.layers.conv import SameConv2d, missing_pixels


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 24), (17, 22)], ids=["even", "odd"])
def test_padding_same_is_exported_for_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(SameConv2d(2, 3, 3, 2), SameConv2d(3, 2, 5, 2), SameConv2d(2, 2, 3, 1)).eval()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(layers, (torch.rand(1, 2, 40, 48),), dynamic_shapes=(free,))
        x = torch.rand(1, 2, *size)
        torch.testing.assert_close(program.module()(x), layers(x), atol=1e-5, rtol=0)


def test_missing_pixels() -> None:
    axes = [(8, 3, 2), (9, 3, 2), (8, 5, 2), (8, 3, 1), (8, 1, 2)]
    assert [missing_pixels(*axis) for axis in axes] == [1, 2, 3, 2, 0]
