"""The places of a map's cells: against worked examples, and against the pixels that a cell's gradient lies at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.explain.grad_cam import GradCAM
from sightline.explain.hooks import captured
from sightline.explain.layers import default_layer, layer_named
from sightline.explain.method import enlarged, placed
from sightline.explain.placement import Axis, Cells, Placement
from sightline.explain.target import prepared
from sightline.models.detection.detector import Detector
from sightline.nn.layers.conv import SameConv2d
from sightline.ops.padding import mirror_pad
from sightline.structures import Size
from tests.explain.test_layers import model_of
from tests.models.test_contract import image


def cells_of(network: Callable[[Tensor], Tensor], size: Size = (64, 64)) -> Cells | None:
    inputs = torch.rand(1, 3, *size)
    with torch.no_grad(), Placement(inputs) as placement:
        return placement.cells(network(inputs))


def square(first: float, step: float, resolution: float | None = None) -> Cells:
    return Cells(Axis(first, step), Axis(first, step), step if resolution is None else resolution)


ONES = torch.ones(3, 3, 2, 2)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        # five convolutions with stride 2 and padding 1: the first cell is centred on the first pixel
        (nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(5))), square(0, 32)),
        (nn.Sequential(nn.Conv2d(3, 3, 7, 2, 3), nn.MaxPool2d(3, 2, 1)), square(0, 4)),
        (nn.Conv2d(3, 3, 16, 16), square(7.5, 16)),
        (nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2)), square(1.5, 4)),
        (nn.Conv2d(3, 3, 3, dilation=4), square(4, 1)),
        (nn.Conv2d(3, 3, (1, 5), (1, 2), (0, 1)), Cells(Axis(0, 1), Axis(1, 2), 2)),
        # the two pixels on the right and at the bottom that TensorFlow pads are not those on the left
        (lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), torch.ones(3, 3, 3, 3), stride=2), square(1, 2)),
        (SameConv2d(3, 3, 3, 2), square(1, 2)),
        (SameConv2d(3, 3, 5, 2), square(1, 2)),
        (lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2), square(0, 1, 2)),
        (lambda x: F.interpolate(x, size=(16, 16), mode="bilinear"), square(1.5, 4)),
        (lambda x: F.interpolate(x, size=(22, 22), mode="bilinear", align_corners=True), square(0, 3)),
        (lambda x: F.conv_transpose2d(F.conv2d(x, ONES, stride=2), ONES, stride=2), square(0, 1, 2)),
        (lambda x: F.pad(x, (3, 4, 5, 6))[:, :, 5:, 2:], Cells(Axis(0, 1), Axis(-1, 1))),
        (lambda x: x[..., -8:, :], Cells(Axis(56, 1), Axis(0, 1))),
        (lambda x: mirror_pad(x, 9, 0, 20, 1), Cells(Axis(-9, 1), Axis(-20, 1))),
        (lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1).relu() + 1, square(0.5, 2)),
        # a coarse map that was enlarged lies further to the left; the finer one counts
        (
            lambda x: F.conv2d(x, ONES, stride=2) + F.interpolate(F.conv2d(x, ONES, stride=4), scale_factor=2),
            square(0.5, 2),
        ),
        (lambda x: x.view(1, 1, 3, 64, 64).transpose(1, 2).reshape(1, 3, 64, 64), square(0, 1)),
    ],
)
def test_worked_places(network: Callable[[Tensor], Tensor], expected: Cells) -> None:
    assert cells_of(network) == expected


@pytest.mark.parametrize(
    "network",
    [
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.flatten(2).transpose(1, 2),
        lambda x: x.transpose(2, 3),
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: torch.rand(1, 3, 64, 64),
        lambda x: x.index_select(3, torch.tensor([], dtype=torch.long)),
        lambda x: F.max_pool2d(x, 2) + F.interpolate(F.max_pool2d(x, 2), scale_factor=2)[..., :32, :32],
    ],
)
def test_unknown_places(network: Callable[[Tensor], Tensor]) -> None:
    """Sums of all pixels, tokens, exchanged axes, maps that the image does not reach, no cells at all, cells at
    different distances.
    """
    assert cells_of(network) is None


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    """Random windows with equal weights, whose gradients are symmetric around a cell's centre."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 2))
        padding, dilation = draw(st.integers(0, kernel // 2)), draw(st.integers(1, 2))
        kind = draw(st.sampled_from(["conv", "average", "pad", "up"]))
        if kind == "conv":
            layers.append(nn.Conv2d(1, 1, kernel, stride, padding, dilation))
        elif kind == "average":
            layers.append(nn.AvgPool2d(kernel, stride, padding))
        elif kind == "pad":
            layers.append(nn.ZeroPad2d((kernel, padding, stride, dilation)))
        else:
            layers.append(nn.ConvTranspose2d(1, 1, max(kernel, stride), stride))  # no cells without a source
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.ones_(parameter)
    return nn.Sequential(*layers)


def centre_of_gradient(inputs: Tensor, values: Tensor) -> tuple[float, float]:
    """(y, x) of the mean pixel that a number depends on, weighted by the square of the gradient; 0 is the first."""
    (gradient,) = torch.autograd.grad(values, inputs, retain_graph=True)
    weight = gradient.double().square().sum((0, 1))
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in weight.shape)
    return float(weight.sum(1) @ rows / weight.sum()), float(weight.sum(0) @ columns / weight.sum())


@settings(max_examples=40, deadline=None)
@given(networks())
def test_the_centre_of_the_gradient(network: nn.Sequential) -> None:
    inputs = torch.rand(1, 1, 160, 161, requires_grad=True)
    with Placement(inputs) as placement:
        values = network(inputs)
        cells = placement.cells(values)
    assert cells is not None
    row, column = values.shape[-2] // 2, values.shape[-1] // 2
    steps = (values[..., row : row + 2, column : column + 2] / 4).sum()  # four cells: where a window misses no pixel
    y, x = centre_of_gradient(inputs, steps)
    if any(isinstance(layer, nn.ConvTranspose2d) for layer in network):
        assert y == pytest.approx(cells.y.first + (row + 0.5) * cells.y.step, abs=cells.y.step)
        assert x == pytest.approx(cells.x.first + (column + 0.5) * cells.x.step, abs=cells.x.step)
    else:
        assert y == pytest.approx(cells.y.first + (row + 0.5) * cells.y.step, abs=1e-3)
        assert x == pytest.approx(cells.x.first + (column + 0.5) * cells.x.step, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "size", "first", "step", "near"),
    [
        ("mobilenet_v2", (256, 288), 0, 32, 0.3),
        ("resnet18", (256, 288), 0, 32, 0.3),
        ("vgg11", (128, 160), 7.5, 16, 0.3),
        ("efficientnet_lite0", (256, 288), 31, 32, 0.3),
        ("googlenet", (256, 288), 22, 32, 0.3),
        ("densenet121", (256, 288), 14, 32, 0.3),
        ("sightline_n", (160, 160), 0, 8, 0.3),
        ("retinanet_mobilenet_v2_fpn", (96, 128), 0, 8, 0.3),
        ("unet", (64, 64), 7.5, 16, 0.3),
        ("unet", (100, 100), 7.5, 16, 0.3),
        ("fcn8s_vgg16", (64, 64), 12.5, 32, 1),
        ("fcn32s_vgg16", (96, 96), 12.5, 32, 1),
        ("deconvnet", (128, 160), 7.5, 16, 0.3),
    ],
)
def test_the_places_of_networks(name: str, size: Size, first: float, step: float, near: float) -> None:
    """The pixels that change a cell in the middle of the map most lie around its place."""
    model = model_of(name)
    layer, seen = layer_named(model, default_layer(model)), []
    pixels = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    hook = layer.register_forward_hook(lambda module, _, out: seen.append((out, placement.cells(out))))
    batch = prepared(model, image(*size)).with_copies(pixels)
    with Placement(pixels) as placement:
        model.candidates(batch) if isinstance(model, Detector) else model.network(pixels)
    hook.remove()
    ((values, cells),) = seen
    assert (cells.y.step, cells.x.step) == (step, step)
    if name != "unet":  # its unpadded convolutions begin left of the image
        assert (cells.y.first, cells.x.first) == (first, first)
    row, column = values.shape[-2] // 2, values.shape[-1] // 2
    y, x = centre_of_gradient(pixels, values[..., row, column].square().sum())
    assert y == pytest.approx(cells.y.first + row * step, abs=near * step)
    assert x == pytest.approx(cells.x.first + column * step, abs=near * step)


def test_heat_lies_where_the_cells_are() -> None:
    """One hot cell of a convolution with stride 8 and padding: its heat is highest at the pixel of its centre."""
    layer = nn.Conv2d(3, 2, 3, 8, 1)
    inputs = torch.rand(1, 3, 40, 48)
    with torch.no_grad(), placed(layer, inputs) as (maps, places):
        layer(inputs)
    assert maps[0].shape == (1, 2, 5, 6)
    assert places == [square(0, 8)]
    hot = torch.zeros(1, 1, 5, 6)
    hot[0, 0, 2, 3] = 1
    large = enlarged(hot, (40, 48), places[0])[0, 0]
    assert divmod(int(large.argmax()), 48) == (16, 24)
    assert float(large[16, 24]) == pytest.approx(1, abs=1e-5)
    assert float(large[16, 28]) == pytest.approx(0.5, abs=1e-5)
    corner = torch.zeros(1, 1, 5, 6)
    corner[0, 0, 4, 5] = 1
    assert float(enlarged(corner, (40, 48), places[0])[0, 0, -1, -1]) == pytest.approx(1, abs=1e-5)  # beyond its centre


def test_every_call_of_a_layer_has_its_places() -> None:
    """A head that several levels share is called once for each."""
    head, down = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 3, 3, 2, 1)
    inputs = torch.rand(1, 3, 16, 16)
    with torch.no_grad(), placed(head, inputs) as (maps, places):
        first = down(inputs)
        head(first)
        head(down(first))
    assert [tuple(own.shape[-2:]) for own in maps] == [(8, 8), (4, 4)]
    assert places == [square(0, 2), square(0, 4)]


def test_a_network_on_crops_has_its_own_rectangle() -> None:
    layer = nn.Conv2d(3, 1, 1)
    heat = GradCAM().explain(lambda x: layer(x).sum((1, 2, 3)), torch.rand(1, 3, 8, 8), layer, (2.0, 2.0, 6.0, 6.0))
    assert bool((heat[:2] == 0).all())
    assert bool((heat[:, 6:] == 0).all())


def test_captured_reports_what_the_layer_returned() -> None:
    layer, found = nn.Identity(), []
    values = torch.rand(1, 3, 4, 4)
    with captured(layer, lambda maps: maps * 2, found.append) as maps:
        layer(values)
    assert found[0] is values
    torch.testing.assert_close(maps[0], 2 * values)
