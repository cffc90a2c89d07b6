"""KITTI's object data, in files of the published layout: what is converted, and broken lines by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.deploy.writers.cuboids import kitti_lines
from sightline.errors import InputError
from sightline.ops.cuboids import cuboid_corners, project
from sightline.structures import View

P2 = np.array([[700.0, 0, 600, 45.0], [0, 700, 180, 0.2], [0, 0, 1, 0.003]])
CAR = "Car 0.00 0 -1.57 590.0 150.0 650.0 200.0 1.50 1.60 4.00 0.50 1.60 20.00 -1.55"
PERSON = "Pedestrian 0.60 1 0.20 100.0 150.0 120.0 200.0 1.80 0.60 0.80 -8.00 1.70 15.00 0.10"
CARE = "DontCare -1 -1 -10 500.0 160.0 520.0 175.0 -1 -1 -1 -1000 -1000 -1000 -10"


def write(root, labels, calib=True, lists=None, inside="training"):
    base = root / inside
    for folder in ("image_2", "label_2", "calib"):
        (base / folder).mkdir(parents=True)
    for name, lines in labels.items():
        Image.new("RGB", (124, 38)).save(base / "image_2" / f"{name}.png")
        (base / "label_2" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        if calib:
            rows = "".join(f"P{k}: {' '.join(map(str, (P2 + k - 2).ravel()))}\n" for k in range(4))
            (base / "calib" / f"{name}.txt").write_text(rows + "R0_rect: 1 0 0 0 1 0 0 0 1\n")
    if lists:
        (root / "ImageSets").mkdir()
        for split, names in lists.items():
            (root / "ImageSets" / f"{split}.txt").write_text("\n".join(names))
    return root


def test_positions_and_pixels_are_converted(tmp_path):
    data = sl.open_dataset(write(tmp_path, {"000000": [CAR, CARE], "000001": []}))
    assert (data.format, data.about, len(data), list(data.classes)) == (
        "kitti", "cuboids", 2, ["Car", "Cyclist", "Pedestrian"],
    )  # fmt: skip
    image, target = data.with_fields("cuboids", "truncated", "occluded", "alpha")[0]
    assert isinstance(image, View)
    # the centre of the first pixel is KITTI's origin, and its corner is Sightline's
    assert image.intrinsics.tolist() == [[700, 0, 600.5], [0, 700, 180.5], [0, 0, 1]]
    assert target.boxes[0].tolist() == [590.5, 150.5, 650.5, 200.5]
    # KITTI projects a point of camera 0 by P2; the cuboid's lower middle must be seen in the same place
    seen = P2 @ [0.5, 1.6, 20, 1]
    bottom = target.cuboids[0, :3].double() + torch.tensor([0, 0.75, 0])
    assert project(bottom, image.intrinsics).tolist() == pytest.approx((seen[:2] / seen[2] + 0.5).tolist(), abs=1e-3)
    assert target.cuboids[0, 3:].tolist() == pytest.approx([1.6, 1.5, 4, 0, 0, -1.55])
    assert (float(target.alpha[0]), int(target.occluded[0])) == (pytest.approx(-1.57), 0)
    # a region that KITTI does not care for is a crowd of each evaluated class, without a cuboid
    assert target.crowd.tolist() == [False, True, True, True]
    assert target.labels.tolist() == [0, 0, 2, 1]
    assert target.cuboids[1:].isnan().all()
    assert len(data.target(1)) == 0


def test_corners_are_those_of_kitti(tmp_path):
    """KITTI's development kit: length along x, height upwards from the position, width along z, turned about y."""
    data = sl.open_dataset(write(tmp_path, {"a": [CAR]}, calib=False)).with_fields("cuboids")
    assert data.camera(0) is None
    assert data.notes == ("1 image without a calibration file have no known camera",)
    h, w, length, x, y, z, yaw = 1.5, 1.6, 4.0, 0.5, 1.6, 20.0, -1.55
    turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    own = np.array([[sx * length / 2, -up * h, sz * w / 2] for sx in (1, -1) for up in (0, 1) for sz in (1, -1)])
    expected = own @ turn.T + [x, y, z]
    found = cuboid_corners(data.target(0).cuboids[0].double()).numpy()
    apart = np.linalg.norm(found[:, None] - expected, axis=-1)
    assert (apart.min(1) < 1e-5).all()
    assert len(set(apart.argmin(1).tolist())) == 8


def test_hard_objects_are_difficult_and_lists_are_splits(tmp_path):
    lists = {"train": ["000000"], "val": ["000001", "000007"], "trainval": ["000000", "000001"], "test": ["000009"]}
    data = sl.open_dataset(write(tmp_path, {"000000": [CAR, PERSON], "000001": [CAR]}, lists=lists))
    assert data.splits == ("train", "val")
    assert len(data["val"]) == 1
    assert data["train"].target(0).difficult.tolist() == [False, True]
    assert any("val.txt: 1 name without a label file, such as 000007, left out" in note for note in data.notes)
    again = sl.open_dataset(tmp_path / "training", classes=["Pedestrian", "Car"])
    assert again.splits == ("train", "val")  # the lists are beside training/
    assert again["train"].target(0).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Car 0 0 1 2 3", r"000000\.txt: line 2 has 6 values, but an object has 15"),
        (CAR.replace("20.00", "far"), r"000000\.txt: line 2 has 'far', but must have numbers"),
        (CAR.replace("20.00", "nan"), r"000000\.txt: line 2 has 'nan', but must have numbers"),
        (
            CAR.replace(" 1.60 4.00", " -1.60 4.00"),
            r"line 2 has the height, width and length 1\.5, -1\.6 and 4 m, but all",
        ),
    ],
)
def test_broken_lines_are_named(tmp_path, line, words):
    root = write(tmp_path, {"000000": [CAR, line]})
    with pytest.raises(InputError, match=words):
        sl.open_dataset(root)
    assert len(sl.open_dataset(root, lenient=True).target(0)) == 1


def test_sizes_of_minus_one_are_unknown_and_regions_make_no_class_of_their_own(tmp_path):
    flat = CAR.replace("Car", "Chair").replace("1.50 1.60 4.00", "-1 -1 -1")
    data = sl.open_dataset(write(tmp_path, {"000000": [flat, CARE]}))
    assert list(data.classes) == ["Chair"]
    target = data.with_fields("cuboids").target(0)
    assert target.labels.tolist() == [0]
    assert bool(target.cuboids.isnan().all())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("P0: 1 0 0\n", r"calib/000000\.txt has no line P2"),
        ("\nP2: 1 2 3\n", r"calib/000000\.txt line 2: P2 has 3 numbers, but is a matrix of 3 × 4"),
        (f"P2: {' '.join(['0'] * 12)}\n", r"calib/000000\.txt line 1: P2 is not the matrix of a camera"),
    ],
)
def test_broken_calibration_is_named(tmp_path, text, words):
    root = write(tmp_path, {"000000": [CAR]})
    (root / "training" / "calib" / "000000.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        sl.open_dataset(root)


def test_written_lines_are_read_back(tmp_path):
    data = sl.open_dataset(write(tmp_path / "one", {"a": [CAR]}, calib=False)).with_fields("cuboids")
    target = data.target(0)
    (line,) = kitti_lines(target.replace(scores=torch.tensor([0.5])))
    words = line.split()
    assert words[:3] == ["Car", "-1", "-1"]
    assert [float(word) for word in words[4:15]] == pytest.approx([float(word) for word in CAR.split()[4:]], abs=1e-3)
    assert float(words[3]) == pytest.approx(-1.55 - math.atan2(0.5, 20), abs=1e-4)
    assert float(words[15]) == 0.5


def test_a_dataset_that_is_written_is_read_back(tmp_path):
    lists = {"train": ["000000"], "val": ["000001"]}
    root = write(tmp_path / "one", {"000000": [CAR, PERSON, CARE], "000001": [CAR.replace("Car", "Van")]}, lists=lists)
    data = sl.open_dataset(root)
    sl.convert(data, tmp_path / "two", "kitti")
    back = sl.open_dataset(tmp_path / "two")
    assert (back.splits, list(back.classes)) == (data.splits, list(data.classes))
    for i in range(2):
        fields = ("cuboids", "truncated", "occluded", "alpha")
        (image, mine), (other, theirs) = data.with_fields(*fields)[i], back.with_fields(*fields)[i]
        torch.testing.assert_close(other.intrinsics, image.intrinsics)
        for name, value in mine.fields.items():
            torch.testing.assert_close(theirs.fields[name], value, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert (tmp_path / "two" / "training" / "label_2" / "000000.txt").read_text().count("DontCare") == 1


def test_rendered_cuboids_and_plain_boxes(tmp_path):
    data = sl.scenes(3, 64, kind="cuboids").split(0.4, 0.3, 0.3, seed=0)
    sl.convert(data, tmp_path / "cuboids", "kitti")
    back = sl.open_dataset(tmp_path / "cuboids")
    for split in data.splits:
        (image, mine), (other, theirs) = (part.with_fields("cuboids")[split][0] for part in (data, back))
        torch.testing.assert_close(other.intrinsics, image.intrinsics)
        torch.testing.assert_close(theirs.boxes, mine.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(theirs.cuboids[:, :6], mine.cuboids[:, :6], atol=1e-4, rtol=1e-4)
        assert [name.replace(" ", "_") for name in mine.names()] == theirs.names()
    boxes = sl.Dataset.from_instances(
        [torch.zeros(3, 60, 60, dtype=torch.uint8)],
        [sl.Instances((60, 60), boxes=[[1.0, 2, 30, 40], [5, 5, 9, 9]], labels=[1, 0], crowd=[False, True])],
        ["a", "big dog"],
    )
    sl.convert(boxes, tmp_path / "boxes", "kitti")
    (line, region) = (tmp_path / "boxes" / "training" / "label_2" / "000000.txt").read_text().splitlines()
    assert line == "big_dog 0 0 -10 0.500000 1.500000 29.500000 39.500000 -1 -1 -1 -1000 -1000 -1000 -10"
    assert region.startswith("DontCare -1 -1 -10 4.5")
    same = sl.Dataset.from_instances([torch.zeros(3, 9, 9)], [sl.Instances((9, 9))], ["a b", "a_b"])
    with pytest.raises(InputError, match="classes a b, a_b are not distinct in KITTI's files; rename them"):
        sl.convert(same, tmp_path / "same", "kitti")
