"""LabelMe: layouts, embedded images, shapes, groups, mistakes."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.check import check
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .drawn import files_of, masks, oracle_masks, outlined, overlap, same_masks
from .helpers import everything, picture, rows, text, write_json

POLYGON = [[1, 2], [9, 2], [5, 20.5]]


def shape(label: str, points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def content(*shapes: dict[str, Any], image: str = "a.jpg", data: str | None = None, **more: Any) -> dict[str, Any]:
    stated = {"imagePath": image, "imageData": data, "imageHeight": 48, "imageWidth": 64}
    return {"version": "5.2.1", "flags": {}, "shapes": list(shapes), **stated, **more}


def png(array: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def folder(root: Path, *shapes: dict[str, Any]) -> Path:
    picture(root / "a.jpg")
    write_json(root / "a.json", content(*shapes))
    return root


class TestRectangles:
    @pytest.mark.parametrize(
        "points",
        [
            [[10, 10], [30, 40]],
            [[30, 10], [10, 40]],
            [[10, 10], [30, 10], [30, 40], [10, 40]],
            [[30, 40], [10, 40], [10, 10], [30, 10]],
            [[10, 10], [30, 40], [10, 40], [30, 10]],
            [[10, 10], [30, 10.0000001], [30, 40], [10, 40]],
            [[10, 10], [30, 10], [30, 40], [10, 40], [10, 10]],
        ],
    )
    def test_two_corners_or_four(self, points: list[list[float]], tmp_path: Path):
        data = open_dataset(folder(tmp_path, shape("cat", points, "rectangle", score=None, difficult=True)))
        ((name, *box),) = rows(data, 0)
        assert name == "cat"
        assert box == pytest.approx([10, 10, 30, 40])
        assert data.columns.segmentations.texts() == [""]
        assert data.columns.areas.tolist() == pytest.approx([600])
        assert data.columns.difficult.tolist() == [True]

    @pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral"])
    def test_a_turned_one_is_an_outline(self, kind: str, tmp_path: Path):
        points = [[30, 10], [50, 20], [40, 40], [20, 30]]  # a square whose sides measure √500
        data = open_dataset(folder(tmp_path, shape("cat", points, kind, direction=0.46))).with_fields("masks")
        assert rows(data, 0) == [("cat", 20, 10, 50, 40)]
        assert data.target(0).masks.sum() == data.columns.areas[0] == pytest.approx(500, rel=0.02)

    @pytest.mark.parametrize("kind", ["rotation", "quadrilateral"])
    def test_an_upright_one_of_these_has_an_outline_too(self, kind: str, tmp_path: Path):
        data = open_dataset(folder(tmp_path, shape("cat", [[1, 2], [9, 2], [9, 5], [1, 5]], kind)))
        assert data.columns.segmentations.texts() == ["[[1,2,9,2,9,5,1,5]]"]

    @pytest.mark.parametrize(("kind", "count"), [("rectangle", 1), ("rectangle", 5), ("rotation", 2), ("rotation", 3)])
    def test_other_numbers_of_points_are_refused(self, kind: str, count: int, tmp_path: Path):
        points = [[k, k * k] for k in range(count)]
        with pytest.raises(InputError, match=rf"a\.json: shape 0 is a {kind} with {count} points, but needs "):
            open_dataset(folder(tmp_path, shape("cat", points, kind)))


class TestLayouts:
    def test_beside_the_images(self, tmp_path: Path):
        folder(tmp_path, shape("cat", POLYGON), shape("ant", [[14, 26], [4, 6]], "rectangle"))
        picture(tmp_path / "b.jpg")
        data = open_dataset(tmp_path)
        assert data.format == "labelme"
        assert tuple(data.classes) == ("ant", "cat")
        assert everything(data) == {
            ("all", "a.jpg"): [("cat", 1, 2, 9, 20.5), ("ant", 4, 6, 14, 26)],
            ("all", "b.jpg"): [],
        }
        assert data.columns.segmentations.texts() == ["[[1,2,9,2,5,20.5]]", ""]
        assert data.label_path(0) == tmp_path / "a.json"
        assert data.label_path(1) is None
        assert rows(open_dataset(tmp_path / "a.json"), 0) == rows(data, 0)

    def test_splits_and_listed_classes(self, tmp_path: Path):
        for split in ("train", "valid"):
            folder(tmp_path / split, shape("cat", POLYGON))
        text(tmp_path / "labels.txt", "__ignore__\n_background_\ndog\ncat\n")
        data = open_dataset(tmp_path)
        assert data.splits == ("train", "val")
        assert tuple(data.classes) == ("dog", "cat")
        text(tmp_path / "labels.txt", "dog\n")
        with pytest.raises(InputError, match=r"a\.json: shape 0 has class 'cat', .* \(dog\)"):
            open_dataset(tmp_path)

    def test_folders_of_labels_and_images(self, tmp_path: Path):
        picture(tmp_path / "images" / "a.jpg")
        write_json(tmp_path / "annotations" / "a.json", content(shape("cat", POLYGON), image="..\\images\\a.jpg"))
        write_json(tmp_path / "annotations" / "ghost.json", content(shape("cat", POLYGON), image="ghost.jpg"))
        data = open_dataset(tmp_path)
        assert everything(data) == {("all", "a.jpg"): [("cat", 1, 2, 9, 20.5)]}
        assert data.orphans == ("annotations/ghost.json",)

    def test_no_image_anywhere(self, tmp_path: Path):
        write_json(tmp_path / "a.json", content(shape("cat", POLYGON)))
        with pytest.raises(InputError, match=r"contains 1 labels but none of their images: a\.json has none"):
            open_dataset(tmp_path)


def test_the_image_inside(tmp_path: Path):
    """Without a file beside it the image comes from the JSON; with files for others, these are read as files."""
    inside = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    folder(tmp_path, shape("cat", POLYGON))
    write_json(tmp_path / "b.json", content(shape("cat", POLYGON), image="../x/b.jpg", data=png(inside)))
    data = open_dataset(tmp_path)
    assert [data.image_name(i) for i in range(2)] == ["a.jpg", "b.jpg"]
    assert torch.equal(data.image(1), torch.from_numpy(inside).permute(2, 0, 1))
    assert data.image(0).shape == (3, 48, 64)
    assert {p.rule for p in check(data, progress=False).problems if p.level == "error"} == set()
    again = open_dataset(convert(data, tmp_path / "out", "coco").folder)
    assert torch.equal(again.image(1), data.image(1))
    same_masks({k[1][:1]: v for k, v in masks(data).items()}, {k[1][:1]: v for k, v in masks(again).items()})
    write_json(tmp_path / "b.json", content(image="b.jpg", data="bm90aGluZw=="))
    with pytest.raises(InputError, match=r"b\.json: its imageData is not an image"):
        open_dataset(tmp_path).image(1)


def test_shapes_groups_and_marks(tmp_path: Path):
    stamp = np.zeros((5, 7), bool)
    stamp[1:4, 2:] = True
    folder(
        tmp_path,
        shape("disc", [[20, 22], [20, 30.5]], "circle"),
        shape("two", POLYGON, group_id=3, description="both", flags={"occluded": True, "shiny": True}, score=0.5),
        shape("line", [[1, 2], [3, 9]], "line"),
        shape("two", [[30, 30], [40, 30], [40, 40]], group_id=3),
        shape("other", [[30, 30], [40, 30], [40, 40]], group_id=3),
        shape("stamp", [[10, 20], [16, 24]], "mask", mask=png(stamp)),
        shape("dot", [[5, 6]], "point", flags={"crowd": True, "difficult": False}),
    )
    data = open_dataset(tmp_path)
    columns = data.columns
    found = {row[0]: row[1:] for row in rows(data, 0)}
    assert found == {
        "disc": (11.5, 13.5, 28.5, 30.5),
        "two": (1, 2, 40, 40),
        "line": (1, 2, 3, 9),
        "other": (30, 30, 40, 40),
        "stamp": (12, 21, 17, 24),
        "dot": (5, 6, 5, 6),
    }
    (by_name,) = masks(data).values()
    order = [row[0] for row in rows(data, 0)]
    assert abs(int(by_name[order.index("disc")].sum()) - math.pi * 8.5**2) < 8
    assert by_name[order.index("stamp")][20:25, 10:17].tolist() == stamp.tolist()
    assert by_name[order.index("stamp")].sum() == stamp.sum()
    same_masks(masks(data), oracle_masks(data))
    two = order.index("two")
    assert columns.captions is not None
    assert columns.captions.text(two) == "both"
    assert columns.extra["occluded"][two]
    assert json.loads(columns.extra["other"][two]) == {"score": 0.5, "flags": {"shiny": True}}
    assert columns.crowd.tolist() == [name == "dot" for name in order]
    out = convert(data, tmp_path / "out", "labelme").folder
    again = open_dataset(out)
    assert again.columns.extra["other"] == columns.extra["other"]
    assert again.columns.extra["shape"] == columns.extra["shape"]
    assert everything(again) == everything(data)
    same_masks(masks(again), masks(data))


class TestMistakes:
    @pytest.mark.parametrize(
        ("one", "words"),
        [
            (shape("x", [[1, 2], [3, 4], [5, 6]], "rectangle"), "is a rectangle with 3 points, but needs two opposite"),
            (shape("x", [[1, 2, 3]]), r"has the points \[\[1, 2, 3\]\], but they must be pairs"),
            (shape("x", []), r"has the points \[\], but they must be pairs"),
            (shape("x", [[1, "y"]]), r"has the coordinates \[1, 'y'\], but they must be numbers"),
            (shape("", POLYGON), "has no label; name its class, or remove it"),
            (shape("x", POLYGON, "blob"), "is a 'blob', which is not known"),
            (shape("x", [[0, 0], [1, 1]], "mask", mask="bm8="), "is a mask whose image cannot be read"),
            (
                shape("x", [[60, 40], [69, 49]], "mask", mask=png(np.ones((10, 10), bool))),
                "is a mask of 10 × 10 pixels at 60, 40, but the image is 64 × 48; draw it again",
            ),
        ],
    )
    def test_shapes(self, tmp_path: Path, one: dict[str, Any], words: str):
        with pytest.raises(InputError, match=rf"a\.json: shape 0 {words}"):
            open_dataset(folder(tmp_path, one))

    def test_files(self, tmp_path: Path):
        picture(tmp_path / "a.jpg")
        text(tmp_path / "a.json", '{"version": "5", "shapes": [], "imagePath": "a.jpg",')
        with pytest.raises(InputError, match=r"a\.json is not valid JSON: .*; correct or save it again"):
            open_dataset(tmp_path)
        write_json(tmp_path / "a.json", {"shapes": [], "imagePath": None})
        with pytest.raises(InputError, match=r'a\.json is not a LabelMe file: it needs "shapes" and "imagePath"'):
            open_dataset(tmp_path)


def test_what_is_written(tmp_path: Path):
    out = convert(outlined(), tmp_path / "out", "labelme").folder
    assert files_of(out) == [
        "labels.txt",
        "train/a.json",
        "train/a.png",
        "train/deep/b.json",
        "train/deep/b.png",
        "val/c.json",
        "val/c.png",
    ]
    written = json.loads((out / "train/a.json").read_text())
    assert [(s["label"], s["shape_type"], s["group_id"]) for s in written["shapes"]] == [
        ("zebra", "polygon", None),
        ("ant & <bee>", "polygon", 1),
        ("ant & <bee>", "polygon", 1),
        ("zebra", "mask", None),
    ]
    assert (written["imagePath"], written["imageHeight"], written["imageWidth"]) == ("a.png", 48, 64)


def test_real_with_and_without_files(shared: Path):
    root = shared / "data" / "formats" / "four_images"
    with_files = open_dataset(root / "labelme", images=root / "images")
    inside = open_dataset(root / "labelme")
    assert inside.root is None
    for i in range(4):
        apart = (with_files.image(i).float() - inside.image(i).float()).abs()
        assert apart.mean() < 8  # LabelMe encoded them anew, and coarsely
    mine, others = masks(with_files), masks(inside)
    for key, value in others.items():
        assert overlap(value, mine[key]) == 1 or not value.any()
