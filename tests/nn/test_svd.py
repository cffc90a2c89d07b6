"""Truncated SVD of dense layers against the theorem it rests on."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sightline.errors import InputError
from sightline.nn.layers.svd import compress_dense, truncated_svd


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 12), (12, 40)])
@pytest.mark.parametrize("bias", [True, False])
def test_full_rank_changes_nothing(inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias)
    x = torch.randn(5, inputs)
    torch.testing.assert_close(truncated_svd(layer, 12)(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 12), (12, 40)])
def test_the_error_is_what_the_dropped_singular_values_say(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs)
    first, second = truncated_svd(layer, 5)
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    error = torch.linalg.matrix_norm(layer.weight - second.weight @ first.weight).detach()
    dropped = torch.linalg.svdvals(layer.weight.detach())[5:]
    assert float(error) == pytest.approx(float(dropped.square().sum().sqrt()), rel=1e-4)
    assert sum(p.numel() for p in (first.weight, second.weight)) == 5 * (inputs + outputs)


def multiplications(model: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(x)
    return int(counter.get_total_flops()) // 2  # it counts additions, too


def test_dense_layers_of_a_model_are_replaced_by_name_and_multiply_less() -> None:
    """Section 3.1: u·v multiplications a region become t·(u + v); the layers that are not named stay."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"head": nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 4))})
    x, last = torch.randn(30, 256), model["head"][2]
    weight, bias = model["head"][0].weight.detach(), model["head"][0].bias.detach()
    whole = sum(p.numel() for p in model.parameters())
    assert multiplications(model["head"], x) == 30 * (256 * 128 + 128 * 4)
    assert compress_dense(model, {"head.0": 16}) is model
    assert multiplications(model["head"], x) == 30 * (16 * (256 + 128) + 128 * 4)
    assert whole - sum(p.numel() for p in model.parameters()) == 256 * 128 - 16 * (256 + 128)
    assert model["head"][2] is last
    u, s, v = torch.linalg.svd(weight.double())
    nearest = (u[:, :16] * s[:16]) @ v[:16]
    expected = last((x.double() @ nearest.T + bias).float().relu())
    torch.testing.assert_close(model["head"](x), expected, atol=1e-4, rtol=1e-4)


def test_wrong_names_and_ranks_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(InputError, match="no dense layer '1'; it has 0"):
        compress_dense(model, {"1": 2})
    with pytest.raises(InputError, match="ranks from 1 to 3"):
        compress_dense(model, {"0": 4})
