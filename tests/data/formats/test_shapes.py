"""Shapes as boxes and outlines, against naive rasterisation; and every format that holds shapes, round and round."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.blob import Blob
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset, shapes
from sightline.data.formats.files import common_folder
from sightline.data.formats.gather import Gather
from sightline.errors import InputError
from sightline.ops.masks import polygons_to_mask

from .drawn import masks, oracle_masks, outlined, overlap, same_masks
from .helpers import coco, coco_image, coco_object, everything, picture, write_json

DRAWN = ["via", "labelme", "cvat"]


def inside_ellipse(cx: float, cy: float, rx: float, ry: float, angle: float, size: tuple[int, int]) -> np.ndarray:
    """Pixel by pixel: is the centre inside?"""
    out = np.zeros(size, bool)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for y in range(size[0]):
        for x in range(size[1]):
            dx, dy = x + 0.5 - cx, y + 0.5 - cy
            out[y, x] = ((dx * cos + dy * sin) / rx) ** 2 + ((dy * cos - dx * sin) / ry) ** 2 <= 1
    return out


def shoelace(polygon: list[float]) -> float:
    """The area inside a flat polygon that does not cross itself."""
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in itertools.pairwise([*corners, corners[0]]))) / 2


class TestGeometry:
    @pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, -45.0])
    def test_ellipse(self, angle: float):
        shape = {"kind": "ellipse", "cx": 40.5, "cy": 30, "rx": 25, "ry": 10, "angle": angle}
        box, polygon = shapes.geometry(shape)
        assert polygon is not None
        mask = polygons_to_mask([polygon], (60, 80)).numpy()
        assert overlap(mask, inside_ellipse(40.5, 30, 25, 10, angle, (60, 80))) > 0.97
        if angle == 0:
            assert box == (15.5, 20, 65.5, 40)
        if angle == 90:
            assert np.allclose(box, (30.5, 5, 50.5, 55), atol=1e-3)
        assert shoelace(polygon) == pytest.approx(math.pi * 250, rel=0.005)

    def test_polygon_leaves_the_ellipse_by_no_more_than_said(self):
        for radius in (3.0, 40.0, 900.0):
            polygon = np.array(shapes.ellipse_polygon(0, 0, radius, radius)).reshape(-1, 2)
            middles = (polygon + np.roll(polygon, -1, 0)) / 2
            assert radius - np.hypot(*middles.T).min() <= 0.0501
            assert np.abs(np.hypot(*polygon.T) - radius).max() < 1e-3

    def test_turned_box(self):
        box, polygon = shapes.geometry({"kind": "box", "box": [10, 20, 30, 24], "angle": 90})
        assert np.allclose(box, (18, 12, 22, 32))
        assert shoelace(polygon) == pytest.approx(80)
        # clockwise as seen: the top left corner goes to the top right
        _, polygon = shapes.geometry({"kind": "box", "box": [0, 0, 10, 10], "angle": 90})
        assert np.allclose(polygon[:2], [10, 0])

    def test_line_has_no_outline(self):
        assert shapes.geometry({"kind": "line", "points": [1, 5, 7, 2]}) == ((1, 2, 7, 5), None)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.lists(st.tuples(st.integers(0, 160), st.integers(0, 120)), min_size=3, max_size=6),
            min_size=2,
            max_size=4,
        )
    )
    def test_joined_parts_cover_the_same_pixels(self, parts: list[list[tuple[int, int]]]):
        polygons = [[value / 4 for point in part for value in point] for part in parts]
        ring = shapes.joined(polygons, (32, 42))
        mask = polygons_to_mask(polygons, (32, 42)).numpy()
        assert np.array_equal(polygons_to_mask([ring], (32, 42)).numpy(), mask) or not mask.any()

    def test_common_folder(self):
        assert common_folder(["a/b/c.png", "a/b/d.png"]) == "a/b"
        assert common_folder(["a/b/c.png", "a/e.png"]) == "a"
        assert common_folder(["c.png", "a/e.png"]) == ""
        assert common_folder([]) == ""


class TestRoundTrips:
    @pytest.mark.parametrize("to", [*DRAWN, "yolo-seg", "coco"])
    @pytest.mark.parametrize("splits", [True, False])
    def test_every_outline(self, tmp_path: Path, to: str, splits: bool):
        data = outlined(splits)
        done = convert(data, tmp_path / "out", to)
        again = open_dataset(done.folder)
        assert again.format == to
        assert again.splits == data.splits
        assert tuple(again.classes) == tuple(data.classes)
        before, after = everything(data), everything(again)
        assert before.keys() == after.keys()
        for key in before:
            assert [row[0] for row in before[key]] == [row[0] for row in after[key]]
            assert np.allclose([row[1:] for row in before[key]], [row[1:] for row in after[key]], atol=1e-3)
        want, got = masks(data), masks(again)
        if to == "yolo-seg":  # a box alone becomes the polygon of its corners
            key = next(key for key in want if key[1] == "c.png")
            assert not want[key][0].any()
            x1, y1, x2, y2 = before[key][0][1:]
            want[key][0] = polygons_to_mask([[x1, y1, x2, y1, x2, y2, x1, y2]], (48, 64)).numpy()
        same_masks(want, got)
        same_masks(oracle_masks(again), got)
        if to != "yolo-seg":
            assert again.columns.crowd.tolist() == data.columns.crowd.tolist()
            assert again.columns.difficult.tolist() == data.columns.difficult.tolist()
            assert again.columns.captions == data.columns.captions
            assert done.lost == {}
        else:
            assert done.lost == {"captions": 1, "crowd marks": 1, "difficult marks": 1}

    @pytest.mark.parametrize(
        "way",
        [["via", "labelme", "cvat", "coco", "via"], ["cvat", "via", "labelme", "cvat"], ["labelme", "cvat", "labelme"]],
    )
    def test_shapes_stay_what_they_are(self, tmp_path: Path, way: list[str]):
        """A circle, an ellipse, a line, a point, a turned box: exact where the tools have them, else their outline."""
        drawn: list[shapes.Shape] = [
            {"kind": "ellipse", "cx": 20.5, "cy": 18.0, "rx": 7.25, "ry": 7.25},
            {"kind": "line", "points": [3.0, 4.0, 9.5, 30.0, 40.0, 8.0]},
            {"kind": "points", "points": [11.5, 12.0]},
        ]
        picture(tmp_path / "in" / "a.jpg")
        gather = Gather(None)
        gather.image("a.jpg", (48, 64), 0)
        for shape in drawn:
            gather.object("", shape["kind"], shape=shape, attributes={"colour": "red", "occluded": "1"})
        write_json(
            tmp_path / "in" / "x.json", coco([coco_image(1, "a.jpg")], [coco_object(1, 1, 1, [0, 0, 1, 1])], {1: "x"})
        )
        columns, classes = gather.finish()
        base = open_dataset(tmp_path / "in")
        current: Dataset = Dataset(replace(base.source, columns=columns, classes=classes))
        want = masks(current)
        for step, to in enumerate(way):
            current = open_dataset(convert(current, tmp_path / str(step), to).folder)
            got = masks(current)
            assert [m.sum() for m in next(iter(got.values()))] == [m.sum() for m in next(iter(want.values()))]
            assert np.allclose(current.columns.boxes, columns.boxes, atol=1e-3)
            kept = current.columns.extra.get("shape")
            if "coco" not in way[: step + 1]:
                assert isinstance(kept, Blob)
                assert [json.loads(text) for text in kept] == drawn
                assert [json.loads(t) for t in current.columns.extra["other"]] == [{"colour": "red"}] * 3
                assert current.columns.extra["occluded"].tolist() == [True] * 3

    def test_a_shape_that_no_longer_fits_its_box_is_not_written(self, tmp_path: Path):
        gather = Gather(None)
        gather.image("a.jpg", (48, 64), 0)
        gather.object("", "x", shape={"kind": "line", "points": [1.0, 1, 9, 9]})
        columns, _ = gather.finish()
        assert shapes.shape_of(columns, 0) is not None
        assert shapes.shape_of(columns.replace(boxes=columns.boxes + 1), 0) is None

    def test_what_is_lost_is_said(self, tmp_path: Path):
        data = outlined()
        columns = data.columns
        data = data.with_columns(
            columns.replace(
                keypoints=np.ones((5, 2, 3), np.float32),
                boxes=columns.boxes + 3,
                segmentations=Blob.of([b"[[1,2,3,4]]", *columns.segmentations[1:]]),
            )
        )
        for to in DRAWN:
            lost = convert(data, tmp_path / to, to).lost
            assert lost["keypoints"] == 5
            assert lost["outlines of fewer than three points"] == 1
            assert lost["boxes apart from their outlines"] == 2


class TestFourImages:
    """The same four images, drawn anew by hand in each tool."""

    @pytest.fixture
    def tools(self, shared: Path) -> dict[str, Dataset]:
        root = shared / "data" / "formats" / "four_images"
        images = root / "images"
        return {
            "via": open_dataset(root / "via", images=images),
            "csv": open_dataset(root / "via" / "via_region_data.csv", images=images),
            "labelme": open_dataset(root / "labelme", images=images),
            "cvat": open_dataset(root / "cvat1.1", images=images),
            "coco": open_dataset(root / "coco1.0", images=images),
            "masks": open_dataset(root / "voc1.1", images=images, format="masks"),
        }

    def test_json_and_csv_of_via(self, tools: dict[str, Dataset]):
        for key, mine in everything(tools["csv"]).items():
            theirs = everything(tools["via"])[key]
            assert set(mine) == set(theirs)  # the JSON holds the strawberries twice
        assert tools["csv"].columns.objects == 25
        assert tools["via"].columns.objects == 42

    def test_boxes_agree(self, tools: dict[str, Dataset]):
        reference = everything(tools["labelme"])
        for name in ("csv", "cvat"):
            for key, mine in everything(tools[name]).items():
                theirs = reference[key]
                assert len(mine) == len(theirs)
                ours = np.array(sorted(row[1:] for row in mine))
                for box in ours:  # each has its partner in the other file: drawn by hand twice
                    apart = np.abs(np.array([row[1:] for row in theirs]) - box).max(1)
                    assert apart.min() < 16, (name, key, box)

    def test_masks_agree(self, tools: dict[str, Dataset]):
        found = {name: masks(data) for name, data in tools.items()}
        for name, by_image in found.items():
            same_masks(oracle_masks(tools[name]), by_image)
        shape = ("all", "shapes.jpg")
        for name in ("csv", "cvat", "coco"):
            for key in (("all", "birds.jpg"), shape):
                for mask in found[name][key]:
                    if mask.any():  # labelme drew all of them as areas
                        assert max(overlap(mask, other) for other in found["labelme"][key]) > 0.9, (name, key)
        for mask in found["masks"][shape]:  # CVAT's own pictures of its ellipses
            assert max(overlap(mask, other) for other in found["cvat"][shape]) > 0.98
        for mask in found["coco"][shape][2:]:  # and its RLE
            if mask.any():
                assert max(overlap(mask, other) for other in found["cvat"][shape]) > 0.98

    def test_round_trips(self, tools: dict[str, Dataset], tmp_path: Path):
        for name in ("csv", "labelme", "cvat"):
            data = tools[name]
            want = masks(data)
            for to in DRAWN:
                again = open_dataset(convert(data, tmp_path / name / to, to, symlink=True).folder)
                got = masks(again)
                same_masks({k: want[k] for k in want}, {k: got[k] for k in want})
                for key, mine in everything(data).items():
                    assert [r[0] for r in mine] == [r[0] for r in everything(again)[key]]
                    assert np.allclose([r[1:] for r in mine], [r[1:] for r in everything(again)[key]], atol=1e-3)


def test_numbers_are_asked_for():
    with pytest.raises(InputError, match=r"here has the coordinates \['x', 1\], but they must be numbers; correct"):
        shapes.as_numbers(["x", 1], "here")
    with pytest.raises(InputError, match="here has 3 coordinates, but points need x and y each"):
        shapes.as_numbers([1, 2, 3], "here", even=True)
