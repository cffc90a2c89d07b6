"""Image classification: one class for a whole image."""

from __future__ import annotations

from sightline.deploy.writers.classification import ClassificationWriter
from sightline.evaluation.classification import HEADLINE, ClassificationMeasure
from sightline.report.classification import ClassificationReport
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="classification",
    labels=Labels("class_scores"),
    measure=ClassificationMeasure,
    headline=HEADLINE,
    report=ClassificationReport(HEADLINE),
    writer=ClassificationWriter(),
    default_model="efficientnet_lite0",
    quick_model="efficientnet_lite0",
)
