"""Preprocessing of published weights against the facts of torchvision's weight entries."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline
from sightline.models.catalog import find
from sightline.models.creation import create_model
from sightline.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from sightline.models.published import PUBLISHED, Published
from sightline.models.saving import load
from sightline.runtime.shapes import shapes_only

# crop and resize of torchvision 0.27's entries, those of the parity pack left out
CROPS = {
    "efficientnet_b2_rwightman-c35c1473.pth": (288, 288, "bicubic"),
    "efficientnet_b3_rwightman-b3899882.pth": (300, 320, "bicubic"),
    "efficientnet_b7_lukemelas-c5b4e57e.pth": (600, 600, "bicubic"),
    "efficientnet_b1_rwightman-bac287d4.pth": (240, 256, "bicubic"),
    "efficientnet_b1-c27df63c.pth": (240, 255, "bilinear"),
    "resnet50-0676ba61.pth": (224, 256, "bilinear"),
    "resnet50-11ad3fa6.pth": (224, 232, "bilinear"),
    "mobilenet_v2-7ebf99e0.pth": (224, 232, "bilinear"),
    # Google's: an image's border of 32 pixels is cut off, as in EfficientNet's own preprocessing
    "efficientnet-lite0-57934424.pth": (224, 256, "bicubic"),
    "efficientnet-lite1-77cc7160.pth": (240, 272, "bicubic"),
    "efficientnet-lite2-9656183e.pth": (260, 292, "bicubic"),
}


@pytest.mark.parametrize("file", CROPS)
def test_each_entry_has_its_own(file: str) -> None:
    published = next(p for p in PUBLISHED if p.file == file)
    assert published.preprocess is not None
    assert (published.preprocess.crop, published.preprocess.resize, published.preprocess.interpolation) == CROPS[file]
    with shapes_only():
        model = create_model(published.network, ["a", "b"], **published.arguments)
    seen = model.crop, model.preprocess.min_size, model.preprocess.interpolation
    assert seen == CROPS[file]
    assert model.preprocess.antialias


@cache
def entries(folder: Path) -> dict[str, Any]:
    """torchvision's weight entries by address."""
    manifests = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return {w["url"]: w for m in manifests for w in m.get("weights") or () if isinstance(w, dict)}


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: p.file)
def test_entries_say_what_torchvision_s_do(published: Published, shared: Path) -> None:
    entry = entries(shared / "parity" / "manifests").get(published.url)
    if entry is None:
        pytest.skip("not in the parity pack")
    facts, ours = entry["transforms"], published.preprocess
    if facts["type"] == "ObjectDetection":
        assert ours is None
        with shapes_only():
            model = find(published.network).build(["a"], **published.arguments)
        assert not model.preprocess.antialias
        return
    assert ours is not None
    assert [ours.resize] == facts["resize_size"]
    assert ([ours.crop] if ours.crop else None) == facts.get("crop_size")
    assert facts["interpolation"] == f"InterpolationMode.{ours.interpolation.upper()}"
    assert ours.antialias == facts["antialias"]
    assert [list(ours.mean), list(ours.std)] == [facts["mean"], facts["std"]]
    assert (ours.mean, ours.std) == (IMAGENET_MEAN, IMAGENET_STD)  # what the builders normalise by


def test_a_file_of_the_later_recipe_is_known_by_its_name(tmp_path: Path) -> None:
    state = create_model("mobilenet_v2", [str(i) for i in range(1000)]).network.state_dict()
    for file, resize in (("mobilenet_v2-7ebf99e0.pth", 232), ("mobilenet_v2-b0353104.pth", 256), ("other.pth", 256)):
        torch.save(state, tmp_path / file)
        model = create_model("mobilenet_v2", weights=tmp_path / file)
        assert (model.preprocess.min_size, model.crop) == (resize, 224)
    tuned = create_model("mobilenet_v2", ["a", "b"], tmp_path / "mobilenet_v2-7ebf99e0.pth", image_size=112)
    assert (tuned.preprocess.min_size, tuned.crop) == (116, 112)
    again = load(sightline.save(tuned, tmp_path / "tuned.safetensors"))
    assert (again.preprocess.min_size, again.crop) == (116, 112)


def test_models_saved_before_keep_what_they_learnt_with(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    def aged(name: str, arguments: dict[str, object], preprocess: str) -> Path:
        """The file as it was written before images were antialiased."""
        file = sightline.save(create_model(name, ["a", "b"]), tmp_path / "new.safetensors")
        with safe_open(file, "pt") as opened:
            header, state = opened.metadata(), {key: opened.get_tensor(key) for key in list(opened.keys())}
        header |= {"arguments": json.dumps(arguments), "preprocess": preprocess}
        save_file(state, tmp_path / "old.safetensors", header)
        return tmp_path / "old.safetensors"

    old = aged("mobilenet_v3_small", {"in_channels": 3, "crop": 64}, "3 channels, shorter side 73, longer ≤ 7300")
    model = load(old)
    assert (model.crop, model.preprocess.antialias, model.preprocess.interpolation) == (64, False, "bilinear")
    old = aged("lraspp_mobilenet_v3_large", {"in_channels": 3, "min_size": 64}, "3 channels, shorter side 64, …")
    assert (load(old).preprocess.min_size, load(old).preprocess.max_size) == (64, 1333)
    assert load(sightline.save(load(old), tmp_path / "again.safetensors")).preprocess.max_size == 1333
