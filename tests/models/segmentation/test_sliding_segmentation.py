"""Segmentation by a sliding window: a pass for each pixel and one convolution give the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import InputError
from sightline.models.segmentation.sliding_segmentation import SlidingNetwork, sliding_segmentation
from sightline.runtime.shapes import shapes_only

NAMES = ["ground", "circle", "square"]


def test_patches_equal_the_convolution() -> None:
    model = sliding_segmentation(NAMES, width=3, hidden=5).eval()
    network, x = model.network, torch.rand(2, 3, 7, 12)
    with torch.no_grad():
        as_convolution = network(x)
        network.mode = "patches"
        assert as_convolution.shape == (2, 3, 7, 12)
        torch.testing.assert_close(network(x), as_convolution, atol=1e-5, rtol=1e-4)
        # and a pixel's crop, cut by hand where nothing is mirrored
        big = torch.rand(1, 3, 40, 41)
        wanted = network.classifier(big[:, :, 2:35, 5:38])
        network.mode = "convolution"
        torch.testing.assert_close(network(big)[:, :, 18, 21], wanted, atol=1e-5, rtol=1e-4)


def test_poolings_of_other_sizes_and_odd_maps() -> None:
    classifier = nn.Sequential(
        *(nn.Conv2d(1, 2, 2, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(2, 3, 2), nn.MaxPool2d(2, 2)),
        *(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
    )  # 11 → 10 → 4 → 3 → 1
    network, x = SlidingNetwork(classifier, 11), torch.rand(1, 1, 6, 5)
    with torch.no_grad():
        wanted = network(x)
        network.mode, network.chunk = "patches", 7
        torch.testing.assert_close(network(x), wanted)


def test_the_cost_that_is_told() -> None:
    with shapes_only():
        network = sliding_segmentation(NAMES).network.eval()
        flops = []
        for part, size in ((network.classifier, (33, 33)), (network, (480, 640))):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                part(torch.empty(1, 3, *size))
            flops.append(counter.get_total_flops() / 2)
    assert flops[0] == pytest.approx(6.8e6, rel=0.01)
    assert flops[0] * 307_200 == pytest.approx(2.1e12, rel=0.01)
    assert flops[1] == pytest.approx(0.064e12, rel=0.01)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="mode is 'fast', but there are 'convolution' and 'patches'"):
        sliding_segmentation(NAMES, mode="fast")
