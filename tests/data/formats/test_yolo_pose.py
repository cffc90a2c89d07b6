"""YOLO pose: 2 and 3 numbers per keypoint, what data.yaml says of them, and writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import sightline as sl
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import Instances

from .helpers import picture, rows, text

BOX = "0 0.5 0.5 0.25 0.5"  # on 48×64: 24 to 40, 12 to 36


def pose(root: Path, lines: str, config: str) -> Path:
    picture(root / "images/train/a.png")
    text(root / "labels/train/a.txt", lines)
    text(root / "data.yaml", f"train: images/train\nnames: [person]\n{config}")
    return root


def test_three_numbers_each(tmp_path: Path):
    data = open_dataset(
        pose(tmp_path, f"{BOX} 0.5 0.25 2 0.25 0.75 1 0.9 0.9 0\n{BOX}\n", "kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\n")
    ).with_fields("keypoints")
    assert data.format == "yolo-pose"
    assert rows(data, 0) == [("person", 24, 12, 40, 36)] * 2
    expected = [[[32, 12, 2], [16, 36, 1], [0, 0, 0]], [[0, 0, 0]] * 3]
    assert data.target(0).keypoints.tolist() == expected
    assert data.keypoint_swap == (0, 2, 1)


def test_two_numbers_each(tmp_path: Path):
    data = open_dataset(pose(tmp_path, f"{BOX} 0.5 0.25 0 0 -1 -1\n", "kpt_shape: [3, 2]\n")).with_fields("keypoints")
    assert data.target(0).keypoints.tolist() == [[[32, 12, 2], [0, 0, 0], [0, 0, 0]]]
    assert data.keypoint_swap is None


def test_confidences_of_predicted_keypoints_are_visibilities(tmp_path: Path):
    points = "0.5 0.25 0.93 0.25 0.75 0.5 0.9 0.9 0.07"
    lines = f"{BOX} {points} 0.81\n{BOX} {points}\n{BOX} 0.9\n"
    data = open_dataset(pose(tmp_path, lines, "kpt_shape: [3, 3]\n")).with_fields("keypoints")
    expected = [[32, 12, 2], [16, 36, 2], [0, 0, 0]]
    assert data.target(0).keypoints.tolist() == [expected, expected, [[0, 0, 0]] * 3]
    assert [note for note in data.notes if note.startswith("3 lines of the label files end in a confidence")]


def test_one_keypoint_is_no_confidence_and_track_number(tmp_path: Path):
    data = open_dataset(pose(tmp_path, f"{BOX} 0.5 1\n", "kpt_shape: [1, 2]\n")).with_fields("keypoints")
    assert data.target(0).keypoints.tolist() == [[[32, 48, 2]]]
    assert not any("confidence" in note for note in data.notes)


@pytest.mark.parametrize("names", ["{0: [nose, left_eye, right_eye]}", "[nose, left_eye, right_eye]"])
def test_names_give_the_pairs(tmp_path: Path, names: str):
    data = open_dataset(pose(tmp_path, f"{BOX}\n", f"kpt_shape: [3, 3]\nkpt_names: {names}\n"))
    assert data.keypoint_names == ("nose", "left_eye", "right_eye")
    assert data.keypoint_swap == (0, 2, 1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("kpt_shape: [3, 4]", r"kpt_shape is \['3', '4'\], but must be \[number of keypoints, 2 or 3\]"),
        ("kpt_shape: many", "kpt_shape is 'many'"),
        ("kpt_shape: [3, 3]\nflip_idx: [0, 1]", r"flip_idx is \[0, 1\], but must contain each index from 0 to 2"),
        ("kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]", "flip_idx maps keypoint 0 to 1, but 1 to 2"),
        ("kpt_shape: [3, 3]\nkpt_names: [nose]", "kpt_names contains .* must name each of the 3 keypoints"),
    ],
)
def test_mistakes_in_data_yaml(tmp_path: Path, config: str, words: str):
    with pytest.raises(InputError, match=words):
        open_dataset(pose(tmp_path, f"{BOX}\n", config))


@pytest.mark.parametrize("tail", ["0.5 0.25 2", "0.5 0.25 2 0.5 0.25 2 0.5 0.25 3", "0.5 0.25 2 0.5 0.25 2 nan 0.25 2"])
def test_lines_of_another_shape(tmp_path: Path, tail: str):
    with pytest.raises(InputError, match=r"line 1 is .* and 3 keypoints of 3 numbers .*: 14 numbers"):
        open_dataset(pose(tmp_path, f"{BOX} {tail}\n", "kpt_shape: [3, 3]\n"))


def test_keypoints_that_nothing_states_are_no_polygon(tmp_path: Path):
    with pytest.raises(InputError, match=r"looks like a box with 2 keypoints .* no data.yaml has kpt_shape"):
        open_dataset(pose(tmp_path, f"{BOX} 0.5 0.45 2 0.45 0.6 1\n", ""))


def test_written_and_read_again(tmp_path: Path):
    points = np.array([[[1.5, 2.25, 2], [3, 4, 1], [0, 0, 0]], [[5, 6, 2], [7, 8, 2], [9, 10, 2]]], np.float32)
    target = Instances((48, 64), boxes=[[0, 0, 20, 20], [2, 2, 30, 40]], labels=[0, 0], keypoints=points)
    picture(tmp_path / "a.png")
    source = sl.Dataset.from_instances([tmp_path / "a.png"], [target], ["person"], splits=["train"])
    convert(source, tmp_path / "out", "yolo-pose")
    data = open_dataset(tmp_path / "out").with_fields("keypoints")
    assert (data.format, data.splits) == ("yolo-pose", ("train",))
    np.testing.assert_allclose(data.target(0).keypoints, points, atol=1e-5)
    np.testing.assert_allclose(data.target(0).boxes, target.boxes, atol=1e-5)
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["kpt_shape"] == [3, 3]


def test_names_and_pairs_are_written(tmp_path: Path):
    config = "kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nkpt_names: {0: [nose, left_eye, right_eye]}\n"
    data = open_dataset(pose(tmp_path / "in", f"{BOX} 0.5 0.25 2 0.25 0.75 1 0.9 0.9 0\n", config))
    convert(data, tmp_path / "out", "yolo-pose")
    again = open_dataset(tmp_path / "out")
    assert (again.keypoint_names, again.keypoint_swap) == (data.keypoint_names, (0, 2, 1))
    np.testing.assert_allclose(again.columns.keypoints, data.columns.keypoints, atol=1e-4)
    convert(data, tmp_path / "coco", "coco")  # COCO keeps the points, too
    as_coco = open_dataset(tmp_path / "coco")
    np.testing.assert_allclose(as_coco.columns.keypoints, data.columns.keypoints, atol=1e-4)
    assert (as_coco.keypoint_names, as_coco.keypoint_swap) == (data.keypoint_names, (0, 2, 1))


def test_a_dataset_without_keypoints_is_refused(tmp_path: Path):
    picture(tmp_path / "a.png")
    target = Instances((48, 64), boxes=[[0, 0, 20, 20]], labels=[0])
    source = sl.Dataset.from_instances([tmp_path / "a.png"], [target], ["person"])
    with pytest.raises(InputError, match="no keypoints, which YOLO pose requires; write it as yolo"):
        convert(source, tmp_path / "out", "yolo-pose")
    pose(tmp_path / "in", f"{BOX}\n", "")
    with pytest.raises(InputError, match=r"is not YOLO pose: no data.yaml has kpt_shape"):
        open_dataset(tmp_path / "in", format="yolo-pose")
