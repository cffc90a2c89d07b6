"""Helpers that rebuild the reference pack's weights, images and targets."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves


def recipe(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_recipe", shared / "parity" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manifest(shared: Path, name: str) -> dict[str, Any]:
    return json.loads((shared / "parity" / "manifests" / f"{name}.json").read_text())


def outputs(shared: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(shared / "parity" / "outputs" / f"{name}.npz") as file:
        values = {key: file[key] for key in file.files}
    return values, json.loads(str(values.pop("meta")))


def fill(model: nn.Module, shared: Path, name: str) -> None:
    """Load the pack's weights; keys, shapes and dtypes must be torchvision's."""
    entry = manifest(shared, name)
    state = model.state_dict()
    expected = {key: (shape, dtype) for key, shape, dtype, _ in entry["state_dict"]}
    actual = {key: (list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()}
    assert actual == expected
    parameters = {key for key, _, _, kind in entry["state_dict"] if kind == "p"}
    assert {key for key, _ in model.named_parameters()} == parameters
    assert sum(p.numel() for p in model.parameters()) == entry["num_params"]
    model.load_state_dict(_filled(shared, name), strict=True)
    model.eval()


@contextmanager
def float64() -> Iterator[None]:
    """New tensors and models inside are float64, so that no result depends on how a processor rounds."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@lru_cache(maxsize=1)
def _filled(shared: Path, name: str) -> dict[str, torch.Tensor]:
    """The pack's weights, which several tests of a model load one after another."""
    return recipe(shared).fill_manifest(manifest(shared, name))


@contextmanager
def undrawn() -> Iterator[None]:
    """Models are built without drawing initial weights, which takes long and which `fill` replaces by the pack's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("normal_", "uniform_"):
            patch.setattr(torch.Tensor, name, lambda self, *_, **__: self.zero_())
        yield


@contextmanager
def once(*modules: nn.Module) -> Iterator[None]:
    """Within it, a module that is called again with equal tensors returns what it returned before.

    For networks that take seconds, whose parts are compared one by one and then once more as a whole.
    """
    for module in modules:
        module.forward = _remembering(module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _remembering(forward: Callable[..., Any]) -> Callable[..., Any]:
    seen: list[tuple[list[torch.Tensor], Any]] = []

    def remembering(*inputs: Any) -> Any:
        given = tree_leaves(inputs)
        for known, found in seen:
            if len(known) == len(given) and all(map(torch.equal, known, given)):
                return found
        seen.append((given, forward(*inputs)))
        return seen[-1][1]

    return remembering


def close(actual: torch.Tensor, expected: np.ndarray, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(actual.detach().float(), torch.as_tensor(expected).float(), atol=atol, rtol=rtol)


def close_in_order(actual: torch.Tensor, expected: np.ndarray, atol: float) -> None:
    """Each expected row at its place; or beside it, where the last bits of two scores decide which of them is first."""
    wanted = torch.as_tensor(expected).float()
    rows = torch.arange(len(wanted))
    near = torch.stack([rows, (rows - 1).clamp(min=0), (rows + 1).clamp(max=len(actual) - 1)], 1)
    apart = (actual.detach().float()[near] - wanted[:, None]).abs().amax(-1)  # [rows, 3 places]
    assert (apart.amin(1) <= atol).all(), f"rows {(apart.amin(1) > atol).nonzero().flatten().tolist()} differ"
    assert (apart[:, 0] <= atol).float().mean() >= 0.9
