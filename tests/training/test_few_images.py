"""Data too small to divide: the command line refuses it with one sentence, Python trains on all of it and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from torch import nn

import sightline as sl
from sightline.cli.inputs import parts_of
from sightline.errors import InputError
from sightline.verbs.train import learnt_and_held_out


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
    sentence = f"^{count} images? cannot be divided .* train\\(model, data\\[:\\]\\) trains on all of them"
    with pytest.raises(InputError, match=sentence):
        parts_of(data, 0)
    for given, words in ((data, ["too few to divide: all are trained on, and none is validated on"]), (data[[0]], [])):
        sayings: list[str] = []
        learnt, held_out = learnt_and_held_out(given, None, nn.Identity(), 0, None, sayings)
        assert (len(learnt), held_out) == (len(given), None)
        assert [said.split(" ", 3)[3] for said in sayings] == words


def test_three_images_are_divided(tmp_path: Path):
    sayings: list[str] = []
    data = sl.open_dataset(folder_of(tmp_path, 3))
    learnt, held_out = learnt_and_held_out(data, None, nn.Identity(), 0, None, sayings)
    assert held_out is not None
    assert (len(learnt), len(held_out), len(sayings)) == (1, 1, 1)
