"""Convolution and activation in one pass: the same outputs, and two passes where one would not do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from sightline.nn.layers import conv_act, fuse
from sightline.nn.layers.conv import ConvNormAct, SameConv2d
from sightline.nn.layers.conv_act import ConvAct, LinearAct
from sightline.nn.layers.convolution import in_one_pass


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations that the joined operator was called with."""
    found: list[str] = []
    own = conv_act.OPERATOR

    def counted(*arguments: object) -> Tensor:
        found.append(str(arguments[7]))
        return own(*arguments)

    monkeypatch.setattr(conv_act, "OPERATOR", counted)
    return found


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU6(inplace=True), "hardtanh"),
        (nn.SiLU(inplace=True), "swish"),
        (nn.Hardswish(), "hardswish"),
        (nn.LeakyReLU(0.3), "leaky_relu"),
        (nn.Identity(), "none"),
    ],
)
@pytest.mark.parametrize("groups", [1, 4])
def test_one_pass_gives_what_two_give(calls: list[str], act: nn.Module, name: str, groups: int) -> None:
    layers = [nn.Conv2d(4, 8, 3, 2, 1, groups=groups), nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=groups)]
    layers.append(SameConv2d(4, 8, 5, 2, groups=groups))
    x = 5 * torch.randn(2, 4, 10, 13)
    for layer in layers:
        joined = ConvAct(layer, act)
        with torch.inference_mode():
            torch.testing.assert_close(joined(x), act(layer(x)), atol=1e-5, rtol=1e-5)
    assert calls == [name] * 3


def test_convolutions_of_a_list_are_computed_by_the_same_operator(calls: list[str]) -> None:
    """Such as the last ones of a detector's head, one for each level."""
    layers = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(2))
    one = fuse(layers)
    assert all(type(layer) is ConvAct for layer in one)
    x = torch.randn(1, 3, 5, 7)
    with torch.inference_mode():
        for layer, own in zip(one, layers, strict=True):
            torch.testing.assert_close(layer(x), own(x), atol=1e-5, rtol=1e-5)
    assert calls == ["none"] * 2


def test_gradients_need_two_passes(calls: list[str]) -> None:
    joined = ConvAct(nn.Conv2d(2, 3, 1), nn.SiLU())
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    joined.requires_grad_(False)(x).sum().backward()
    assert x.grad is not None
    assert joined.requires_grad_(True)(x.detach()).requires_grad
    assert calls == []


@pytest.mark.parametrize(
    "joined",
    [ConvAct(nn.Conv2d(2, 3, 3, padding="same"), nn.SiLU()), ConvAct(nn.Conv2d(2, 3, 1), nn.ELU(0.5)),
     ConvAct(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU())],
    ids=["padding by name", "another activation", "reflected"],
)  # fmt: skip
def test_other_layers_take_two_passes(calls: list[str], joined: ConvAct) -> None:
    x = torch.randn(1, 2, 5, 5)
    with torch.inference_mode():
        torch.testing.assert_close(joined(x), joined.act(joined.convolution(x)))
    assert calls == []


def test_other_numbers_take_two_passes(calls: list[str]) -> None:
    joined = ConvAct(nn.Conv2d(2, 3, 1), nn.ReLU())
    x = torch.randn(1, 2, 5, 5)
    with torch.inference_mode():
        assert in_one_pass(x, joined.convolution.weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert joined(x).dtype == torch.bfloat16
        assert joined(x[:0]).shape == (0, 3, 5, 5)
        assert joined.double()(x.double()).dtype == torch.float64
        assert calls == []
        joined.float()(x)
    assert calls == ["relu"]


def test_fuse_joins_convolution_norm_and_activation(calls: list[str]) -> None:
    block = nn.Sequential(ConvNormAct(3, 4, 3, act=nn.SiLU), ConvNormAct(4, 4, 1, act=None), nn.Dropout(0.5)).eval()
    one, x = fuse(block), torch.randn(1, 3, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(one(x), block(x), atol=1e-5, rtol=1e-5)
    assert calls == ["swish", "none"]
    assert [type(m).__name__ for m in one.children()] == ["ConvNormAct", "ConvNormAct", "Dropout"]


def test_a_traced_model_has_two_passes(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    joined = ConvAct(nn.Conv2d(2, 3, 1), nn.ReLU())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with torch.inference_mode():
        joined(torch.randn(1, 2, 5, 5))
    assert calls == []


def test_weights_are_rearranged_once_and_again_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    if conv_act._REARRANGE is None:
        pytest.skip("this PyTorch cannot rearrange weights")
    shapes, own = [], conv_act._REARRANGE
    monkeypatch.setattr(conv_act, "_REARRANGE", lambda *values: shapes.append(values[-1]) or own(*values))
    joined = ConvAct(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()).requires_grad_(False)

    def check(side: int) -> None:
        x = torch.randn(2, 16, side, side + 3).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            torch.testing.assert_close(joined(x), joined.act(joined.convolution(x)), atol=1e-5, rtol=1e-5)

    for side in (12, 12, 33, 1):
        check(side)
    assert len(shapes) == 1
    joined.convolution.load_state_dict(nn.Conv2d(16, 32, 3, 2, 1).state_dict())
    check(12)
    joined.bfloat16().float()
    check(12)
    assert len(shapes) == 3
    joined = copy.deepcopy(joined)
    assert joined._kept is None
    check(12)
    assert pickle.loads(pickle.dumps(joined))._kept is None
    assert list(joined.state_dict()) == ["convolution.weight", "convolution.bias"]


@pytest.mark.parametrize(
    "act", [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.Identity()], ids=lambda act: type(act).__name__
)
def test_a_linear_layer_takes_one_pass(monkeypatch: pytest.MonkeyPatch, act: nn.Module) -> None:
    if conv_act._LINEAR is None:
        pytest.skip("this PyTorch has no such operator")
    names, own = [], conv_act._LINEAR
    monkeypatch.setattr(conv_act, "_LINEAR", lambda *values: names.append(values[3]) or own(*values))
    joined = LinearAct(nn.Linear(24, 16), act).requires_grad_(False)
    for shape in ((1,), (7,), (2, 5), (300,)):
        x = 5 * torch.randn(*shape, 24)
        with torch.inference_mode():
            torch.testing.assert_close(joined(x), act(joined.linear(x)), atol=1e-5, rtol=1e-5)
    assert len(names) == 4
    with torch.inference_mode():
        assert joined(torch.randn(0, 24)).shape == (0, 16)
        joined.linear.load_state_dict(nn.Linear(24, 16).state_dict())
        torch.testing.assert_close(joined(x), act(joined.linear(x)), atol=1e-5, rtol=1e-5)
    x.requires_grad_()
    joined(x).sum().backward()
    assert x.grad is not None
    assert len(names) == 5
