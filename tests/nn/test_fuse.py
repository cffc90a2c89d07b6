"""Folding of batch norms: equal outputs, and what cannot be folded stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sightline.nn.backbones.features import FeatureMaps, Stage
from sightline.nn.backbones.mobilenet_v2 import mobilenet_v2
from sightline.nn.backbones.resnet import BasicBlock, Bottleneck, resnet18
from sightline.nn.heads.box import TwoLayerHead
from sightline.nn.layers import ConvNormAct, FrozenBatchNorm2d, SqueezeExcitation, freeze_norms, fuse
from sightline.nn.layers.conv_act import ConvAct, LinearAct
from sightline.nn.layers.fuse import folded
from sightline.training.half import guarded


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """With statistics, scales and shifts as after training."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | FrozenBatchNorm2d):
            norm.running_mean.normal_(0, 0.5, generator=generator)
            norm.running_var.uniform_(0.3, 3.0, generator=generator)
            if norm.weight is not None:
                norm.weight.data.uniform_(0.5, 1.5, generator=generator)
                norm.bias.data.normal_(0, 0.5, generator=generator)
    return module.eval()


def test_folding_by_hand() -> None:
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    convolution.weight.data.fill_(3.0)
    convolution.bias.data.fill_(1.0)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    norm.weight.data.fill_(5.0)
    norm.bias.data.fill_(0.5)
    one = folded(convolution, norm)  # 5 (3x + 1 − 2) / 2 + 0.5
    assert one.weight.item() == pytest.approx(7.5)
    assert one.bias.item() == pytest.approx(-2.0)
    assert convolution.weight.item() == 3.0


@pytest.mark.parametrize(
    "module",
    [
        ConvNormAct(4, 6, 3, 2),
        ConvNormAct(4, 4, 3, groups=4, act=None),
        nn.Sequential(nn.Conv2d(4, 5, 3, bias=True), nn.BatchNorm2d(5, affine=False), nn.ReLU()),
        freeze_norms(nn.Sequential(ConvNormAct(4, 6, 1), ConvNormAct(6, 6, 3, dilation=2))),
        ConvNormAct(4, 6, 3, 2, same=True),
    ],
    ids=["strided", "depthwise", "without scale", "frozen", "same padding"],
)
def test_folded_convolutions_equal_themselves(module: nn.Module) -> None:
    x = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(1))
    one = fuse(trained(module))
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in one.modules())
    with torch.no_grad():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


def step_by_step(block: ConvNormAct, x: torch.Tensor) -> torch.Tensor:
    """Every layer for itself: the convolution, the norm by its formula, the activation."""
    convolution, norm, *rest = block
    x = convolution(x)
    shape = (1, -1, 1, 1)
    scaled = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    x = scaled * norm.weight.view(shape) + norm.bias.view(shape)
    for layer in rest:
        x = layer(x)
    return x


@pytest.mark.parametrize(
    "settings",
    [{}, {"stride": 2, "groups": 4, "act": None}, {"bias": True}, {"stride": 2, "same": True, "groups": 4}],
    ids=["plain", "depthwise", "with bias", "same padding"],
)
def test_frozen_norms_fold_while_training_with_the_same_gradients(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    block = trained(ConvNormAct(4, 4, 3, norm=FrozenBatchNorm2d, **settings)).train()
    assert isinstance(block, ConvNormAct)
    start, out_weights, found = torch.randn(2, 4, 7, 10), torch.randn(2, 4, 7, 10), []
    for compute in (block, lambda x: step_by_step(block, x)):
        x = start.clone().requires_grad_()
        block.zero_grad()
        out = compute(x)
        (out * out_weights[..., : out.shape[-2], : out.shape[-1]]).sum().backward()
        found.append([out.detach(), x.grad, *(p.grad.clone() for p in block.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert len(found[0]) == 3 + ("bias" in settings)
    assert not block[1].weight.requires_grad


def test_folding_leaves_the_choice_of_precision_to_the_guard() -> None:
    """In bf16 a depthwise convolution with a stride still runs in float32, and an ordinary one does not."""
    x = torch.rand(1, 4, 8, 8)
    depthwise = ConvNormAct(4, 4, 5, 2, groups=4, norm=FrozenBatchNorm2d, act=None)
    ordinary = ConvNormAct(4, 4, 3, norm=FrozenBatchNorm2d, act=None)
    with torch.autocast("cpu", torch.bfloat16), guarded(torch.device("cpu"), "bf16"):
        assert (depthwise(x).dtype, ordinary(x).dtype) == (torch.float32, torch.bfloat16)


def test_a_slice_keeps_its_names() -> None:
    """Its first layer is named "1", not "0": layers are found by name."""
    layers = [nn.Identity(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)]
    module = trained(nn.Sequential(*layers)[1:])
    assert [name for name, _ in module.named_children()] == ["1", "2", "3", "4"]
    one, x = fuse(module), torch.randn(2, 4, 5, 6)
    assert [type(layer) for layer in one] == [ConvAct, nn.Identity, nn.Identity, ConvAct]
    with torch.no_grad():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


def test_a_detector_of_slices_folds() -> None:
    import sightline as sl

    model = trained(sl.create_model("ssdlite320_mobilenet_v2", ["a", "b"], image_size=96))
    one, image = fuse(model), torch.rand(3, 80, 96)
    with torch.inference_mode():
        (before,), (after,) = model([image]), one([image])
    assert len(before) > 10
    torch.testing.assert_close(after.scores, before.scores, atol=1e-4, rtol=1e-4)


def test_linear_layers_fold_too() -> None:
    module = trained(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.BatchNorm1d(5)))
    one = fuse(module)
    assert [type(m) for m in one] == [nn.Flatten, LinearAct, nn.Identity, nn.Identity, nn.BatchNorm1d]
    x = torch.randn(7, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("attention", [False, True], ids=["plain", "attention"])
def test_residual_blocks_fold(block: type[BasicBlock | Bottleneck], stride: int, attention: bool) -> None:
    torch.manual_seed(0)
    channels, planes = (8 * block.expansion if stride == 1 else 12), 8
    own = block(channels, planes, stride, nn.BatchNorm2d)
    own.se = SqueezeExcitation(planes * block.expansion, 4) if attention else None
    module = trained(nn.Sequential(own))
    one, x = fuse(module), torch.randn(2, channels, 7, 10)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in one.modules())
    with torch.inference_mode():
        kept = x.clone()
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, kept)


def test_residual_blocks_keep_norms_of_other_kinds() -> None:
    module = trained(nn.Sequential(Bottleneck(8, 8, 2, lambda channels: nn.GroupNorm(2, channels))))
    one, x = fuse(module), torch.randn(2, 8, 7, 10)
    assert sum(isinstance(m, nn.GroupNorm) for m in one.modules()) == 4
    with torch.inference_mode():
        torch.testing.assert_close(one(x), module(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("taken", ["conv", "norm", "act"])
def test_maps_that_are_read_stay(taken: str) -> None:
    """Nothing is folded into a layer whose output is a map."""
    layers = {"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "act": nn.ReLU(), "last": nn.Conv2d(4, 2, 1)}
    maps = trained(FeatureMaps(layers, [Stage(taken, 4, 1), Stage("last", 2, 1)]))
    one, x = fuse(maps), torch.randn(1, 3, 6, 7)
    assert isinstance(one["norm"], nn.BatchNorm2d) == (taken == "conv")
    with torch.inference_mode():
        for found, expected in zip(one(x).values(), maps(x).values(), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_classifier_of_residual_blocks_folds_wholly() -> None:
    torch.manual_seed(0)
    network = trained(resnet18(num_classes=5))
    one, x = fuse(network), torch.randn(1, 3, 48, 64)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in one.modules())
    assert list(one.layers()) == list(network.layers())
    with torch.inference_mode():
        expected, found = network(x), one(x)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


def test_the_box_head_s_layers_take_one_pass_each() -> None:
    head = nn.Sequential(TwoLayerHead(3 * 2 * 2, 5))
    one = fuse(head)
    assert sum(isinstance(m, LinearAct) for m in one.modules()) == 2
    for regions in (0, 1, 7):
        x = torch.randn(regions, 3, 2, 2)
        with torch.inference_mode():
            torch.testing.assert_close(one(x), head(x), atol=1e-6, rtol=1e-5)


def test_a_whole_network_equals_itself_and_stays_as_it_is() -> None:
    torch.manual_seed(0)
    network = trained(mobilenet_v2(num_classes=10)).train()
    one = fuse(network)
    assert network.training
    assert not one.training
    assert not any(isinstance(m, nn.BatchNorm2d) for m in one.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 52
    assert not any(p.requires_grad for p in one.parameters())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = network.eval()(x), one(x)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
