"""DeconvNet and SegNet: published numbers, and unpooling to the positions of one's own poolings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.models.segmentation.deconvnet import blocks, deconvnet
from sightline.models.segmentation.segnet import segnet
from sightline.models.weights import load_weights
from sightline.nn.backbones.vgg import vgg16_bn
from sightline.runtime.shapes import shapes_only

NAMES = ["ground", "circle", "square"]


@pytest.mark.parametrize(("builder", "classes", "wanted"), [(deconvnet, 21, 251_805_653), (segnet, 11, 29_449_355)])
def test_published_parameters(builder, classes: int, wanted: int) -> None:
    with shapes_only():
        model = builder([str(i) for i in range(classes)])
    assert sum(p.numel() for p in model.parameters()) == wanted


def test_the_way_up_mirrors_the_way_down() -> None:
    network = segnet(NAMES, width=2).network
    down = [[(m.in_channels, m.out_channels) for m in b.modules() if isinstance(m, nn.Conv2d)] for b in network.encoder]
    up = [[(m.in_channels, m.out_channels) for m in b.modules() if isinstance(m, nn.Conv2d)] for b in network.decoder]
    up[-1].append((2, 2))  # the scores'
    down[0][0] = (2, 2)
    assert up == [[(b, a) for a, b in reversed(block)] for block in reversed(down)]
    assert network.score.kernel_size == (3, 3)


def test_values_go_back_to_where_the_maxima_were() -> None:
    """With layers that change nothing, a map comes back with its maxima alone."""
    network = segnet(NAMES, width=2).network
    for part in (network.encoder, network.decoder):
        for number in range(5):
            part[number] = nn.Identity()
    network.score = nn.Identity()
    x = torch.rand(1, 2, 64, 96)
    found = network(x)
    best = nn.functional.max_pool2d(x, 32).repeat_interleave(32, 2).repeat_interleave(32, 3)
    assert torch.equal(found, torch.where(x == best, x, 0))


def test_images_smaller_than_the_window_are_padded() -> None:
    network = deconvnet(NAMES, window=3, hidden=4, width=2).network.eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 128)).shape == (2, 3, 32, 128)


def test_classifier_weights_load() -> None:
    net = vgg16_bn(5, hidden=8, width=2)
    down = deconvnet(NAMES, hidden=8, width=2)
    report = load_weights(down, net.state_dict(), "vgg.pth")
    assert [entry.split()[0] for entry in report.left_out] == ["classifier.6.weight", "classifier.6.bias"]
    assert torch.equal(down.network.middle[0].weight.flatten(1), net.classifier[0].weight)
    assert torch.equal(down.network.middle[3].weight.flatten(1), net.classifier[3].weight)
    plain = segnet(NAMES, width=2)
    load_weights(plain, net.state_dict(), "vgg.pth")
    for ours, theirs in zip(plain.network.encoder, blocks(net), strict=True):
        assert torch.equal(ours[0].weight, theirs[0].weight)
