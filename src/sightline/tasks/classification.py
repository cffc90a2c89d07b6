"""Image classification: one class for a whole image."""

from __future__ import annotations

from sightline.deploy.writers.classification import ClassificationWriter
from sightline.evaluation.classification import HEADLINE, ClassificationMeasure
from sightline.explain.cases import class_cases
from sightline.explain.class_targets import image_class, most_likely_class
from sightline.explain.targets import Explained
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
    explained=Explained(
        most_likely_class,
        {"class": image_class},
        "dog or class:dog",
        class_cases,
        located_by="instances",  # boxes say where the object of a class is
    ),
)
