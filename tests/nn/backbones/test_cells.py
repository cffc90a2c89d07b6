"""DenseNet, SqueezeNet, Xception, NASNet-A and EfficientNet v2: their blocks by hand, and older files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.saving import save
from sightline.nn.backbones.densenet import DenseBlock
from sightline.nn.backbones.efficientnet import MBConv
from sightline.nn.backbones.efficientnet_v2 import FusedMBConv, efficientnet_v2_s
from sightline.nn.backbones.nasnet import NORMAL, REDUCTION, Cell, NASNet, Pool
from sightline.nn.backbones.squeezenet import squeezenet1_1
from sightline.nn.backbones.xception import Module, xception
from sightline.runtime.shapes import shapes_only


def test_a_dense_layer_reads_all_maps_before() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(3, 5, 2, nn.BatchNorm2d).eval(), torch.randn(1, 5, 4, 4)
    first = block["denselayer1"](x)
    second = block["denselayer2"](torch.cat([x, first], 1))
    third = block["denselayer3"](torch.cat([x, first, second], 1))
    torch.testing.assert_close(block(x), torch.cat([x, first, second, third], 1))


def test_older_files_of_densenets_fit(tmp_path: Path) -> None:
    small = {"growth": 4, "depths": [1, 1, 1, 1]}
    state = create_model("densenet121", ["a", "b"], **small).network.state_dict()
    older = {}
    for key, value in state.items():
        for name in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in key:
                key = key.replace(f".{name}.", f".{name[:-1]}.{name[-1]}.")
        older[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    torch.save(older, tmp_path / "older.pth")
    again = create_model("densenet121", ["a", "b"], tmp_path / "older.pth", **small)
    assert all(torch.equal(v, state[k]) for k, v in again.network.state_dict().items())


def test_squeezenet_classifies_each_place(tmp_path: Path) -> None:
    """Its last layer is a convolution, whose outputs of classes with the same names are taken from a file."""
    torch.manual_seed(0)
    net = squeezenet1_1(7).eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        by_place = net.classifier[1](net.features(x)).relu()
        torch.testing.assert_close(net(x), by_place.mean((2, 3)))
    trained = create_model("squeezenet1_1", ["cat", "dog", "owl"])
    file = save(trained, tmp_path / "trained.safetensors")
    tuned = create_model("squeezenet1_1", ["owl", "fox"], file)
    old, new = (model.network.classifier[1].weight for model in (trained, tuned))
    assert torch.equal(new[0], old[2])
    assert tuned.weights_report.kept_classes == ["owl"]


@pytest.mark.parametrize("widens_first", [True, False])
def test_a_module_of_xception_by_hand(widens_first: bool) -> None:
    torch.manual_seed(0)
    module = Module(4, 6, 2, 2, nn.BatchNorm2d, widens_first=widens_first).eval()
    x = torch.randn(1, 4, 8, 8)
    first, second = (layer for layer in module.rep if hasattr(layer, "pointwise"))
    assert first.pointwise.out_channels == (6 if widens_first else 4)
    y = second(torch.relu(module.rep[2](first(torch.relu(x)))))
    y = nn.functional.max_pool2d(module.rep[5](y), 3, 2, 1)
    torch.testing.assert_close(module(x), y + module.skipbn(module.skip(x)))


def test_xception_has_36_convolutions() -> None:
    """Section 4.1: 36 convolutional layers in 14 modules, all but the first and last with shortcuts."""
    with shapes_only():
        net = xception()
    names = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and "skip" not in name]
    assert len([name for name in names if not name.endswith("conv1") or name == "conv1"]) == 36
    assert len([m for m in net.modules() if isinstance(m, Module)]) == 12


def test_pooling_is_padded_as_in_tensorflow() -> None:
    """The output has ⌈H / stride⌉ cells; an odd cell of padding is at the end, and padding is not counted."""
    torch.manual_seed(0)
    for height, width, stride in ((5, 6, 2), (6, 5, 1), (2, 1, 2), (8, 8, 2)):
        x = torch.randn(1, 1, height, width)
        for kind in ("maximum", "average"):
            found = Pool(kind, stride)(x)[0, 0]
            rows, columns = -(-height // stride), -(-width // stride)
            assert found.shape == (rows, columns)
            top, left = (max((n - 1) * stride + 3 - s, 0) // 2 for n, s in ((rows, height), (columns, width)))
            for i in range(rows):
                for j in range(columns):
                    y, z = i * stride - top, j * stride - left
                    cells = x[0, 0, max(y, 0) : y + 3, max(z, 0) : z + 3]
                    wanted = cells.max() if kind == "maximum" else cells.mean()
                    torch.testing.assert_close(found[i, j], wanted)


def operand(cell: Cell, name: str, x: Tensor) -> Tensor:
    return cell.get_submodule(f"comb_iter_{name}")(x)


def test_the_normal_cell_is_the_paper_s() -> None:
    """Figure 4, left: the five additions, from left to right in the order of the published names."""
    torch.manual_seed(0)
    cell = Cell(NORMAL, 4, 6, 5, "mixed", nn.BatchNorm2d).eval()
    current, previous = torch.randn(1, 6, 8, 8), torch.randn(1, 5, 8, 8)
    with torch.inference_mode():
        out, passed = cell((current, previous))
        h, p = cell.conv_1x1(current), cell.conv_prev_1x1(previous)
        average = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        sums = [
            operand(cell, "0_left", h) + operand(cell, "0_right", p),
            operand(cell, "1_left", p) + operand(cell, "1_right", p),
            average(h) + p,
            2 * average(p),
            operand(cell, "4_left", h) + h,
        ]
    torch.testing.assert_close(out, torch.cat([p, *sums], 1))
    assert passed is current
    kernels = {n: m.kernel_size[0] for n, m in cell.named_modules() if n.endswith("separable_1.depthwise_conv2d")}
    assert list(kernels.values()) == [5, 3, 5, 3, 3]


@pytest.mark.parametrize("skips", [True, False])
def test_the_reduction_cell_is_the_paper_s(skips: bool) -> None:
    """Figure 4, right."""
    torch.manual_seed(0)
    cell = Cell(REDUCTION, 4, 6, 5, "mixed", nn.BatchNorm2d, skips).eval()
    current, previous = torch.randn(1, 6, 7, 7), torch.randn(1, 5, 7, 7)
    with torch.inference_mode():
        out, passed = cell((current, previous))
        h, p = cell.conv_1x1(current), cell.conv_prev_1x1(previous)
        maximum, average = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        first = operand(cell, "0_left", h) + operand(cell, "0_right", p)
        second = maximum(h) + operand(cell, "1_right", p)
        third = average(h) + operand(cell, "2_right", p)
        fourth = nn.functional.avg_pool2d(first, 3, 1, 1, count_include_pad=False) + second
        fifth = operand(cell, "4_left", first) + maximum(h)
    torch.testing.assert_close(out, torch.cat([second, third, fourth, fifth], 1))
    assert passed is (previous if skips else current)


def test_the_previous_map_is_halved_by_its_even_and_its_odd_cells() -> None:
    torch.manual_seed(0)
    cell = Cell(NORMAL, 4, 6, 5, "halved", nn.BatchNorm2d).eval()
    previous = torch.randn(1, 5, 8, 6)
    even, odd = (cell.get_submodule(f"path_{i}.conv").weight[:, :, 0, 0] for i in (1, 2))
    x = previous[0].relu()
    both = [torch.einsum("oc,chw->ohw", w, cells) for w, cells in ((even, x[:, ::2, ::2]), (odd, x[:, 1::2, 1::2]))]
    torch.testing.assert_close(cell.adapt(previous)[0], cell.final_path_bn(torch.cat(both)[None])[0])


def test_sizes_of_nasnet_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="repeats is 1 and filters 100; give repeats ≥ 1 and a multiple of 96"):
        NASNet(1, 100, 32)


def test_the_first_three_stages_of_efficientnet_v2_are_fused() -> None:
    with shapes_only():
        net = efficientnet_v2_s()
    kinds = [{type(block) for block in part} for part in list(net.features)[1:-1]]
    assert kinds == [{FusedMBConv}] * 3 + [{MBConv}] * 3
    assert [len(part) for part in list(net.features)[1:-1]] == [2, 4, 4, 6, 9, 15]
    assert [len(part[0].block) for part in list(net.features)[1:3]] == [1, 2]  # without expansion, one convolution
    torch.manual_seed(0)
    block, x = FusedMBConv(4, 4, 3, 1, 2, 0.0, nn.BatchNorm2d).eval(), torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(block(x), x + block.block(x))
