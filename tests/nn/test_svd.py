"""Truncated SVD of dense layers against the theorem it rests on."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

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


def test_dense_layers_of_a_model_are_replaced_by_name_and_run_faster() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"head": nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, 4))})
    x = torch.randn(300, 2048)

    def seconds() -> float:
        times = []
        with torch.inference_mode():
            for _ in range(7):
                began = time.perf_counter()
                model["head"](x)
                times.append(time.perf_counter() - began)
        return min(times)

    whole, before = sum(p.numel() for p in model.parameters()), seconds()
    compress_dense(model, {"head.0": 32})
    assert whole - sum(p.numel() for p in model.parameters()) == 2048 * 1024 - 32 * (2048 + 1024)
    assert seconds() < before / 2  # about a twentieth of the arithmetic


def test_wrong_names_and_ranks_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(InputError, match="no dense layer '1'; it has 0"):
        compress_dense(model, {"1": 2})
    with pytest.raises(InputError, match="ranks from 1 to 3"):
        compress_dense(model, {"0": 4})
