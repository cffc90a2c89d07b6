"""Training on cached features: the same as computing them in each step, and the frozen layers run once per view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sightline as sl
from sightline.data.transforms import Compose, HorizontalFlip
from sightline.errors import InputError
from sightline.models.backbone_parts import find_body
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.models.trunk import Trunk, find_trunk, joined_values
from sightline.training import features as module
from sightline.training.freezing import Freezing
from sightline.training.loop import fit
from sightline.training.recipe import Recipe

CASES: dict[str, tuple[str, int | str, dict[str, Any]]] = {
    "mobilenet_v2": ("class_scores", "all", {"image_size": 32, "crop_pct": 1.0}),
    "mobilenet_v3_small": ("class_scores", 4, {"image_size": 64}),
    "sightline_mobilenet_v2": ("instances", "all", {"image_size": 64}),
    "retinanet_mobilenet_v2_fpn": ("instances", 4, {"min_size": 64, "max_size": 64, "channels": 32}),
    "unet_resnet18": ("class_map", 2, {"depth": 3, "channels": [16, 16, 8]}),
}
"""Kind of labels, what is frozen, and arguments of the model."""


def data_of(kind: str, n: int = 4, seed: int = 0) -> Any:
    return sl.scenes(n, 64, seed, kind=kind)  # type: ignore[arg-type]


def model_of(name: str) -> Model:
    torch.manual_seed(0)
    model = create_model(name, data_of(CASES[name][0], 1).classes, **CASES[name][2])
    for layer in model.modules():  # dropout would differ
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return model


def find_trunk_of(name: str) -> Trunk:
    model = model_of(name)
    Freezing(model, Recipe(freeze="all"))
    return find_trunk(model)


def trained(name: str, folder: Path, *, transform: Any = None, epochs: int = 2, **further: Any) -> Model:
    kind, freeze, _ = CASES[name]
    model = model_of(name)
    settings = {"batch_size": 2, "optimizer": "sgd", "lr": 1e-3, "ema": None, "warmup_steps": 0}
    recipe = Recipe(epochs=epochs, freeze=freeze, **settings, **further)  # AdamW makes much of tiny differences
    data, validation = data_of(kind), data_of(kind, 2, seed=1)
    run = fit(model, data, recipe, folder, validation=validation, transform=transform, progress=False, device="cpu")
    model.metadata["losses"] = [(row["train/loss"], row["val/loss"]) for row in run.metrics]
    return model


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        pytest.param("mobilenet_v3_small", marks=pytest.mark.slow),
        "sightline_mobilenet_v2",
        pytest.param("retinanet_mobilenet_v2_fpn", marks=pytest.mark.slow),
        "unet_resnet18",
    ],
)
def test_it_learns_what_it_learns_without_the_cache(name: str, tmp_path: Path) -> None:
    expected = trained(name, tmp_path / "plain")
    cached = trained(name, tmp_path / "cached", cache_features=1)
    assert cached.metadata["losses"] == pytest.approx(np.array(expected.metadata["losses"]), rel=1e-3)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(cached.state_dict()[key], value, rtol=1e-2, atol=2e-4, msg=key)
    start = model_of(name).state_dict()
    assert not all(torch.allclose(value, start[key]) for key, value in expected.state_dict().items())
    assert not list((tmp_path / "cached").glob("features*"))


def test_frozen_layers_run_once_per_image_and_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[Tensor] = []
    model = model_of("mobilenet_v2")
    model.network.features[0].register_forward_hook(lambda _, given, out: images.append(given[0]))
    data = data_of("class_scores", 6)
    seen: list[list[int]] = []
    step = module.CachedFeatures.step

    def counted(self: Any, net: Any, numbers: Any, targets: Any) -> Any:
        seen.append([int(number) for number in numbers])
        return step(self, net, numbers, targets)

    monkeypatch.setattr(module.CachedFeatures, "step", counted)
    recipe = Recipe(epochs=5, batch_size=3, cache_features=2, ema=None)
    assert recipe.freeze == "all"
    flip = Compose([HorizontalFlip(p=1.0)])
    fit(model, data, recipe, tmp_path / "run", transform=flip, progress=False, device="cpu")
    assert len(images) == 12
    for own, mirrored in zip(images[:6], images[6:], strict=True):
        torch.testing.assert_close(mirrored, own.flip(-1), rtol=0, atol=0.02)
    epochs = [sorted(seen[i] + seen[i + 1]) for i in range(0, len(seen), 2)]
    first, second = [*range(6)], [*range(6, 12)]
    assert epochs == [first, second, first, second, first]


@pytest.mark.parametrize("name", CASES)
def test_values_stand_for_the_frozen_layers(name: str) -> None:
    """On images of one size the outputs with the values are those without; nothing is left behind."""
    kind, freeze, _ = CASES[name]
    model = model_of(name).eval()
    Freezing(model, Recipe(freeze=freeze))
    trunk = find_trunk(model)
    data = data_of(kind, 2)
    pairs = [data[i] for i in range(2)]
    batch, prepared = model.prepare([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    torch.manual_seed(0)
    expected = model.batch_losses(batch, prepared)
    rows = []
    for image, target in pairs:
        with trunk.recorded(model) as values, torch.no_grad():
            model.batch_losses(*model.prepare([image], [target]))
        rows.append(dict(values))
    with trunk.replaced(model, joined_values(rows)):
        torch.manual_seed(0)
        found = model.batch_losses(batch, prepared)
        body = find_body(model)
        layers = list(body.layers().values())
        assert "forward" in vars(layers[0]) or "forward" in vars(model.network)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
    assert not any("forward" in vars(layer) for layer in model.modules())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())


def test_smaller_maps_are_padded_and_what_does_not_fit_into_memory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = joined_values([{"a": torch.ones(1, 2, 3, 4)}, {"a": 2 * torch.ones(1, 2, 5, 2)}])["a"]
    assert joined.shape == (2, 2, 5, 4)
    assert joined[0].sum() == 24
    assert joined[1, :, :, :2].eq(2).all()
    assert joined[1, :, :, 2:].eq(0).all()
    kept = trained("mobilenet_v2", tmp_path / "memory", cache_features=1)
    monkeypatch.setattr(module.CachedFeatures.__init__, "__defaults__", (0,))
    read = trained("mobilenet_v2", tmp_path / "file", cache_features=1)
    assert all(torch.equal(value, read.state_dict()[key]) for key, value in kept.state_dict().items())


def test_a_resumed_run_ends_with_the_very_weights(tmp_path: Path) -> None:
    def run(folder: Path, epochs: int, resume: bool = False) -> dict[str, Tensor]:
        model, data = model_of("mobilenet_v2"), data_of("class_scores")
        recipe = Recipe(epochs=epochs, batch_size=2, cache_features=2, schedule="constant", warmup_steps=0)
        flip = Compose([HorizontalFlip()])
        fit(model, data, recipe, folder, transform=flip, progress=False, resume=resume, device="cpu")
        return model.state_dict()

    run(tmp_path / "parts", 1)
    left = tmp_path / "parts" / "features0.bin"  # of a process that was killed
    left.write_bytes(b"left")
    module.CachedFeatures(find_trunk_of("mobilenet_v2"), left, 4)
    assert left.read_bytes() == b""
    left.write_bytes(b"left")
    resumed, whole = run(tmp_path / "parts", 3, resume=True), run(tmp_path / "whole", 3)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_what_cannot_be_cached_is_refused(tmp_path: Path) -> None:
    data = data_of("class_scores")
    with pytest.raises(InputError, match="nothing is frozen at the beginning of mobilenet_v2; add freeze="):
        fit(model_of("mobilenet_v2"), data, Recipe(cache_features=1, freeze="none"), tmp_path / "a", progress=False)
    with pytest.raises(InputError, match="unfreeze_every and cache_features are both given"):
        Recipe(cache_features=1, unfreeze_every=1)
    boxes = data_of("instances")
    model = create_model("grid_sliding_mobilenet_v2", boxes.classes)
    with pytest.raises(InputError, match="its backbone is not a sequence of layers; leave cache_features out"):
        fit(model, boxes, Recipe(cache_features=1), tmp_path / "b", progress=False)
