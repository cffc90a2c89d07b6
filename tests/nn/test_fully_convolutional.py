"""A classifier as convolutions equals the classifier on every window's crop."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.nn.backbones.alexnet import alexnet
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet import resnet18
from sightline.nn.backbones.vgg import VGG, vgg16
from sightline.nn.layers.fully_convolutional import FullyConvolutional, fully_convolutional, subsampled_convolution


def check_every_crop(network: nn.Module, converted: FullyConvolutional, image: Tensor) -> tuple[int, int]:
    """Each entry of the map against the network on the crop of its window; the map's size."""
    with torch.no_grad():
        found = converted(image)
        size = found.shape[-2], found.shape[-1]
        for row, line in enumerate(converted.windows(size).long().tolist()):
            for column, (x1, y1, x2, y2) in enumerate(line):
                wanted = network(image[:, :, y1:y2, x1:x2])
                torch.testing.assert_close(found[:, :, row, column], wanted, atol=2e-4, rtol=1e-3)
    return size


def without_padding(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    return network


def test_five_by_five_gives_one_output_and_more_gives_a_map() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(9, 1))
    converted = fully_convolutional(network)
    assert (converted.window, converted.stride) == (5, 1)
    assert check_every_crop(network, converted, torch.rand(2, 1, 5, 5)) == (1, 1)
    assert check_every_crop(network, converted, torch.rand(2, 1, 7, 9)) == (3, 5)
    assert converted[0](torch.rand(1, 1, 5, 5)).shape[-2:] == (3, 3)


def test_a_whole_network_without_padding() -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3)),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(32, 5, bias=False),
    ).eval()
    converted = fully_convolutional(network)
    assert (converted.window, converted.stride) == (27, 4)
    assert check_every_crop(network, converted, torch.rand(1, 3, 27 + 8, 30 + 12)) == (3, 4)


def test_averages_slide_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
    converted = fully_convolutional(network, 13)  # a map of 6×6, in 2×2 parts of 3×3
    assert check_every_crop(network, converted, torch.rand(1, 3, 21, 17)) == (5, 3)


@pytest.mark.parametrize("build", [alexnet, lambda **a: VGG((1, 1, 1, 1, 1), **a)])
def test_alexnet_and_vgg_on_every_crop_without_their_padding(build) -> None:  # type: ignore[no-untyped-def]
    network = build(num_classes=7, hidden=16).eval()
    converted = fully_convolutional(network, padding=False)
    assert converted.stride == 32
    image = torch.randn(1, 3, converted.window + 32, converted.window + 40)
    assert check_every_crop(without_padding(network), converted, image) == (2, 2)


def test_the_window_of_vgg16() -> None:
    network = vgg16(5, hidden=8)
    assert fully_convolutional(network).window == 224
    assert fully_convolutional(network, padding=False).window == 404
    assert network.features[0].padding == (1, 1)  # as it was


@pytest.mark.parametrize("build", [alexnet, lambda **a: VGG((1, 1, 1, 1, 1), **a)])
def test_with_padding_the_dense_layers_slide_over_the_map(build) -> None:  # type: ignore[no-untyped-def]
    network = build(num_classes=7, hidden=16).eval()
    converted = fully_convolutional(network, 224)
    assert check_every_crop(network, converted, torch.randn(2, 3, 224, 224)) == (1, 1)
    image = torch.randn(1, 3, 260, 290)
    with torch.no_grad():
        found, maps = converted(image), network.features(image)
        cells = network.avgpool.output_size
        assert found.shape[-2:] == (maps.shape[-2] - cells + 1, maps.shape[-1] - cells + 1)
        for row in range(found.shape[-2]):
            for column in range(found.shape[-1]):
                part = maps[:, :, row : row + cells, column : column + cells].flatten(1)
                torch.testing.assert_close(found[:, :, row, column], network.classifier(part), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("build", [resnet18, mobilenet_v2])
def test_networks_with_a_global_average(build) -> None:  # type: ignore[no-untyped-def]
    network = build(7).eval()
    converted = fully_convolutional(network, 96)
    assert converted.stride == 32
    assert check_every_crop(network, converted, torch.randn(2, 3, 96, 96)) == (1, 1)
    assert converted(torch.randn(1, 3, 160, 128)).shape == (1, 7, 3, 2)


def test_the_numbers_are_shared_not_copied() -> None:
    network = alexnet(7, hidden=16)
    converted = fully_convolutional(network)
    own = {p.data_ptr() for p in network.parameters()}
    assert {p.data_ptr() for p in converted.parameters()} == own


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="give window="):
        fully_convolutional(resnet18(3))
    with pytest.raises(InputError, match=r"gives a map \[256, 7, 7\]"):
        fully_convolutional(alexnet(3, hidden=8), 256)
    with pytest.raises(InputError, match="padding inside of BasicBlock"):
        fully_convolutional(resnet18(3), 96, padding=False)
    with pytest.raises(InputError, match="is no chain"):
        fully_convolutional(nn.Conv2d(3, 3, 3))
    with pytest.raises(InputError, match="BatchNorm1d between dense layers"):
        fully_convolutional(
            nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(9, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
        )
    with pytest.raises(InputError, match="no window up to"):
        fully_convolutional(nn.Sequential(nn.Conv2d(1, 1, 3, 64), nn.Flatten(), nn.Linear(7, 2)))


def test_a_dense_layer_subsampled_by_hand() -> None:
    """A dense layer of 8 outputs on 6 maps of 7 × 7 becomes 4 outputs on 3 maps, 3 × 3 taps three apart."""
    weight = torch.arange(8.0 * 6 * 49).view(8, 6 * 49)
    found = subsampled_convolution(weight, 7, (4, 3, 3, 3))
    assert found.shape == (4, 3, 3, 3)
    for o, c, y, x in itertools.product(range(4), range(3), range(3), range(3)):
        assert found[o, c, y, x] == weight[2 * o, 2 * c * 49 + 3 * y * 7 + 3 * x]
    one = subsampled_convolution(torch.arange(12.0).view(2, 6), 1, (1, 3, 1, 1))
    assert one.flatten().tolist() == [0, 2, 4]
    for shape in ((3, 3, 3, 3), (4, 4, 3, 3), (4, 3, 5, 5), (16, 3, 3, 3), (4, 12, 3, 3), (4, 3, 1, 1)):
        with pytest.raises(InputError, match="cannot be subsampled to a convolution"):
            subsampled_convolution(weight, 7, shape)
    with pytest.raises(InputError, match="cannot be subsampled"):
        subsampled_convolution(weight, 5, (4, 3, 3, 3))  # 6 · 49 inputs are no multiple of 25


def test_a_window_too_small_for_any_map_is_told() -> None:
    layers = [nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2)]
    with pytest.raises(InputError, match=r"a window of 4 pixels gives a map \[0, 0, 0\], which does not fit"):
        fully_convolutional(nn.Sequential(*layers), window=4)
    with pytest.raises(InputError, match=r"a window of 9 pixels gives a map \[4, 5, 5\]"):
        fully_convolutional(nn.Sequential(*layers), window=9)
    assert fully_convolutional(nn.Sequential(*layers)).window == 7  # 7 − 4 = 3 cells
