"""Every segmenter learns by the losses it is given, and remembers them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sightline.models.catalog import ENTRIES
from sightline.models.creation import create_model
from sightline.models.saving import load, save
from sightline.ops.pixel_losses import PixelLosses
from sightline.runtime.shapes import shapes_only
from sightline.structures import ClassMap

SEGMENTERS = [
    entry for entry in ENTRIES if entry.task == "segmentation" and not (entry.takes_backbones and entry.classifier())
]
NAMES = ["ground", "circle", "square"]
LOSSES = PixelLosses(0.5, dice=2.0, class_weights=(1.0, 2.0, 3.0))


@pytest.mark.parametrize("entry", SEGMENTERS, ids=lambda entry: entry.name)
def test_every_builder_takes_losses(entry) -> None:
    assert entry.arguments["losses"].default == PixelLosses()
    with shapes_only():
        assert entry.build(NAMES, losses=LOSSES).loss == LOSSES


@pytest.mark.parametrize("name", ["unet_small", "unet_mobilenet_v2", "fcn8s_mobilenet_v2", "sliding_segmentation"])
def test_they_are_what_it_learns_by(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, NAMES, losses={"cross_entropy": 0.5, "dice": 2, "class_weights": [1, 2, 3]}).eval()
    image, labels = torch.rand(3, 40, 50), torch.randint(-1, 3, (40, 50))
    found = model([image], [ClassMap(labels)])["loss_pixels"]
    scores = model([image])[0].scores
    assert scores is not None
    own = LOSSES(scores.clamp(min=1e-30).log()[None], labels[None])  # log-probabilities are logits, too
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)
    assert load(save(model, tmp_path / "model.safetensors")).loss == LOSSES
