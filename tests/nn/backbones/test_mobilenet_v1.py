"""MobileNet v1: its published counts by width, its maps, its convolutions against a loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.backbones.mobilenet_v1 import SeparableConv, mobilenet_v1
from sightline.runtime.shapes import shapes_only


@pytest.mark.parametrize(
    ("width", "count", "millions"),  # the published networks' learning parameters; the paper's table 6
    [(1.0, 4_231_976, 4.2), (0.75, 2_585_560, 2.6), (0.5, 1_331_592, 1.3), (0.25, 470_072, 0.5)],
)
def test_parameter_counts_are_the_published_ones(width: float, count: int, millions: float) -> None:
    with shapes_only():
        found = sum(p.numel() for p in mobilenet_v1(width=width).parameters())
        model = create_model("mobilenet_v1", [str(i) for i in range(1000)], width=width)
    assert found == count == sum(p.numel() for p in model.parameters())
    assert round(found / 1e6, 1) == millions


@pytest.mark.parametrize(("width", "millions"), [(1.0, 569), (0.75, 325), (0.5, 149), (0.25, 41)])
def test_multiplications_are_those_of_the_paper_s_table_6(width: float, millions: int) -> None:
    with shapes_only():
        net = mobilenet_v1(width=width).eval()
    counts = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda m, a, out: counts.append(out.numel() * m.weight[0].numel()))
    net(torch.empty(1, 3, 224, 224, device="meta"))
    assert sum(counts) / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize(("channels", "width"), [(1, 1.0), (4, 0.25)])
def test_maps_have_the_channels_and_strides_they_say(channels: int, width: float) -> None:
    net = mobilenet_v1(in_channels=channels, width=width).eval()
    assert [(s.channels, s.stride) for s in net.stages] == [
        (int(c * width), s) for c, s in ((64, 2), (128, 4), (256, 8), (512, 16), (1024, 32))
    ]
    with torch.inference_mode():
        out = FeatureMaps(net.layers(), net.stages)(torch.rand(2, channels, 96, 64))
    for x, stage in zip(out.values(), net.stages, strict=True):
        assert x.shape == (2, stage.channels, 96 // stage.stride, 64 // stage.stride)
    assert net.last_channels == net.stages[-1].channels == net.classifier[1].in_features


def test_a_separable_convolution_by_a_loop() -> None:
    torch.manual_seed(0)
    layer = SeparableConv(3, 4, 2, nn.BatchNorm2d).eval()
    for norm in (layer[0][1], layer[1][1]):
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(value, 0.5, 2)
    x = torch.randn(1, 3, 5, 5)

    def act(norm: nn.BatchNorm2d, value: float, c: int) -> float:
        scale = float(norm.weight[c]) / (float(norm.running_var[c]) + norm.eps) ** 0.5
        return min(max((value - float(norm.running_mean[c])) * scale + float(norm.bias[c]), 0.0), 6.0)

    with torch.no_grad():
        found = layer(x)
        assert found.shape == (1, 4, 3, 3)
        for i in range(3):
            for j in range(3):
                filtered = []
                for c in range(3):
                    total = 0.0
                    for di in range(3):
                        for dj in range(3):
                            row, column = 2 * i + di - 1, 2 * j + dj - 1
                            if 0 <= row < 5 and 0 <= column < 5:
                                total += float(layer[0][0].weight[c, 0, di, dj] * x[0, c, row, column])
                    filtered.append(act(layer[0][1], total, c))
                for o in range(4):
                    mixed = sum(float(layer[1][0].weight[o, c, 0, 0]) * filtered[c] for c in range(3))
                    assert float(found[0, o, i, j]) == pytest.approx(act(layer[1][1], mixed, o), abs=1e-5)


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_a_width_that_it_cannot_have(width: float) -> None:
    with shapes_only(), pytest.raises(InputError, match=f"width is {width}, but must be above 0"):
        create_model("mobilenet_v1", ["a"], width=width)


def test_its_weights_load_into_ssd(tmp_path) -> None:  # type: ignore[no-untyped-def]
    classifier = create_model("mobilenet_v1", ["a", "b"], width=0.25)
    torch.save(classifier.network.state_dict(), tmp_path / "trained.pth")
    model = create_model("ssd_mobilenet_v1", ["x"], weights=tmp_path / "trained.pth", width=0.25)
    wanted, found = list(classifier.network.features), [*model.backbone.features[0], *model.backbone.features[1]]
    assert len(wanted) == len(found) == 14
    for a, b in zip(wanted, found, strict=True):
        for key, value in a.state_dict().items():
            assert torch.equal(b.state_dict()[key], value) or key.endswith("num_batches_tracked")
    assert all("classifier" in entry for entry in model.weights_report.left_out)
