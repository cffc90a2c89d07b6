"""bf16 on a processor: what PyTorch works out wrongly is worked out in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline.training.half import guarded, trusted_in_bf16

CPU = torch.device("cpu")


def depthwise(kernel: int, dilation: int) -> nn.Module:
    return nn.Conv2d(16, 16, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=16, bias=False)


LAYERS = {
    "doubled five times": nn.ConvTranspose2d(6, 6, 64, 32, 16, bias=False),
    "doubled three times": nn.ConvTranspose2d(6, 6, 16, 8, 4, bias=False),
    "patches": nn.Conv2d(24, 16, 4, 4, bias=False),
    "large kernel": nn.Conv2d(6, 16, 16, padding=8, bias=False),
    "depthwise with holes": depthwise(3, 2),
    "depthwise with large holes": depthwise(5, 3),
    "plain": nn.Conv2d(16, 16, 3, padding=1, bias=False),
    "plain with holes": nn.Conv2d(16, 16, 3, padding=6, dilation=6, bias=False),
    "doubled": nn.ConvTranspose2d(16, 8, 2, 2, bias=False),
}


def run(layer: nn.Module, x: Tensor, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_(True)
    layer.zero_grad()
    with guarded(CPU, "bf16" if half else "no"), torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x).float()
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    weight = layer.get_parameter("weight").grad
    assert x.grad is not None
    assert weight is not None
    return y.detach(), x.grad, weight.clone()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_are_those_of_float32(name: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]
    weight = layer.get_parameter("weight")
    x = torch.randn(2, weight.shape[0 if isinstance(layer, nn.ConvTranspose2d) else 1], 17, 17)
    if name.startswith("depthwise"):
        x = torch.randn(2, 16, 33, 33)
    x = x.contiguous(memory_format=layout)
    for found, wanted in zip(run(layer, x, True), run(layer, x, False), strict=True):
        assert ((found - wanted).abs().max() / wanted.abs().max()).item() < 0.03


def test_only_what_is_not_trusted_leaves_bf16() -> None:
    x = torch.randn(1, 16, 9, 9)
    kinds = {}
    with guarded(CPU, "bf16"), torch.autocast("cpu", torch.bfloat16):
        for name in ("plain", "plain with holes", "doubled", "depthwise with holes"):
            kinds[name] = LAYERS[name](x).dtype
        kinds["by keywords"] = nn.functional.conv2d(input=x, weight=torch.randn(4, 16, 3, 3), stride=4).dtype
    assert [name for name, kind in kinds.items() if kind == torch.float32] == ["depthwise with holes", "by keywords"]
    assert LAYERS["plain"](x).dtype == torch.float32


@pytest.mark.parametrize(
    ("numbers", "trusted"),
    [
        (((3, 3), (1, 1), (1, 1), 1), True),
        (((7, 7), (2, 2), (1, 1), 1), True),
        (((3, 3), (2, 2), (1, 1), 32), True),
        (((3, 3), (1, 1), (1, 1), 32, False, True), True),
        (((3, 3), (2, 2), (1, 1), 32, False, True), False),
        (((5, 5), (1, 1), (1, 1), 32, False, True), False),
        (((3, 3), (1, 1), (12, 12), 1), True),
        (((3, 3), (1, 1), (2, 2), 32), False),
        (((11, 11), (1, 1), (1, 1), 1), False),
        (((3, 3), (1, 4), (1, 1), 1), False),
        (((4, 4), (2, 2), (1, 1), 1, True), True),
        (((4, 4), (2, 2), (1, 1), 6, True), False),
    ],
)
def test_what_is_trusted(numbers, trusted: bool) -> None:
    assert trusted_in_bf16(*numbers) is trusted


def test_a_training_in_bf16_learns_as_one_in_float32(tmp_path) -> None:
    """The FCN whose last step doubles five times, and a dilated depthwise network: their losses fall alike."""
    data = sl.scenes(8, 64, seed=3, kind="class_map")
    for name in ("fcn32s_mobilenet_v2", "deeplabv3_mobilenet_v2"):
        ends = []
        for precision in ("no", "bf16"):
            torch.manual_seed(0)
            model = sl.create_model(name, data.classes)
            numbers = {"epochs": 6, "batch_size": 4, "augmentation": "none", "device": "cpu", "precision": precision}
            folder = f"{name}_{precision}"
            run = sl.train(model, data, runs=tmp_path, name=folder, progress=False, report=False, lr=2e-3, **numbers)
            ends.append((run.metrics[0]["train/loss"], run.metrics[-1]["train/loss"]))
        assert all(last < 0.8 * first for first, last in ends)
        assert ends[0][1] == pytest.approx(ends[1][1], rel=0.3)
