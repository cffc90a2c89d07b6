"""VIA: versions, attributes that name the class, shapes, mistakes."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .drawn import files_of, masks, oracle_masks, outlined, same_masks
from .helpers import everything, picture, rows, text, write_json

POLYGON = {"name": "polygon", "all_points_x": [1, 9, 5], "all_points_y": [2, 2, 20]}
RECT = {"name": "rect", "x": 4, "y": 6, "width": 10, "height": 20}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def entries(*regions: dict[str, Any], name: str = "a.jpg", as_dict: bool = False) -> dict[str, Any]:
    listed: Any = {str(k): one for k, one in enumerate(regions)} if as_dict else list(regions)
    return {f"{name}123": {"filename": name, "size": 123, "file_attributes": {}, "regions": listed}}


def folder(root: Path, content: Any, name: str = "via_region_data.json") -> Path:
    picture(root / "a.jpg")
    write_json(root / name, content)
    return root


@pytest.mark.parametrize("as_dict", [True, False])
def test_versions_1_and_2(tmp_path: Path, as_dict: bool):
    data = open_dataset(folder(tmp_path, entries(region(POLYGON, kind="b"), region(RECT, kind="a"), as_dict=as_dict)))
    assert data.format == "via"
    assert tuple(data.classes) == ("a", "b")
    assert rows(data, 0) == [("b", 1, 2, 9, 20), ("a", 4, 6, 14, 26)]
    assert data.image_size(0) == (48, 64)
    assert data.columns.segmentations.texts() == ["[[1,2,9,2,5,20]]", ""]
    assert data.columns.areas.tolist() == [72, 200]
    assert everything(open_dataset(tmp_path / "via_region_data.json")) == everything(data)


def test_project_and_csv_hold_the_same(tmp_path: Path):
    regions = [region(POLYGON, kind="b"), region(RECT, kind="a")]
    stated = {"region": {"kind": {"type": "radio", "options": {"b": "", "a": "", "c": ""}}}}
    project = {"_via_settings": {}, "_via_img_metadata": entries(*regions), "_via_attributes": stated}
    data = open_dataset(folder(tmp_path / "project", project))
    assert tuple(data.classes) == ("b", "a", "c")
    out = io.StringIO()
    writer = csv.writer(out)
    header = "#filename file_size file_attributes region_count region_id region_shape_attributes region_attributes"
    writer.writerow(header.split())
    for k, one in enumerate(regions):
        writer.writerow(["a.jpg", 123, "{}", 2, k, *(json.dumps(value) for value in one.values())])
    writer.writerow(["b.jpg", 123, "{}", 0, 0, "{}", "{}"])
    picture(tmp_path / "csv" / "a.jpg")
    picture(tmp_path / "csv" / "b.jpg")
    text(tmp_path / "csv" / "via.csv", out.getvalue())
    again = open_dataset(tmp_path / "csv")
    assert everything(again) == {**everything(data), ("all", "b.jpg"): []}
    assert again.columns.segmentations == data.columns.segmentations


def test_an_image_that_is_named_twice(tmp_path: Path):
    """As when two files were joined by hand: reading the last entry alone would lose the objects of the first."""
    (entry,) = [json.dumps(one) for one in entries(region({"name": "point", "cx": 1, "cy": 2}), as_dict=True).values()]
    root = folder(tmp_path, {})
    (root / "via_region_data.json").write_text(f'{{"a.jpg-1": {entry}, "b": {entry}, "a.jpg-1": {entry}}}')
    with pytest.raises(InputError, match=r"via_region_data\.json has two entries named 'a\.jpg-1', of which only one"):
        open_dataset(root)


def test_circle_ellipse_line_point(tmp_path: Path):
    drawn = [
        {"name": "circle", "cx": 20, "cy": 22, "r": 8.5},
        {"name": "ellipse", "cx": 30, "cy": 20, "rx": 10, "ry": 5, "theta": math.pi / 2},
        {"name": "polyline", "all_points_x": [1, 9], "all_points_y": [2, 8]},
        {"name": "point", "cx": 3, "cy": 4},
    ]
    data = open_dataset(folder(tmp_path, entries(*(region(shape, type="x") for shape in drawn))))
    boxes = [(11.5, 13.5, 28.5, 30.5), (25, 10, 35, 30), (1, 2, 9, 8), (3, 4, 3, 4)]
    assert np.allclose(data.columns.boxes, boxes, atol=1e-3)
    found = masks(data)["all", "a.jpg"]
    assert abs(int(found[0].sum()) - math.pi * 8.5**2) < 8  # COCO's rasteriser takes a little less
    assert abs(int(found[1].sum()) - math.pi * 50) < 8
    assert not found[2:].any()
    project = json.loads((convert(data, tmp_path / "out", "via").folder / "via_project.json").read_text())
    (entry,) = project["_via_img_metadata"].values()
    assert [one["shape_attributes"]["name"] for one in entry["regions"]] == [shape["name"] for shape in drawn]
    assert entry["regions"][0]["shape_attributes"] == drawn[0]
    assert entry["regions"][1]["shape_attributes"] == {**drawn[1], "theta": pytest.approx(math.pi / 2)}


class TestClasses:
    def test_without_an_attribute_the_folder_names_the_one_class(self, tmp_path: Path):
        root = tmp_path / "balloon"
        for split in ("train", "val"):
            folder(root / split, entries(region(POLYGON)))
        data = open_dataset(root)
        assert data.splits == ("train", "val")
        assert tuple(data.classes) == ("balloon",)
        assert tuple(open_dataset(root / "train" / "via_region_data.json").classes) == ("balloon",)
        assert tuple(open_dataset(root, classes=["toy"]).classes) == ("toy",)
        with pytest.raises(InputError, match=r"so all objects have one class; give one, not \['a', 'b'\]"):
            open_dataset(root, classes=["a", "b"])

    def test_the_most_plausible_of_several(self, tmp_path: Path):
        regions = [region(POLYGON, colour="red", Type="cat", crowd="1"), region(RECT, colour="blue", Type="dog")]
        data = open_dataset(folder(tmp_path, entries(*regions)))
        assert tuple(data.classes) == ("cat", "dog")
        assert data.columns.crowd.tolist() == [True, False]
        assert data.columns.extra["other"].texts() == ['{"colour":"red"}', '{"colour":"blue"}']
        assert tuple(open_dataset(tmp_path, classes=["red", "blue"]).classes) == ("red", "blue")

    def test_no_plausible_one(self, tmp_path: Path):
        folder(tmp_path, entries(region(POLYGON, colour="red", size="big")))
        with pytest.raises(InputError, match=r"several region attributes \(colour, size\), .* give the class names"):
            open_dataset(tmp_path)
        assert tuple(open_dataset(tmp_path, classes=["big", "small"]).classes) == ("big", "small")

    def test_checkbox(self, tmp_path: Path):
        data = open_dataset(folder(tmp_path, entries(region(RECT, kind={"cat": True, "dog": False}))))
        assert tuple(data.classes) == ("cat",)

    def test_unknown_and_missing(self, tmp_path: Path):
        folder(tmp_path, entries(region(RECT, kind="cat"), region(RECT)))
        with pytest.raises(InputError, match=r"region 1 of a\.jpg has no 'kind', which is the class; set it"):
            open_dataset(tmp_path)
        folder(tmp_path, entries(region(RECT, kind="cat")))
        with pytest.raises(InputError, match=r"region 0 of a\.jpg has class 'cat', .*classes \(dog\); correct it"):
            open_dataset(tmp_path, classes=["dog"])


class TestMistakes:
    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ({"name": "polygon", "all_points_x": [1], "all_points_y": [2, 3]}, "has 1 x but 2 y coordinates"),
            ({"name": "polygon", "all_points_x": [], "all_points_y": []}, "has 0 coordinates, but points need x and y"),
            ({"name": "rect", "x": 1, "y": None}, r"has the coordinates \[1, None, None, None\], but they must be"),
            ({"name": "blob"}, "is a 'blob', but regions are rect, polygon"),
        ],
    )
    def test_shapes(self, tmp_path: Path, shape: dict[str, Any], words: str):
        folder(tmp_path, entries(region(shape, kind="x")))
        with pytest.raises(InputError, match=rf"via_region_data\.json: region 0 of a\.jpg {words}"):
            open_dataset(tmp_path)

    def test_files(self, tmp_path: Path):
        text(tmp_path / "x.json", '{"a.jpg1": {"filename": "a.jpg", "regions": [')
        with pytest.raises(InputError, match=r"x\.json is not valid JSON: .*; correct or save it again"):
            open_dataset(tmp_path)
        write_json(tmp_path / "x.json", {"a.jpg1": {"filename": "a.jpg", "regions": [{"shape": 1}]}})
        with pytest.raises(InputError, match=r"x\.json: a\.jpg: region 0 has no \"shape_attributes\""):
            open_dataset(tmp_path)
        write_json(tmp_path / "x.json", entries(region(RECT, kind="x")))
        with pytest.raises(InputError, match=r"contains 1 labels but none of their images: x\.json: a\.jpg has none"):
            open_dataset(tmp_path)

    def test_a_polygon_of_two_points_is_kept_until_used(self, tmp_path: Path):
        shape = {"name": "polygon", "all_points_x": [1, 8], "all_points_y": [2, 3]}
        data = open_dataset(folder(tmp_path, entries(region(shape, kind="x"))))
        assert len(data.target(0)) == 1
        with pytest.raises(
            InputError, match=r"a\.jpg: segmentation 0 has a polygon of 2 points, but an outline needs three"
        ):
            data.with_fields("masks").target(0)


def test_what_is_written(tmp_path: Path):
    out = convert(outlined(), tmp_path / "out", "via").folder
    assert files_of(out) == [
        "train/a.png",
        "train/deep/b.png",
        "train/via_project.json",
        "val/c.png",
        "val/via_project.json",
    ]
    project = json.loads((out / "val/via_project.json").read_text())
    assert list(project["_via_attributes"]["region"]["class"]["options"]) == ["zebra", "ant & <bee>", "unused"]
    (entry,) = project["_via_img_metadata"].values()
    assert entry["size"] == (out / "val/c.png").stat().st_size
    assert entry["regions"][0] == region(
        {"name": "rect", "x": 3.25, "y": 5, "width": 16.75, "height": 25.5},
        **{"class": "ant & <bee>", "difficult": "1"},
    )


def test_balloon(shared: Path, tmp_path: Path):
    data = open_dataset(shared / "data" / "balloon")
    assert [len(data["train"]), len(data["val"])] == [61, 13]
    assert [data["train"].columns.objects, data["val"].columns.objects] == [255, 50]
    assert tuple(data.classes) == ("balloon",)
    stated = json.loads((shared / "data/balloon/val/via_region_data.json").read_text())
    val = data["val"]
    for i, entry in enumerate(stated.values()):
        assert val.image_name(i) == entry["filename"]
        for box, one in zip(val.target(i).boxes.tolist(), entry["regions"].values(), strict=True):
            xs, ys = (one["shape_attributes"][f"all_points_{axis}"] for axis in "xy")
            assert box == [min(xs), min(ys), max(xs), max(ys)]
    few = val[:4]
    want = masks(few)
    same_masks(oracle_masks(few), want)
    for to in ("via", "labelme", "cvat", "yolo-seg", "coco"):
        again = open_dataset(convert(few, tmp_path / to, to, symlink=True).folder)
        assert sorted(map(tuple, (np.round(again.columns.boxes, 3)).tolist())) == sorted(
            map(tuple, few.columns.boxes.tolist())
        )
        assert sorted(m.sum() for m in masks(again).values()) == sorted(m.sum() for m in want.values())
