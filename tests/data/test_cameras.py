"""Cameras of images from files: given with cuboids, parsed only then, and wrong ones refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.data.images import read_depth
from sightline.data.transforms import Compose, HorizontalFlip
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.structures import ClassScores, View

MATRIX = [[50.0, 0.0, 20.0], [0.0, 40.0, 12.0], [0.0, 0.0, 1.0]]
CUBOID = [0.1, 0.2, 4.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.5]


def write(folder, camera, depth=None, name="a.png"):
    """A COCO folder with one image of 40 × 24 pixels, whose entry has this "camera"."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "train").mkdir()
    Image.new("RGB", (40, 24), (9, 9, 9)).save(folder / "train" / name)
    if depth is not None:
        (folder / "depth").mkdir()
        Image.fromarray(np.asarray(depth, np.uint16)).save(folder / "depth" / name)
    entry = {"id": 1, "file_name": name, "width": 40, "height": 24} | ({} if camera is None else {"camera": camera})
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0, "cuboids": CUBOID}
    whole = {"images": [entry], "annotations": [box], "categories": [{"id": 1, "name": "cube"}]}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(whole))
    return folder


def test_images_are_views_where_labels_are_in_metres(tmp_path):
    depth = np.arange(24 * 40).reshape(24, 40)
    camera = {"matrix": MATRIX, "depth_file_name": "depth/a.png", "depth_scale": 0.01}
    data = sl.open_dataset(write(tmp_path / "data", camera, depth))
    assert type(data.image(0)) is torch.Tensor
    image, target = data.with_fields("cuboids")[0]
    assert isinstance(image, View)
    assert image.intrinsics.tolist() == MATRIX
    assert (image.depth.numpy() == depth).all()
    assert image.metres[1, 2] == pytest.approx(0.42)
    assert target.cuboids[0].tolist() == pytest.approx(CUBOID)
    # what is cut out of the data and joined to others keeps the cameras
    other = sl.open_dataset(write(tmp_path / "other", {"matrix": MATRIX}, name="b.png")).with_fields("cuboids")
    joined = data.with_fields("cuboids")[[0]] + other
    assert joined.root == tmp_path
    assert (joined.image(0).depth.numpy() == depth).all()
    assert (type(joined.image(1)), joined.image(1).depth) == (View, None)
    assert joined.camera(1).intrinsics.tolist() == MATRIX


def test_a_camera_that_is_not_needed_is_not_read(tmp_path):
    data = sl.open_dataset(write(tmp_path, {"matrix": "wrong", "depth_file_name": "nowhere.png"}))
    assert type(data[0][0]) is torch.Tensor
    with pytest.raises(InputError, match=r"train/a\.png: the matrix of its camera: wrong is not a matrix"):
        data.with_fields("cuboids").image(0)


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({}, r'train/a\.png: its "camera" has no "matrix"'),
        ([1, 2], r'train/a\.png: its "camera" is \[1, 2\], but must be an object'),
        ({"matrix": [[1, 0, 0], [0, 0, 2], [0, 0, 1]]}, r"train/a\.png: the matrix of its camera: .* is singular"),
        ({"matrix": [[1, 0], [0, 1]]}, r"train/a\.png: the matrix of its camera: the shape is \[2, 2\]"),
        (
            {"matrix": MATRIX, "depth_file_name": 5},
            r"train/a\.png: the depth_file_name of its camera is 5, but must be a",
        ),
        ({"matrix": MATRIX, "depth_file_name": "no.png"}, r"there is no image .*no\.png"),
        ({"matrix": MATRIX, "depth_file_name": "depth/a.png"}, r"depth/a\.png has 9 × 7 pixels, but .* has 40 × 24"),
        ({"matrix": MATRIX, "depth_file_name": "depth/a.png", "depth_scale": 0}, r"depth_scale of its camera is 0"),
        ({"matrix": MATRIX, "depth_file_name": "train/a.png"}, r"train/a\.png holds an array \[24, 40, 3\] of uint8"),
    ],
)
def test_a_wrong_camera_is_named_by_its_image(tmp_path, camera, words):
    data = sl.open_dataset(write(tmp_path, camera, np.zeros((7, 9)))).with_fields("cuboids")
    with pytest.raises(InputError, match=words):
        data.image(0)


def test_an_image_without_a_camera_stays_plain(tmp_path):
    data = sl.open_dataset(write(tmp_path, None)).with_fields("cuboids")
    assert type(data.image(0)) is torch.Tensor
    assert data.camera(0) is None


def test_cuboids_follow_a_flip_with_the_camera_only(tmp_path):
    data = sl.open_dataset(write(tmp_path, {"matrix": MATRIX})).with_fields("cuboids")
    image, target = data[0]
    moved, flipped = Compose([HorizontalFlip(1)])(image, target, np.random.default_rng(0))
    assert moved.intrinsics.tolist() == [[-50, 0, 20], [0, 40, 12], [0, 0, 1]]
    assert flipped.cuboids.tolist() == target.cuboids.tolist()
    assert flipped.boxes.tolist() == [[29, 2, 38, 11]]
    with pytest.raises(InputError, match=r"cuboids, which are in metres .* without a camera"):
        Compose([HorizontalFlip(1)])(image.as_subclass(torch.Tensor), target, np.random.default_rng(0))


class Looking(Model):
    """Remembers the focal lengths of the images that it was shown."""

    task = "classification"

    def __init__(self):
        super().__init__(["a"], Preprocess(fixed_size=(24, 40)))
        self.seen = []

    def batch_results(self, batch):
        self.seen += [None if c is None else float(c.intrinsics[0, 0]) for c in batch.cameras or [None]]
        return [ClassScores(size, scores=torch.ones(1), classes=self.classes) for size in batch.original_sizes]


def test_predictions_for_a_dataset_have_its_cameras(tmp_path):
    data, model = sl.open_dataset(write(tmp_path, {"matrix": MATRIX})), Looking()
    sl.predict(model, data)
    model.takes_cameras = True
    sl.predict(model, data)
    assert model.seen == [None, 50.0]


@pytest.mark.parametrize(("dtype", "kind"), [(np.uint16, torch.int32), (np.float32, torch.float32)])
def test_depth_maps_are_read_as_stored(tmp_path, dtype, kind):
    values = np.array([[0, 1, 65535], [7, 300, 2]], dtype)
    path = tmp_path / ("a.npy" if dtype == np.float32 else "a.png")
    np.save(path, values) if dtype == np.float32 else Image.fromarray(values).save(path)
    depth = read_depth(path)
    assert depth.dtype == kind
    assert depth.tolist() == values.tolist()


def test_cameras_depth_maps_and_unknown_cuboids_survive_coco(tmp_path):
    depth = np.arange(24 * 40).reshape(24, 40)
    camera = {"matrix": MATRIX, "depth_file_name": "depth/a.png", "depth_scale": 0.01}
    data = sl.open_dataset(write(tmp_path / "in", camera, depth))
    label = tmp_path / "in" / "annotations" / "instances_train.json"
    whole = json.loads(label.read_text())
    whole["annotations"].append({**whole["annotations"][0], "id": 2})
    del whole["annotations"][1]["cuboids"]
    label.write_text(json.dumps(whole))
    data = sl.open_dataset(tmp_path / "in")
    assert data.with_fields("cuboids").target(0).cuboids.isnan().any(1).tolist() == [False, True]
    sl.convert(data, tmp_path / "out", "coco")
    again = sl.open_dataset(tmp_path / "out").with_fields("cuboids")
    image, target = again[0]
    assert image.intrinsics.tolist() == MATRIX
    assert (image.depth.numpy() == depth).all()
    assert target.cuboids[0].tolist() == pytest.approx(CUBOID)
    assert target.cuboids[1].isnan().all()
