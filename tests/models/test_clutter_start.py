"""The start of `sightline_n` that lies in the package: the file, and what the network finds with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.errors import InputError
from sightline.models.published import find_published
from sightline.models.weight_files import is_installed, packaged_file
from sightline.ops.boxes import box_iou


def drawing(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A grey image [3, 224, 224] with three squares of random colours in a row, and their boxes."""
    draw = np.random.default_rng(seed)
    image, boxes = np.full((3, 224, 224), 110, np.uint8), []
    for number in range(3):
        x, y, side = 10 + 70 * number + draw.integers(10), draw.integers(20, 150), draw.integers(30, 50)
        image[:, y : y + side, x : x + side] = draw.choice([0, 60, 190, 250], (3, 1, 1))
        boxes.append([x, y, x + side, y + side])
    return torch.from_numpy(image), torch.tensor(boxes, dtype=torch.float32)


def found_of(model: sl.Model) -> float:
    """The fraction of the squares of 4 drawings that one of the best 30 boxes of any class covers by half."""
    drawings = [drawing(seed) for seed in range(4)]
    with torch.inference_mode():
        results = model.eval()([image for image, _ in drawings])
    best = [
        box_iou(boxes, result.boxes[:30]).amax(1)
        for (_, boxes), result in zip(drawings, results, strict=True)
        if len(result)
    ]
    return float((torch.cat(best) > 0.5).sum()) / 12


def test_the_file_is_the_one_of_its_name() -> None:
    published = find_published("sightline_n", "clutter")
    assert published is not None
    assert is_installed(published)
    file = packaged_file(published)
    assert file.parent == Path(sl.__file__).parent / "models"
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(published.hash_prefix)
    assert file.stat().st_size < 3_200_000, "every installation contains it"


def test_objects_are_found_before_any_training() -> None:
    torch.manual_seed(0)
    assert found_of(sl.create_model("sightline_n", weights="clutter", image_size=224)) >= 0.9
    assert found_of(sl.create_model("sightline_n", ["a"], image_size=224)) <= 0.2


def test_everything_but_the_classes_is_loaded() -> None:
    model = sl.create_model("sightline_n", ["a", "b"], weights="clutter")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    report = model.weights_report
    assert report is not None
    assert {name.rpartition(".")[0] for name in report.fresh} == {f"head.classes.{level}" for level in range(3)}
    assert model.arguments == {"in_channels": 3}, "sizes are not those of the pretraining"
    with pytest.raises(InputError, match="no published weights for sightline_s"):
        sl.create_model("sightline_s", ["a"], weights="clutter")
