"""Pix3D: small files of the published layout, with the frame of its camera."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.mesh_files import write_mesh
from sightline.errors import InputError
from sightline.structures.meshes import Mesh
from tests.ops.meshes.shapes import tetrahedron

TURN = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]


def entry(number: int, **more):
    return {
        "img": f"img/chair/{number:04}.png",
        "category": "chair",
        "img_size": [40, 30],
        "2d_keypoints": [[[1.0, 2.0]]],
        "mask": f"mask/chair/{number:04}.png",
        "model": "model/chair/a/model.obj",
        "rot_mat": TURN,
        "trans_mat": [0.2, 0.1, 2.0],
        "focal_length": 24.0,
        "bbox": [10, 5, 30, 25],
        "truncated": False,
        "occluded": True,
        "slightly_occluded": False,
        **more,
    }


def written(folder, entries, name="pix3d.json"):
    (folder / name).write_text(json.dumps(entries))
    for one in entries:
        for key in ("img", "mask"):
            file = folder / str(one.get(key))
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((30, 40), np.uint8)
            pixels[6:20, 12:25] = 255
            Image.fromarray(pixels).save(file)
    (folder / "model/chair/a").mkdir(parents=True, exist_ok=True)
    write_mesh(tetrahedron(0.5), folder / "model/chair/a/model.obj")
    return folder


def test_meshes_stand_before_the_camera(tmp_path):
    data = sl.open_dataset(written(tmp_path, [entry(1), entry(2, category="bed", occluded="false")]))
    assert (data.format, data.about, list(data.classes)) == ("pix3d", "meshes", ["bed", "chair"])
    data = data.with_fields("meshes", "masks", "occluded")
    image, target = data[0]
    assert isinstance(image, sl.View)
    assert image.intrinsics.tolist() == [[30, 0, 20], [0, 30, 15], [0, 0, 1]]  # 24 / 32 of 40 pixels
    assert target.boxes.tolist() == [[10, 5, 30, 25]]
    assert target.masks.sum() == 14 * 13
    assert [bool(data[i][1].occluded[0]) for i in range(2)] == [True, False]
    (mesh,) = target.meshes
    # x of the file is turned to y, which points up, and y to −x, which points left: here down and left are positive
    expected = [[-0.2, -0.1, 2], [-0.2, -0.6, 2], [0.3, -0.1, 2], [-0.2, -0.1, 2.5]]
    torch.testing.assert_close(mesh.vertices, torch.tensor(expected))
    assert Mesh.of(mesh).source == str(tmp_path / "model/chair/a/model.obj")


def test_splits_have_a_file_each(tmp_path):
    written(tmp_path, [entry(1), entry(2)], "pix3d_train.json")
    written(tmp_path, [entry(3)], "pix3d_test.json")
    data = sl.open_dataset(tmp_path)
    assert {split: len(data[split]) for split in data.splits} == {"train": 2, "test": 1}
    assert data["test"].name(0) == "img/chair/0003.png"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rot_mat": [[1, 0], [0, 1]]}, r"entry 1 has rot_mat .* but it must be 9 numbers"),
        ({"rot_mat": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]}, "entry 1 has a rot_mat that is not a rotation"),
        ({"rot_mat": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "entry 1 has a rot_mat that is not a rotation"),
        ({"category": ""}, r"entry 1 has category '', but it must be a text"),
        ({"focal_length": 0}, "entry 1 has a focal_length of 0.0, but it must be millimetres above 0"),
        ({"trans_mat": None}, "entry 1 has trans_mat None, but it must be 3 numbers"),
        ({"model": ""}, r"entry 1 has model '', but it must be a text"),
        ({"bbox": "left"}, "entry 1 has bbox left, but it must be 4 numbers"),
    ],
)
def test_a_broken_entry_is_named(change, words, tmp_path):
    with pytest.raises(InputError, match=rf"pix3d\.json: {words}"):
        sl.open_dataset(written(tmp_path, [entry(1), entry(2, **change)]))


def test_missing_files_are_named(tmp_path):
    data = sl.open_dataset(written(tmp_path, [entry(1, model="model/none.obj")]))
    with pytest.raises(InputError, match=r"none\.obj"):
        data.with_fields("meshes").target(0)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "mask/chair/0001.png")
    with pytest.raises(InputError, match=r"0001\.png has 9 × 9 pixels, but its image has 40 × 30"):
        data.with_fields("masks")
