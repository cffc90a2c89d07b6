"""What labels are about decides the task, in memory and from a folder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sightline as sl
from sightline.data.scenes import write_scenes
from sightline.data.scenes.dataset import ABOUT
from sightline.structures.view import View
from sightline.tasks import TASKS, task_for


@pytest.fixture
def phrases():
    """A task for labels about captions, as good as detection at it."""
    labels = replace(TASKS["detection"].labels, about="phrases", arguments=lambda data: {"num_keypoints": 3})
    TASKS["phrases"] = replace(TASKS["detection"], name="phrases", labels=labels)
    yield TASKS["phrases"]
    del TASKS["phrases"]


def test_labels_about_a_field_choose_its_task(phrases):
    assert task_for("instances") is TASKS["detection"]
    assert task_for("instances", "phrases") is phrases
    with pytest.raises(sl.InputError, match="there is no default model for labels about 'smells'; give the name"):
        task_for("instances", "smells")


@pytest.mark.parametrize("about", ABOUT)
def test_a_folder_says_what_its_labels_are_about(about, tmp_path):
    folder = write_scenes(tmp_path / "scenes", 2, 1, 0, 32, kind=about, progress=False)
    data = sl.open_dataset(folder)
    assert data.about == about
    assert data["train"].about == data.filter(split="val").about == (data["train"] + data["val"]).about == about
    again = sl.open_dataset(sl.convert(data, tmp_path / "again", "coco"))
    assert again.about == about
    assert not data.orphans  # depth maps and meshes are no images without a split
    alone = sl.scenes(1, 32, kind=about)
    assert (alone.about, (alone + sl.scenes(1, 32)).about) == (about, "")


def test_scenes_for_boxes_with_depth_know_the_camera():
    data = sl.scenes(1, 32, seed=4, kind="cuboids")
    image, target = data.with_fields("cuboids")[0]
    assert isinstance(image, View)
    assert image.intrinsics[0, 2] == 16
    x, y, z = (target.cuboids[:, i].double() for i in range(3))
    centre = torch.stack([x, y, z], 1) @ image.intrinsics.T
    pixels = (centre[:, :2] / centre[:, 2:]).float()
    own = target.boxes
    middle = (own[:, :2] + own[:, 2:]) / 2
    assert ((pixels - middle).abs() < (own[:, 2:] - own[:, :2]).clamp(min=4)).all()
    assert image.metres is not None
    assert image.metres.min() > 0.5


def test_scenes_of_single_objects_have_their_mesh():
    image, target = sl.scenes(1, 32, kind="meshes", objects=(1, 1)).with_fields("meshes")[0]
    ((vertices, faces),) = target.meshes
    assert isinstance(image, View)
    assert image.depth is None
    assert faces.max() == len(vertices) - 1
    assert (vertices[:, 2] > 0).all()
