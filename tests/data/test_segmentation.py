"""Segmentations: what cannot be used is the same for `check`, for targets and for `fix`; areas are those of masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as oracle

from sightline.data.check import check, fix
from sightline.data.formats import convert, open_dataset
from sightline.data.segmentation import area_of, fault_of, usable_part
from sightline.errors import InputError

from .formats.helpers import coco, coco_image, coco_object, picture, write_json

SIZE = (48, 64)
BOW = [10, 10, 50, 40, 50, 10, 10, 40]
"""Two triangles of 20 × 30 / 2 pixels each that meet in a point; the net area of the outline is 0."""
SQUARE = [20, 20, 40, 20, 40, 30, 20, 30]
NAN, INF = float("nan"), float("inf")
GOOD = [[SQUARE], {"size": [48, 64], "counts": [100, 7, 48 * 64 - 107]}, [BOW, SQUARE]]
BAD = [
    {"size": [48, 64], "counts": [10, 20, 30]},
    {"size": [48, 64], "counts": [10, -20, 48 * 64 + 10]},
    {"size": [48, 64], "counts": [10, 20.5, 48 * 64 - 30.5]},
    {"size": [48, 64], "counts": [10, NAN]},
    {"size": [48, 64], "counts": [1e300, 5]},
    {"size": [48, 64], "counts": ["a"]},
    {"size": [48, 64], "counts": "b'PPn1'"},
    {"size": [48, 64], "counts": "PPn"},
    {"size": [48, 64], "counts": "é"},
    {"size": [48, 64], "counts": 7},
    {"size": [48, 64]},
    {"size": ["48", 64], "counts": [48 * 64]},
    {"size": [-48, -64], "counts": [48 * 64]},
    {"size": [64, 48], "counts": [48 * 64]},
    {"counts": [48 * 64]},
    [[NAN, 10, 30, 10, 30, 30]],
    [[10, 10, INF, 10, 30, 30]],
    [[10, 10, 1e300, 10, 30, 30]],
    [[10, 10, 10**400, 10, 30, 30]],
    [[10, 10, "30", 10, 30, 30]],
    [[10, 10, None, 10, 30, 30]],
    [[10, 10, 30, 10]],
    [[10, 10, 30, 10, 30]],
    [[10, 10, 30, 10, 30, 30, 5]],
    [[[10, 10], [30, 10], [30, 30]]],
    [10, 10, 30, 10, 30, 30],
    [3],
    "text",
]


def dataset(tmp_path: Path, *segmentations: Any, **more: Any):
    picture(tmp_path / "a.png", SIZE)
    objects = [
        coco_object(k, 1, 1, [k, 2, 50, 40], segmentation=segmentation) | more
        for k, segmentation in enumerate(segmentations, 1)
    ]
    write_json(tmp_path / "a.json", coco([coco_image(1, "a.png")], objects, {1: "cat"}))
    return open_dataset(tmp_path)


@pytest.mark.parametrize("segmentation", BAD, ids=lambda s: json.dumps(s)[:50])
def test_what_check_reports_is_what_a_target_refuses_and_fix_repairs(segmentation: Any, tmp_path: Path):
    data = dataset(tmp_path / "in", [SQUARE], segmentation).with_fields("masks")
    (found,) = [p for p in check(data, progress=False).problems if p.level == "error"]
    assert found.rule in ("outline-malformed", "outline-broken", "mask-size-differs")
    assert found.annotation == 2
    with pytest.raises(InputError, match=r"^a\.png: segmentation 1 has an? "):
        data.target(0)
    for how in ("clip", "drop"):
        summary = fix(data, tmp_path / how, how, progress=False)
        assert sum(summary.counts.values()) == 1
        target = open_dataset(tmp_path / how).with_fields("masks").target(0)
        assert target.masks.sum((1, 2)).tolist() == [200, 0]
        assert target.boxes.tolist() == data.columns.boxes.tolist()


@pytest.mark.parametrize("segmentation", GOOD, ids=lambda s: json.dumps(s)[:50])
def test_what_a_target_takes_is_no_problem(segmentation: Any, tmp_path: Path):
    data = dataset(tmp_path, segmentation).with_fields("masks")
    assert fault_of(segmentation, SIZE) is None
    assert check(data, progress=False).ok
    assert data.target(0).masks.sum() == area_of(segmentation, SIZE)


@pytest.mark.parametrize("ring", [[10, 10, 10, 15], [1, 2, 3, 4, 5], [], [NAN, 1, 2, 3, 4, 5]])
def test_one_bad_polygon_costs_only_itself(ring: list[float], tmp_path: Path):
    data = dataset(tmp_path / "in", [ring, SQUARE, BOW])
    summary = fix(data, tmp_path / "out", progress=False)
    assert summary.counts == {"outline-part": 1}
    assert "1 object left without the unusable polygons of the outline" in str(summary)
    mask = open_dataset(tmp_path / "out").with_fields("masks").target(0).masks[0]
    assert (mask.numpy() == oracle.decode(oracle.merge(oracle.frPyObjects([SQUARE, BOW], *SIZE))).astype(bool)).all()


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_oracles(seed: int):
    generator = np.random.default_rng(seed)
    polygons = generator.uniform(-10, 70, (generator.integers(1, 4), 2 * generator.integers(3, 9))).tolist()
    assert area_of(polygons, SIZE) == oracle.area(oracle.merge(oracle.frPyObjects(polygons, *SIZE)))


def test_area_of_a_bow_tie_and_of_an_image_without_size():
    assert area_of([BOW], SIZE) == oracle.area(oracle.merge(oracle.frPyObjects([BOW], *SIZE)))
    assert area_of([BOW], SIZE) == pytest.approx(600, rel=0.05)
    assert area_of([BOW], (0, 0)) == area_of([BOW], SIZE)
    assert area_of([SQUARE, SQUARE], SIZE) == 200  # a pixel counts once
    assert area_of([[1, 2]], SIZE) is None
    assert usable_part([[1, 2]], SIZE) is None


def test_every_format_knows_the_area_of_the_mask(tmp_path: Path):
    """An outline that crosses itself has the area of its mask, whichever tool drew it."""
    data = dataset(tmp_path / "in", [BOW], area=None, bbox=None)
    wanted = float(oracle.area(oracle.merge(oracle.frPyObjects([BOW], *SIZE))))
    assert data.columns.areas.tolist() == [wanted]
    assert data.columns.boxes.tolist() == [[10, 10, 50, 40]]
    for to in ("yolo-seg", "via", "labelme", "cvat"):
        convert(data, tmp_path / to, to)
        assert open_dataset(tmp_path / to).columns.areas.tolist() == [wanted], to


@pytest.mark.parametrize("stated", [None, NAN, INF, -1])
def test_an_area_that_is_none_is_measured(stated: Any, tmp_path: Path):
    data = dataset(tmp_path, [SQUARE], {"size": [48, 64], "counts": [100, 7, 48 * 64 - 107]}, [], area=stated)
    assert data.columns.areas.tolist() == [200, 7, 50 * 40]
    data = dataset(tmp_path, [SQUARE], [[1, 2]], area=123)
    assert data.columns.areas.tolist() == [123, 123]


def test_a_box_that_is_not_stated_comes_from_the_outline(tmp_path: Path):
    rle = {"size": [48, 64], "counts": [100, 7, 48 * 64 - 107]}  # rows 4 to 10 of column 2
    data = dataset(tmp_path, [[1, 2], SQUARE], rle, bbox=None)
    assert data.columns.boxes.tolist() == [[20, 20, 40, 30], [2, 4, 3, 11]]


@pytest.mark.parametrize(
    "segmentation", [{"size": [48, 64], "counts": [1, 2]}, [[NAN, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6, 7]]]
)
@pytest.mark.parametrize("to", ["yolo-seg", "via", "labelme", "cvat", "masks", "semantic"])
def test_what_cannot_be_written_is_named(to: str, segmentation: Any, tmp_path: Path):
    data = dataset(tmp_path / "in", [SQUARE], segmentation)
    with pytest.raises(InputError, match=r"^a\.png: object 1 has a .*\(sightline check --fix does\)$"):
        convert(data, tmp_path / "out", to)
