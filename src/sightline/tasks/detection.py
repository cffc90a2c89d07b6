"""Object detection: boxes, with masks and keypoints if model and labels have them."""

from __future__ import annotations

from sightline.deploy.writers.detection import DetectionWriter
from sightline.evaluation.detection import HEADLINE, DetectionMeasure
from sightline.explain.box_targets import best_box, box_target, proposal_target
from sightline.explain.cases import box_cases
from sightline.explain.instance_targets import keypoint_target, mask_target
from sightline.explain.targets import Explained
from sightline.report.detection import DetectionReport
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="detection",
    labels=Labels("instances"),
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
