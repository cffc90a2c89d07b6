"""A run that is resumed without naming its data goes on with the very images that it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import sightline as sl
from sightline.errors import InputError
from sightline.models.model import as_model
from sightline.training import trained_on
from sightline.verbs.parts import split_for_training


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Nine scenes without splits."""
    return sl.convert(sl.scenes(9, 32), tmp_path_factory.mktemp("resumed") / "whole", "coco")


def names(data) -> set[str]:
    return {data.name(i) for i in range(len(data))}


def test_all_images_without_validation(folder):
    data = sl.open_dataset(folder)
    known = trained_on.record(data[:], None, as_model(nn.Identity()))
    for named in (True, False):
        parts = split_for_training(sl.open_dataset(folder), 0, known, [], named)
        assert names(parts.train) == names(data)
        assert parts.val is None


def test_some_images(folder):
    data = sl.open_dataset(folder)
    known = trained_on.record(data[:4], data[6:8], as_model(nn.Identity()))
    parts = split_for_training(sl.open_dataset(folder), 0, known, [], named=False)
    assert (names(parts.train), names(parts.val)) == (names(data[:4]), names(data[6:8]))


def test_part_of_a_split_unless_the_data_is_named(folder, tmp_path):
    data = sl.open_dataset(sl.convert(sl.open_dataset(folder).split(0.6, 0.2, 0.2), tmp_path / "parts", "coco"))
    known = trained_on.record(data["train"][:3], data["val"], as_model(nn.Identity()))
    again = split_for_training(data, 0, known, [], named=False)
    assert (names(again.train), names(again.val)) == (names(data["train"][:3]), names(data["val"]))
    assert names(split_for_training(data, 0, known, []).train) == names(data["train"])


def test_validation_images_of_other_data_must_be_named(folder, tmp_path):
    other = sl.open_dataset(sl.convert(sl.scenes(2, 32, seed=5), tmp_path / "other", "coco"))
    data = sl.open_dataset(folder)
    known = trained_on.record(data[:], other[:], as_model(nn.Identity()))
    with pytest.raises(InputError, match=r"does not contain all images.* name them"):
        split_for_training(data, 0, known, [], named=False)
