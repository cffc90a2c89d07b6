"""CVAT XML: images, subsets, tracks, shapes, mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .drawn import files_of, masks, oracle_masks, outlined, same_masks
from .helpers import everything, picture, rows, text

TRIANGLE = '<polygon label="cat" points="1.00,2.00;9,2;5,20.5"></polygon>'


def document(body: str, labels: str = "dog cat", more: str = "") -> str:
    listed = "".join(f"<label><name>{name}</name></label>" for name in labels.split())
    meta = f"<meta><task><labels>{listed}</labels>{more}</task></meta>"
    return f"<annotations><version>1.1</version>{meta}{body}</annotations>"


def image(body: str, name: str = "a.jpg", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="64" height="48" {more}>{body}</image>'


def folder(root: Path, body: str) -> Path:
    picture(root / "images" / "a.jpg")
    text(root / "annotations.xml", document(image(body)))
    return root


def test_layouts(tmp_path: Path):
    data = open_dataset(folder(tmp_path / "one", TRIANGLE + '<box label="dog" xtl="1" ytl="2" xbr="3.5" ybr="4"/>'))
    assert data.format == "cvat"
    assert tuple(data.classes) == ("dog", "cat")
    assert everything(data) == {("all", "a.jpg"): [("cat", 1, 2, 9, 20.5), ("dog", 1, 2, 3.5, 4)]}
    assert everything(open_dataset(tmp_path / "one" / "annotations.xml")) == everything(data)
    root = tmp_path / "project"
    text(
        root / "annotations.xml",
        document(image(TRIANGLE, more='subset="Train"') + image("", more='subset="Validation"')),
    )
    picture(root / "images" / "Train" / "a.jpg")
    picture(root / "images" / "Validation" / "a.jpg")
    data = open_dataset(root)
    assert everything(data) == {("train", "a.jpg"): [("cat", 1, 2, 9, 20.5)], ("val", "a.jpg"): []}
    files = tmp_path / "two"
    for split in ("train", "val"):
        text(files / f"{split}.xml", document(image(TRIANGLE, f"{split}.jpg")))
        picture(files / f"{split}.jpg")
    assert open_dataset(files).splits == ("train", "val")
    assert open_dataset(files, test="val.xml").splits == ("test",)


def test_shapes_groups_and_marks(tmp_path: Path):
    body = (
        '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5" rotation="90"/>'
        '<box label="cat" xtl="10" ytl="20" xbr="30" ybr="24" rotation="90" z_order="2"/>'
        '<polygon label="dog" points="1,2;9,2;5,20" group_id="4"/>'
        '<polyline label="cat" points="1,2;9,8"/><points label="cat" points="3,4"/>'
        '<polygon label="dog" points="30,30;40,30;40,40" group_id="4" occluded="1"/>'
        '<mask label="cat" rle="2, 3, 1, 6" left="10" top="20" width="4" height="3"/>'
        '<skeleton label="cat"><points label="1" outside="0" points="3,4"/><points label="2" outside="0" points="8,2"/>'
        '<points label="3" outside="1" points="60,2"/></skeleton>'
        '<box label="dog" xtl="1" ytl="2" xbr="3" ybr="4" occluded="1"><attribute name="crowd">1</attribute>'
        '<attribute name="colour">red &amp; blue</attribute></box><tag label="night"/>'
    )
    data = open_dataset(folder(tmp_path, body))
    boxes = [row[1:] for row in rows(data, 0)]
    expected = [
        (25, 10, 35, 30),
        (18, 12, 22, 32),
        (1, 2, 40, 40),
        (1, 2, 9, 8),
        (3, 4, 3, 4),
        (10, 20, 14, 23),
        (3, 2, 8, 4),
        (1, 2, 3, 4),
    ]
    assert np.allclose(boxes, expected, atol=1e-3)
    (found,) = masks(data).values()
    assert abs(int(found[0].sum()) - math.pi * 50) < 8
    assert found[1].sum() == 80
    assert found[5][20:23, 10:14].tolist() == [[False, False, True, True], [True, False, True, True], [True] * 4]
    same_masks(masks(data), oracle_masks(data))
    columns = data.columns
    assert columns.crowd.tolist() == [False] * 7 + [True]
    assert columns.extra["occluded"].tolist() == [False] * 7 + [True]
    assert json.loads(columns.extra["other"][7]) == {"colour": "red & blue"}
    assert json.loads(columns.extra["other"][1]) == {"z_order": "2"}
    assert data.image_extra(0) == {"tags": ["night"]}
    (note,) = data.notes
    assert note.startswith("1 image has tags, such as 'night', which are kept beside the objects but are no classes")
    again = open_dataset(convert(data, tmp_path / "out", "cvat").folder)
    assert everything(again) == everything(data)
    assert again.columns.extra["other"] == columns.extra["other"]
    assert again.columns.extra["shape"] == columns.extra["shape"]
    assert again.image_extra(0) == data.image_extra(0)
    same_masks(masks(again), masks(data))


def test_tracks(tmp_path: Path):
    def box(frame: int, x: int, outside: int) -> str:
        return f'<box frame="{frame}" outside="{outside}" xtl="{x}" ytl="2" xbr="{x + 5}" ybr="9" occluded="0"/>'

    tracks = (
        f'<track id="0" label="cat">{box(0, 1, 0)}{box(1, 2, 0)}{box(2, 2, 1)}</track>'
        f'<track id="7" label="dog">{box(1, 9, 0)}{box(2, 10, 0)}{box(9, 10, 0)}</track>'
    )
    size = "<original_size><width>64</width><height>48</height></original_size>"
    text(tmp_path / "annotations.xml", document(tracks, more=size))
    with pytest.raises(InputError, match=r"contains tracks of a video, but none of its frames exists"):
        open_dataset(tmp_path)
    for frame in range(4):
        picture(tmp_path / "images" / f"frame_{frame:06d}.png")
    data = open_dataset(tmp_path)
    assert list(everything(data).values()) == [
        [("cat", 1, 2, 6, 9)],
        [("cat", 2, 2, 7, 9), ("dog", 9, 2, 14, 9)],
        [("dog", 10, 2, 15, 9)],
        [],
    ]
    assert data.columns.extra["track"].tolist() == [0, 0, 7, 7]
    assert data.orphans == ("annotations.xml: frame 9",)
    assert convert(data, tmp_path / "out", "cvat").lost == {"track": 4}
    assert everything(open_dataset(tmp_path / "out")) == everything(data)


class TestMistakes:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (
                '<box label="cat" xtl="a" ytl="2" xbr="3" ybr="4"/>',
                r"\(box\) has the coordinates \['a', '2', '3', '4'\]",
            ),
            ('<polygon label="cat" points=""/>', r"\(polygon\) has 0 coordinates, but points need x and y"),
            ('<polygon label="cat" points="1,2;3"/>', r"\(polygon\) has 3 coordinates, but points need x and y"),
            ('<polygon label="" points="1,2;3,3;4,9"/>', r"\(polygon\) has no label; name its class, or remove it"),
            ('<polygon label="eel" points="1,2;3,3;4,9"/>', r"\(polygon\) has class 'eel', .* \(dog, cat\)"),
            (
                '<mask label="cat" rle="2,3" left="0" top="0" width="4" height="3"/>',
                r"\(mask\): the runs of its rle add up to 5, but 4 × 3 are 12 pixels",
            ),
            (
                '<mask label="cat" rle="2,10" left="62" top="0" width="4" height="3"/>',
                r"\(mask\) is a mask of 4 × 3 pixels at 62, 0, but the image is 64 × 48",
            ),
        ],
    )
    def test_shapes(self, tmp_path: Path, body: str, words: str):
        with pytest.raises(InputError, match=rf"annotations\.xml: a\.jpg: shape 0 {words}"):
            open_dataset(folder(tmp_path, body))

    def test_files(self, tmp_path: Path):
        text(tmp_path / "annotations.xml", "<annotations><image")
        with pytest.raises(InputError, match=r"annotations\.xml is not valid XML .*; repair or remove it"):
            open_dataset(tmp_path)
        text(tmp_path / "annotations.xml", document(image(TRIANGLE)))
        with pytest.raises(
            InputError, match=r"contains 1 labels but none of their images: annotations\.xml: a\.jpg has none"
        ):
            open_dataset(tmp_path)

    def test_a_polygon_of_two_points_is_kept_until_used(self, tmp_path: Path):
        data = open_dataset(folder(tmp_path, '<polygon label="cat" points="1,2;9,2"/>'))
        assert len(data.target(0)) == 1
        with pytest.raises(InputError, match=r"a\.jpg: segmentation 0 has a polygon of 2 points"):
            data.with_fields("masks").target(0)


def test_what_is_written(tmp_path: Path):
    out = convert(outlined(), tmp_path / "out", "cvat").folder
    assert files_of(out) == ["annotations.xml", "images/train/a.png", "images/train/deep/b.png", "images/val/c.png"]
    tree = ElementTree.parse(out / "annotations.xml").getroot()
    assert [(e.get("name"), e.get("subset")) for e in tree.iter("image")] == [
        ("a.png", "train"),
        ("deep/b.png", "train"),
        ("c.png", "val"),
    ]
    assert [e.tag for e in tree.find("image") or []] == ["polygon", "polygon", "polygon", "mask"]


class TestReal:
    def test_images(self, shared: Path, tmp_path: Path):
        root = shared / "data" / "formats" / "datumaro_cvat"
        data = open_dataset(root / "for_images" / "export_project")
        assert data.splits == ("train", "val", "test")
        assert tuple(data.classes) == ("label1", "label2")
        assert rows(data["test"], 0) == [("label1", 0, 2, 4, 4), ("label2", 1, 2, 7, 8)]
        again = open_dataset(convert(data, tmp_path / "again", "cvat").folder)
        assert everything(again) == everything(data)
        assert again.columns.extra["other"] == data.columns.extra["other"]
        with pytest.raises(InputError, match=r"train\.xml: img0\.jpg: shape 1 \(polyline\) has no label"):
            open_dataset(root / "for_images" / "export_task")

    def test_video(self, shared: Path):
        data = open_dataset(shared / "data" / "formats" / "datumaro_cvat" / "for_video")
        assert [data.image_name(i) for i in range(3)] == ["frame_000010.png", "frame_000013.png", "frame_000016.png"]
        assert everything(data)["all", "frame_000010.png"][0] == ("II", 3, 4, 10, 5)
        assert [len(rows(data, i)) for i in range(3)] == [2, 1, 0]
        assert data.columns.extra["track"].tolist() == [0, 1, 2]


def test_tags_without_any_shape_are_the_classes_of_the_images(tmp_path: Path):
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.jpg")
    tags = {"a.jpg": ["cat"], "b.jpg": ["dog"], "c.jpg": []}

    def written(tags: dict[str, list[str]]) -> None:
        body = "".join(image("".join(f'<tag label="{t}"/>' for t in own), name) for name, own in tags.items())
        text(tmp_path / "annotations.xml", document(body, "eel dog cat"))

    written(tags)
    data = open_dataset(tmp_path)
    assert data.kind == "class_scores"
    assert list(data.classes) == ["dog", "cat"]
    assert data.columns.image_labels is not None
    assert [(data.image_name(i), data.columns.image_labels[i]) for i in range(2)] == [("a.jpg", 1), ("b.jpg", 0)]
    assert len(data) == 2
    assert data.notes[-1] == "1 image without a class, left out; the first is images/c.jpg"
    written(tags | {"c.jpg": ["cat", "dog"]})
    with pytest.raises(InputError, match=r"c\.jpg has the tags cat, dog, but an image has one class; keep one"):
        open_dataset(tmp_path)
