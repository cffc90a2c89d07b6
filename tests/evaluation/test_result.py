"""Results of all tasks keep the contract; plain ones have what it asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.data.scenes.catalog import CLASSES, RELATIONS
from sightline.evaluation import (
    PlainResult,
    Result,
    evaluate_classification,
    evaluate_detection,
    evaluate_proposals,
    evaluate_segmentation,
)
from sightline.evaluation.scene_graphs import evaluate_scene_graphs
from sightline.structures import Classes, ClassMap, ClassScores, Instances
from sightline.tasks import TASKS

NAMES = Classes(["a", "b"])


def results() -> dict[str, Result]:
    """An evaluation of two images for each task, and a plain one."""
    boxes = [Instances((9, 9), classes=NAMES, boxes=[[1.0, 1, 5, 5]], labels=[i]) for i in (0, 1)]
    maps = [ClassMap(torch.full((4, 4), i), NAMES) for i in (0, 1)]
    labels = [ClassScores((9, 9), label=i, classes=NAMES) for i in (0, 1)]
    return {
        "detection": evaluate_detection(boxes, boxes, NAMES),
        "proposal": evaluate_proposals(boxes, boxes, classes=NAMES),
        "segmentation": evaluate_segmentation(maps, maps, NAMES),
        "classification": evaluate_classification(labels, labels, NAMES),
        "counting": PlainResult("counting", {"error": 0.5, "other": None}, np.array([0.0, 1.0])),
    }


def of_scenes(task: str) -> Result:
    """An evaluation of the labels of two scenes against themselves, for a task about more than boxes."""
    kind = TASKS[task].labels.about or TASKS[task].labels.kind
    data = TASKS[task].labels.prepare(sl.scenes(2, 48, seed=1, kind=kind, objects=(2, 3)))
    fields = {"cuboids": ("cuboids",), "meshes": ("meshes",)}.get(kind, ())
    targets = [data.with_fields(*fields).target(i) for i in range(2)]
    sure = [
        t.replace(scores=torch.ones(len(t))) if isinstance(t, Instances) else replace(t, scores=torch.ones(len(t)))
        for t in targets
    ]
    names = ["image 0", "image 1"]
    if task == "scene_graph":
        return evaluate_scene_graphs(targets, {"SGDet": sure}, data.classes, names=names)
    measure = TASKS[task].measure(data.classes, False)
    for target, found in zip(targets, sure, strict=True):
        measure.add(target, found)
    return measure.result(names)


@pytest.mark.parametrize("task", [*TASKS, "counting"])
def test_what_shows_a_result_can_ask_it(task):
    known = results()
    result = known[task] if task in known else of_scenes(task)
    assert result.task == task
    assert result.images == 2
    assert result.headline
    assert set(result.headline) <= set(result.metrics)
    assert sorted(result.worst_first().tolist()) == [0, 1]
    assert {name for name, value in result.metrics.items() if value is None} <= {*result.reasons, "other"}
    assert set(result.intervals()) <= set(result.metrics)
    values = json.loads(json.dumps(result.to_dict()))
    assert values["task"] == task
    assert values["metrics"] == result.metrics
    assert set(result.per_class) <= {*NAMES, *CLASSES, *RELATIONS}
    assert result.threshold is None or 0 <= result.threshold <= 1
    if task in TASKS:
        assert set(result.headline) <= set(TASKS[task].headline)
        assert result.headline[0] == TASKS[task].headline[0]
        assert result.names == ["image 0", "image 1"]
    assert repr(result).startswith(f"{type(result).__name__}(2 images: {result.headline[0]} ")
    assert "2 " in str(result).splitlines()[0]


def test_a_plain_result():
    result = PlainResult(
        "counting",
        {"error": 1.0, "exact": None},
        np.array([1.0, 2.0, np.nan, 0.0]),
        reasons={"exact": "nothing was counted"},
        notes=["a note"],
    )
    assert result.headline == ("error", "exact")
    assert result.worst_first().tolist() == [1, 0, 3, 2]
    assert result.to_dict()["image_errors"] == [1.0, 2.0, None, 0.0]
    assert "image_errors" not in result.to_dict(details=False)
    assert str(result).splitlines() == [
        "4 images",
        "  error  1.000",
        "  exact    n/a  nothing was counted",
        "Note: a note.",
    ]
    assert PlainResult("counting", {"error": 1.0, "exact": 0.5}, np.zeros(1), headline=("exact",)).headline == (
        "exact",
    )
