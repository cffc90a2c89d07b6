"""Omni3D-style JSON: cameras, boxes and cuboids, and broken entries by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from sightline.data.scenes.camera import turn_x, turn_y, turn_z
from sightline.errors import InputError
from sightline.structures import View

K = [[50.0, 0, 20], [0, 50, 12], [0, 0, 1]]


def annotation(id=1, image=7, **more):
    rotation = (turn_y(0.4) @ turn_x(0.1) @ turn_z(-0.2)).tolist()
    return {
        "id": id, "image_id": image, "category_id": 3, "valid3D": True, "bbox2D_tight": [-1, -1, -1, -1],
        "bbox2D_trunc": [2, 3, 20, 15], "bbox2D_proj": [1, 1, 30, 20], "center_cam": [0.1, 0.2, 4],
        "dimensions": [0.5, 0.7, 0.9], "R_cam": rotation, "behind_camera": False, "visibility": 1.0, "truncation": 0.0,
        **more,
    }  # fmt: skip


def write(root, annotations, images=None, name="tables_train.json"):
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 24)).save(root / "pictures" / "a.png")
    image = {"id": 7, "file_path": "sets/pictures/a.png", "width": 40, "height": 24, "K": K}
    whole = {
        "info": {"name": "tables"},
        "images": [image] if images is None else images,
        "categories": [{"id": 3, "name": "table"}, {"id": 1, "name": "chair"}],
        "annotations": annotations,
    }
    (root / name).write_text(json.dumps(whole))
    return root


def test_cuboids_and_cameras(tmp_path):
    root = write(
        tmp_path, [annotation(), annotation(2, truncation=0.5), annotation(3, valid3D=False), annotation(4, 99)]
    )
    data = sl.open_dataset(root)
    assert (data.format, data.about, data.splits, list(data.classes)) == (
        "omni3d", "cuboids", ("train",), ["chair", "table"],
    )  # fmt: skip
    image, target = data.with_fields("cuboids")[0]
    assert isinstance(image, View)
    assert image.intrinsics.tolist() == K
    assert target.boxes.tolist() == [[2, 3, 20, 15]] * 3
    assert target.labels.tolist() == [1, 1, 1]
    assert target.cuboids[0].tolist() == pytest.approx([0.1, 0.2, 4, 0.5, 0.7, 0.9, -0.2, 0.1, 0.4], abs=1e-6)
    assert target.cuboids[2].isnan().all()
    assert target.difficult.tolist() == [False, True, False]
    assert data.orphans == ("tables_train.json: annotation 4 of image 99",)


def test_several_files_are_splits(tmp_path):
    write(tmp_path, [annotation()])
    write(tmp_path, [annotation()], name="tables_val.json")
    data = sl.open_dataset(tmp_path)
    assert data.splits == ("train", "val")
    assert sl.open_dataset(tmp_path / "tables_val.json").splits == ("val",)
    assert sl.open_dataset(tmp_path, format="omni3d", classes=["table", "chair"])["val"].target(0).labels.tolist() == [
        0
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (annotation(center_cam=[1, 2]), r"annotation 1: center_cam is \[1, 2\], but must be 3 numbers"),
        (annotation(R_cam=(2 * np.eye(3)).tolist()), "annotation 1: R_cam is not a rotation"),
        (annotation(category_id=8), "annotation 1 has category_id 8, which is not among the classes"),
        (annotation(bbox2D_trunc=None, bbox2D_proj=None), "annotation 1 has none of bbox2D_tight"),
        (annotation(visibility="high"), "annotation 1: visibility is 'high', but must be a number"),
    ],
)
def test_broken_annotations_are_named(tmp_path, entry, words):
    root = write(tmp_path, [entry, annotation(2)])
    with pytest.raises(InputError, match=words):
        sl.open_dataset(root)
    assert len(sl.open_dataset(root, lenient=True).target(0)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"K": [[0, 0, 1], [0, 0, 1], [0, 0, 1]]}, r"image sets/pictures/a\.png: K: .* is singular"),
        ({"K": None}, r"image sets/pictures/a\.png: K: "),
        ({"height": 0}, r"image sets/pictures/a\.png has the height 0"),
        ({"id": [7]}, r"the id of image sets/pictures/a\.png is \[7\], but must be a number or a text"),
        ({"K": None}, "K: .* give the "),
        ({"file_path": 3}, 'has an image without "id" or "file_path"'),
    ],
)
def test_broken_images_are_named(tmp_path, change, words):
    image = {"id": 7, "file_path": "sets/pictures/a.png", "width": 40, "height": 24, "K": K} | change
    write(tmp_path, [annotation()], images=[image])
    with pytest.raises(InputError, match=words):
        sl.open_dataset(tmp_path, format="omni3d")


def test_an_image_id_that_occurs_twice_is_named(tmp_path):
    image = {"id": 7, "file_path": "sets/pictures/a.png", "width": 40, "height": 24, "K": K}
    with pytest.raises(InputError, match=r"image sets/pictures/b\.png has the id 7 of another image; give each"):
        sl.open_dataset(write(tmp_path, [annotation()], images=[image, image | {"file_path": "sets/pictures/b.png"}]))


@pytest.mark.parametrize("change", [{"center_cam": [0, 0, -3]}, {"dimensions": [1, -1, 1]}])
def test_cuboids_that_cannot_be_are_unknown_and_counted(tmp_path, change):
    data = sl.open_dataset(
        write(tmp_path, [annotation(), annotation(2, **change), annotation(3, valid3D=False, **change)])
    )
    assert data.with_fields("cuboids").target(0).cuboids.isnan().all(1).tolist() == [False, True, True]
    (note,) = [note for note in data.notes if "valid3D" in note]
    assert note.startswith("1 object with valid3D true, but behind the camera or with a side of 0 or less")
    assert "annotation 2 of tables_train.json" in note


def test_missing_images_and_lists_of_another_kind(tmp_path):
    lost = {"id": 7, "file_path": "sets/pictures/b.png", "width": 40, "height": 24, "K": K}
    with pytest.raises(InputError, match=r"image sets/pictures/b\.png"):
        sl.open_dataset(write(tmp_path, [annotation()], images=[lost]))
    with pytest.raises(InputError, match='"annotations" must be a list of objects'):
        sl.open_dataset(write(tmp_path, {"1": annotation()}))
