"""Objects in boxes, with masks and keypoints where model and labels have them."""

from __future__ import annotations

from sightline.evaluation.detection import HEADLINE, DetectionMeasure
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="detection",
    labels=Labels("instances"),
    measure=DetectionMeasure,
    headline=HEADLINE,
    default_model="sightline_n",
    quick_model="faster_rcnn_mobilenet_v2_fpn",
)
