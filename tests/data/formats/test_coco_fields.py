"""Fields of objects in COCO files that are beyond COCO's: captions, cuboids and relations, and wrong values of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline as sl
from sightline.errors import InputError
from tests.data.formats.helpers import picture, write_json

CUBOID = [0.1, 0.2, 5.0, 1.0, 2.0, 3.0, 0.0, 0.1, 0.2]
HERE = r"annotations/instances_train\.json"


def coco(root: Path, *objects: dict[str, Any], split: str = "train", **image: Any) -> Path:
    """A COCO folder with one image, with these keys, and one object for each dictionary, with ids from 1."""
    picture(root / split / "a.png", (24, 40))
    box = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}
    labels = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 24, **image}],
        "annotations": [{"id": k, **box, **own} for k, own in enumerate(objects, 1)],
        "categories": [{"id": 1, "name": "cube"}],
    }
    write_json(root / "annotations" / f"instances_{split}.json", labels)
    return root


@pytest.mark.parametrize("wrong", [CUBOID[:8], ["a", *CUBOID[1:]], "abc", 5, [float("inf"), *CUBOID[1:]], [CUBOID]])
def test_a_wrong_cuboid_is_an_error_and_not_the_loss_of_all(tmp_path, wrong):
    root = coco(tmp_path, {"cuboids": CUBOID}, {"cuboids": wrong})
    with pytest.raises(InputError, match=rf"{HERE}: annotation 2's cuboids are .*, but must be 9 finite numbers"):
        sl.open_dataset(root)
    cuboids = sl.open_dataset(root, lenient=True).with_fields("cuboids").target(0).cuboids.numpy()
    assert cuboids[0] == pytest.approx(np.array(CUBOID), abs=1e-6)
    assert np.isnan(cuboids[1:]).all()


def test_cuboids_are_unknown_where_they_are_not_stated(tmp_path):
    root = coco(tmp_path, {"cuboids": CUBOID}, {"cuboids": None}, {})
    coco(root, {}, split="val")
    data = sl.open_dataset(root).with_fields("cuboids")
    assert np.isnan(data.target(0).cuboids.numpy()).any(1).tolist() == [False, True, True]
    assert np.isnan(data.target(1).cuboids.numpy()).all()  # the file of the other split has no cuboids


@pytest.mark.parametrize("wrong", [5, ["a"], {"a": 1}, False])
def test_a_caption_is_text(tmp_path, wrong):
    root = coco(tmp_path, {"caption": "a cube"}, {"caption": wrong})
    with pytest.raises(InputError, match=rf"{HERE}: annotation 2's caption is .*, but must be text"):
        sl.open_dataset(root)
    assert list(sl.open_dataset(root, lenient=True).with_fields("captions").target(0).captions) == ["a cube"]


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ([1, "on", 9], "no object 9"),
        ([1, "on", 1], "an object has no relation to itself"),
        ([1, " ", 2], "its predicate is empty"),
        ([1, 3, 2], r"it must be \[subject, predicate, object\]"),
        ([1, "on"], r"it must be \[subject, predicate, object\]"),
        (["1", "on", 2], r"it must be \[subject, predicate, object\]"),
        (5, r"it must be \[subject, predicate, object\]"),
    ],
)
def test_a_wrong_relation_is_an_error_and_not_the_loss_of_all(tmp_path, wrong, rule):
    root = coco(tmp_path, {}, {}, relations=[[1, "left of", 2], wrong])
    with pytest.raises(InputError, match=rf"{HERE}: a\.png has the relation .*, but {rule}"):
        sl.open_dataset(root)
    kept = sl.open_dataset(root, lenient=True).table("relations", 0)
    assert kept == [{"subject": 0, "predicate": "left of", "object": 1}]
