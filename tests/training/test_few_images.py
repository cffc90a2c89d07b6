"""Data too small to divide is learnt from as a whole, and the training says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from torch import nn

import sightline as sl
from sightline.verbs.train import learnt_and_held_out


@pytest.mark.parametrize(("count", "learnt", "held_out"), [(1, 1, None), (2, 2, None), (3, 1, 1)])
def test_fewer_than_three_images_are_not_divided(tmp_path: Path, count: int, learnt: int, held_out: int | None):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(count):
        Image.new("L", (20, 10), 30 * i).save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "labels" / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "classes.txt").write_text("a\n")
    sayings: list[str] = []
    data, validation = learnt_and_held_out(sl.open_dataset(tmp_path), None, nn.Identity(), 0, None, sayings)
    assert len(data) == learnt
    assert (None if validation is None else len(validation)) == held_out
    (sentence,) = sayings
    assert ("too few to divide" in sentence) == (held_out is None)
