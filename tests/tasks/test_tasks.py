"""The table of tasks: what it binds fits together, and what is not known is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.data.kinds import KINDS
from sightline.errors import InputError
from sightline.models.catalog import ENTRIES, find
from sightline.models.model import as_model
from sightline.structures import Instances
from sightline.tasks import TASKS, add, task_for, task_of


def test_every_row_fits_the_catalog_and_the_kinds():
    assert {entry.task for entry in ENTRIES} == set(TASKS)
    for name, task in TASKS.items():
        assert task.name == name
        assert task.labels.kind in KINDS
        assert task.headline
        assert set(task.lower_is_better) <= set(task.headline)
        for model in (task.default_model, task.quick_model):
            assert model is None or find(model).task == name


@pytest.mark.parametrize(
    ("kind", "task", "model"),
    [
        ("instances", "detection", "sightline_lite0"),
        ("class_map", "segmentation", "unet_lite0"),
        ("class_scores", "classification", "efficientnet_lite0"),
    ],
)
def test_the_labels_choose_a_task_and_a_model(kind, task, model):
    assert task_for(kind) is TASKS[task]
    assert task_for(kind).default_model == model
    assert task_of(as_model(nn.Linear(1, 1)), kind) is TASKS[task]  # a module that does not name its task


def test_a_model_s_own_task_counts():
    network = sl.create_model("region_proposal_network_mobilenet_v2", ["a"], min_size=32, max_size=32)
    assert task_of(network, "instances") is TASKS["proposal"]


def test_refusals():
    with pytest.raises(InputError, match="there is already a task 'detection'; give yours another name"):
        add(replace(TASKS["segmentation"], name="detection"))
    with pytest.raises(InputError, match="'detection' is not a task; give a sightline"):
        add("detection")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no default model for labels of kind 'joint'; give the name"):
        task_for("joint")
    stranger = as_model(nn.Linear(1, 1))
    with pytest.raises(InputError, match="the Linear does not name its task; give it an attribute `task`"):
        task_of(stranger, "counts")
    stranger.task = "counting"
    with pytest.raises(InputError, match="has the unknown task 'counting'; known are detection, proposal, "):
        task_of(stranger)


def test_objects_are_drawn_for_a_segmenter_and_left_for_a_detector():
    target = Instances((8, 8), boxes=[[1.0, 1, 5, 5]], labels=[0], masks=torch.ones(1, 8, 8, dtype=torch.bool))
    data = Dataset.from_instances([torch.zeros(3, 8, 8, dtype=torch.uint8)], [target], ["a"])
    assert TASKS["detection"].labels.prepare(data) is data
    assert list(TASKS["detection"].labels.classes(data)) == ["a"]
    drawn = TASKS["segmentation"].labels.prepare(data)
    assert drawn.kind == "class_map"
    assert TASKS["segmentation"].labels.classes(data) == drawn.classes != data.classes
    plain = [(torch.zeros(3, 8, 8), target)]
    assert TASKS["segmentation"].labels.prepare(plain) is plain
