"""Object detection: boxes, with masks and keypoints if model and labels have them."""

from __future__ import annotations

from sightline.deploy.writers.detection import DetectionWriter
from sightline.evaluation.detection import HEADLINE, DetectionMeasure
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
)
