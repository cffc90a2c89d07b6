"""Data too small to divide is trained on as a whole, from Python as from the command line, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import sightline as sl
from sightline.verbs.parts import training_and_validation


def folder_of(root: Path, count: int) -> Path:
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for i in range(count):
        Image.new("L", (20, 10), 30 * i).save(root / "images" / f"{i}.png")
        (root / "labels" / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    (root / "classes.txt").write_text("a\n")
    return root


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_images_are_not_divided(tmp_path: Path, count: int):
    data = sl.open_dataset(folder_of(tmp_path, count))
    sayings: list[str] = []
    learnt, held_out = training_and_validation(data, None, 0, None, sayings)
    assert (len(learnt), held_out) == (count, None)
    (sentence,) = sayings
    assert "too few to divide: all are used for training, without validation" in sentence
    assert training_and_validation(data[:], None, 0, None, sayings)[1] is None
    assert len(sayings) == 1


def test_three_images_are_divided(tmp_path: Path):
    sayings: list[str] = []
    data = sl.open_dataset(folder_of(tmp_path, 3))
    learnt, held_out = training_and_validation(data, None, 0, None, sayings)
    assert held_out is not None
    assert (len(learnt), len(held_out), len(sayings)) == (1, 1, 1)
