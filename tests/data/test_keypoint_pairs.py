"""Mirror pairs of keypoints: from names, from a stated permutation, from COCO categories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sightline as sl
from sightline.data.formats import open_dataset
from sightline.data.keypoint_pairs import mirrored_keypoints, of_categories, require_mirror
from sightline.data.transforms import PERSON_SWAP
from sightline.errors import InputError

from .formats.helpers import coco, coco_image, coco_object, picture, text, write_json

_PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
PERSON = ["nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right"))]


@pytest.mark.parametrize(
    ("names", "swap"),
    [
        (PERSON, PERSON_SWAP),
        (["nose", "leftEye", "rightEye"], (0, 2, 1)),
        (["RShoulder", "LShoulder", "Neck"], (1, 0, 2)),
        (["eye.L", "eye.R"], (1, 0)),
        (["left ear", "right ear", "tail"], (1, 0, 2)),
        (["lefteye", "righteye", "bright"], (1, 0, 2)),
        (["upperleft", "upperright"], (1, 0)),
        (["top_left", "top_right", "bottom_right", "bottom_left"], (1, 0, 3, 2)),
        (["heart"], (0,)),
        ([], None),
        (["a", "b"], None),
        (["left_eye", "nose"], None),  # the right one is missing
        (["L1", "L2", "L3"], None),  # vertebrae
        (["left_eye", "left_eye", "right_eye"], None),  # two of one name
    ],
)
def test_pairs_from_names(names: list[str], swap: tuple[int, ...] | None):
    assert mirrored_keypoints(names) == swap


def test_names_that_do_not_cover_all_points_say_nothing():
    assert mirrored_keypoints(["left_eye", "right_eye"], 3) is None


def test_a_stated_permutation_is_checked():
    assert require_mirror([0, 2, 1], 3, "data.yaml: flip_idx") == (0, 2, 1)
    with pytest.raises(InputError, match=r"flip_idx is \[0, 1\], but must contain each index from 0 to 2"):
        require_mirror([0, 1], 3, "data.yaml: flip_idx")
    with pytest.raises(InputError, match="maps keypoint 0 to 1, but 1 to 2"):
        require_mirror([1, 2, 0], 3, "data.yaml: flip_idx")


def test_categories_of_different_skeletons():
    person, face = {"keypoints": PERSON}, {"keypoints": PERSON[:3]}
    assert of_categories([person, face, {}]) == (tuple(PERSON), PERSON_SWAP)
    other = {"keypoints": ["left_wing", "right_wing"]}
    assert of_categories([person, other]) == ((), None)


@pytest.mark.parametrize("file", ["instances_train.json", "person_keypoints_train.json"])
def test_of_coco(tmp_path: Path, file: str):
    picture(tmp_path / "train/a.png")
    points = [v for k in range(17) for v in (k + 5, k + 6, 2)]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 30], "area": 900, "keypoints": points}
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]
    category = {"id": 1, "name": "person", "keypoints": PERSON}
    content = {"images": images, "annotations": [annotation], "categories": [category]}
    text(tmp_path / f"annotations/{file}", json.dumps(content))
    if file.startswith("instances"):  # the keypoints lie in the file beside it
        text(tmp_path / "annotations/person_keypoints_train.json", json.dumps(content))
        plain = {
            **content,
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [{**annotation, "keypoints": []}],
        }
        text(tmp_path / f"annotations/{file}", json.dumps(plain))
    data = sl.open_dataset(tmp_path).with_fields("keypoints")
    assert data.keypoint_names == tuple(PERSON)
    assert data.keypoint_swap == PERSON_SWAP
    assert data["train"].keypoint_swap == PERSON_SWAP


def with_categories(root: Path, numbers: int, *lists: list[str]) -> sl.Dataset:
    """An object whose keypoints have this many numbers, and categories with these names of keypoints."""
    picture(root / "a.png")
    points = [8, 8, 2, 9, 9, 2, 7, 7, 2][:numbers]
    classes = {k: f"kind {k}" for k in range(1, len(lists) + 1)}
    content = coco([coco_image(1, "a.png")], [coco_object(1, 1, 1, [4, 4, 30, 30], keypoints=points)], classes)
    for category, names in zip(content["categories"], lists, strict=True):
        category["keypoints"] = names
    write_json(root / "a.json", content)
    return open_dataset(root)


EYES = ["nose", "left_eye", "right_eye"]


def test_points_that_are_named_but_not_written_are_absent(tmp_path: Path):
    data = with_categories(tmp_path, 3, EYES)
    assert data.columns.keypoints is not None
    assert data.columns.keypoints.tolist() == [[[8, 8, 2], [0, 0, 0], [0, 0, 0]]]
    assert (data.keypoint_names, data.keypoint_swap) == (tuple(EYES), (0, 2, 1))
    assert with_categories(tmp_path, 6, EYES[:2], EYES).columns.keypoints.shape[1] == 3  # another category has three


def test_more_points_than_names_are_not_mirrored(tmp_path: Path):
    data = with_categories(tmp_path, 9, EYES[:1])
    assert (data.keypoint_names, data.keypoint_swap) == ((), None)
    assert any(note.startswith("objects have 3 keypoints, but the categories name 1") for note in data.notes)


def test_two_numbers_per_point_are_refused(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"a\.json: the annotations have 6 numbers for 3 keypoints, but each point has"
    ):
        with_categories(tmp_path, 6, EYES)
