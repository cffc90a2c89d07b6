"""Images that were read from files are kept in memory while training; nothing may change them there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.data.transforms.recipes import NAMES, named
from sightline.training.loader import Samples


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    sl.convert(sl.scenes(4, 96), folder, to="coco")
    return folder


@pytest.mark.parametrize("recipe", [*NAMES, "light+turns", "light+randaugment", "light+erasing"])
def test_no_recipe_changes_the_sample_that_it_is_given(recipe: str) -> None:
    data = sl.scenes(2, 96)
    transform = named(recipe).bind(data, (96, 96))
    for image, target in (data[0], data[1]):
        pixels, own = image.clone(), copy.deepcopy(target)
        for seed in range(8):
            transform(image, target, np.random.default_rng(seed))
        assert torch.equal(pixels, image)
        assert torch.equal(own.boxes, target.boxes)
        assert torch.equal(own.labels, target.labels)


@pytest.mark.parametrize("recipe", ["light", "mosaic"])
def test_a_file_is_read_once_and_epochs_are_as_if_it_were_read_each_time(
    files: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sl.open_dataset(files)
    plain = Samples(data, named(recipe), seed=5, size=(64, 64))
    expected = [_fresh(data, recipe)[epoch, 1] for epoch in range(3)]
    read: list[int] = []
    original = type(data).__getitem__
    monkeypatch.setattr(type(data), "__getitem__", lambda self, i: read.append(i) or original(self, i))
    for epoch, (image, target) in enumerate(expected):
        found_image, found = plain[epoch, 1]
        assert torch.equal(found_image, image)
        assert torch.equal(found.boxes, target.boxes)
    assert len(read) == len(set(read))


def _fresh(data: Any, recipe: str) -> Samples:
    return Samples(data, named(recipe), seed=5, size=(64, 64))


def test_with_a_function_of_the_user_images_are_read_each_time(files: Path) -> None:
    def darken(image: torch.Tensor, target: Any, generator: np.random.Generator) -> tuple[torch.Tensor, Any]:
        return image.div_(2, rounding_mode="floor"), target

    samples = Samples(sl.open_dataset(files), darken)
    first, second = samples[0, 0][0].clone(), samples[1, 0][0]
    assert torch.equal(first, second)
