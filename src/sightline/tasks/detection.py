"""Object detection: boxes, with masks and keypoints if model and labels have them."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.deploy.writers.detection import DetectionWriter
from sightline.evaluation.detection import HEADLINE, DetectionMeasure
from sightline.explain.box_targets import best_box, box_target, proposal_target
from sightline.explain.cases import box_cases
from sightline.explain.instance_targets import keypoint_target, mask_target
from sightline.explain.targets import Explained
from sightline.report.detection import DetectionReport
from sightline.tasks.base import Labels, Task


def num_keypoints(data: Any) -> dict[str, int]:
    """The argument `num_keypoints` of models: as many as the objects of a dataset have."""
    keypoints = data.columns.keypoints if isinstance(data, Dataset) else None
    return {} if keypoints is None else {"num_keypoints": int(keypoints.shape[1])}


TASK = Task(
    name="detection",
    labels=Labels("instances", arguments=num_keypoints),
    measure=DetectionMeasure,
    headline=HEADLINE,
    report=DetectionReport(HEADLINE),
    writer=DetectionWriter(),
    default_model="sightline_lite0",
    quick_model="faster_rcnn_mobilenet_v2_fpn",
    explained=Explained(
        best_box,
        {
            "class": best_box,
            "box": box_target,
            "mask": mask_target,
            "keypoint": keypoint_target,
            "proposal": proposal_target,
        },
        "dog, box:0, box:0:delta, box:0:left, mask:0, keypoint:0:left_eye or proposal:0",
        box_cases,
    ),
)
