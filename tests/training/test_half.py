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
        (((3, 3), (1, 1), (1, 2), 32), False),
        (((11, 11), (1, 1), (1, 1), 1), False),
        (((3, 3), (1, 4), (1, 1), 1), False),
        (((4, 4), (2, 2), (1, 1), 1, True), True),
        (((4, 4), (2, 2), (1, 1), 6, True), False),
    ],
)
def test_what_is_trusted(numbers, trusted: bool) -> None:
    assert trusted_in_bf16(*numbers) is trusted


@pytest.mark.parametrize("name", ["fcn32s_mobilenet_v2", "deeplabv3_mobilenet_v2"])
def test_steps_in_bf16_are_nearly_those_of_float32(name: str) -> None:
    """The FCN whose last step doubles five times, and a dilated depthwise network: losses and gradients agree."""
    data = sl.scenes(4, 48, seed=3, kind="class_map")
    images, targets = zip(*(data[i] for i in range(4)), strict=True)
    losses, gradients = {}, {}
    for half in (False, True):
        torch.manual_seed(0)
        model = sl.create_model(name, data.classes).eval()  # the statistics of four small images amplify rounding
        optimizer = torch.optim.SGD(model.parameters(), 0.02)
        losses[half] = []
        for step in range(2):
            optimizer.zero_grad()
            with guarded(CPU, "bf16" if half else "no"), torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = sum(model(images, targets).values())
            loss.backward()
            if step == 1:  # the first layers learn only once the last one is not zero
                grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
                gradients[half] = torch.cat(grads).float()
            optimizer.step()
            losses[half].append(loss.item())
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
    assert losses[False][1] < losses[False][0]
    assert float(nn.functional.cosine_similarity(gradients[True], gradients[False], 0)) > 0.995
    assert float(gradients[True].norm()) == pytest.approx(float(gradients[False].norm()), rel=0.02)


@pytest.mark.parametrize(
    ("numbers", "trusted"),
    [
        (((7, 7), (2, 2), (1, 1), 1), True),
        (((1, 8), (1, 1), (1, 1), 1), False),  # each side counts
        (((8, 1), (1, 1), (1, 1), 1), False),
        (((3, 3), (1, 3), (1, 1), 1), False),
        (((3, 3), (3, 1), (1, 1), 1), False),
        (((3, 3), (1, 1), (4, 4), 1), True),
        (((3, 3), (1, 1), (1, 2), 2), False),
        (((3, 3), (1, 1), (1, 1), 2), True),
        (((3, 3), (1, 1), (1, 1), 2, True), False),
        (((3, 3), (1, 1), (1, 1), 1, True), True),
        (((3, 3), (1, 1), (1, 1), 8, False, True), True),
        (((1, 5), (1, 1), (1, 1), 8, False, True), False),
        (((5, 1), (1, 1), (1, 1), 8, False, True), False),
        (((3, 3), (1, 2), (1, 1), 8, False, True), False),
    ],
)
def test_what_is_trusted_case_by_case(numbers, trusted) -> None:
    assert trusted_in_bf16(*numbers) is trusted


def test_gradients_of_the_default_detector_in_bf16_are_nearly_those_of_float32() -> None:
    """Its 1×1 and depthwise convolutions are computed in bf16, the losses and the statistics of norms in float32."""
    data = sl.scenes(2, 160, seed=1)
    images, targets = zip(*(data[i] for i in range(2)), strict=True)
    losses, gradients = {}, {}
    torch.manual_seed(0)
    model = sl.create_model("sightline_lite0", data.classes, image_size=160, norm="frozen", trainable_layers=3).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("neck", "head")) and not parameter.any():
                parameter.fill_(0.5)  # scales start at zero, and would stop the gradients
    for half in (False, True):
        model.zero_grad()
        with guarded(CPU, "bf16" if half else "no"), torch.autocast("cpu", torch.bfloat16, enabled=half):
            terms = model(images, targets)
        torch.stack(list(terms.values())).sum().backward()
        losses[half] = {name: loss.detach() for name, loss in terms.items()}
        gradients[half] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert all(loss.dtype == torch.float32 for loss in losses[True].values())
    for name, loss in losses[True].items():
        assert float(loss) == pytest.approx(float(losses[False][name]), rel=0.02)
    assert gradients[True].keys() == gradients[False].keys()
    assert all(gradient.dtype == torch.float32 for gradient in gradients[True].values())
    found, wanted = (torch.cat([g.flatten() for g in gradients[half].values()]) for half in (True, False))
    assert float((found - wanted).norm() / wanted.norm()) < 0.05
