"""One class for a whole image."""

from __future__ import annotations

from sightline.evaluation.classification import HEADLINE, ClassificationMeasure
from sightline.tasks.base import Labels, Task

TASK = Task(
    name="classification",
    labels=Labels("class_scores"),
    measure=ClassificationMeasure,
    headline=HEADLINE,
    default_model="mobilenet_v2",
    quick_model="mobilenet_v2",
)
