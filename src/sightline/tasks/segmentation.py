"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from typing import Any

from sightline.deploy.writers.segmentation import SegmentationWriter
from sightline.evaluation.segmentation import HEADLINE, PixelCounts
from sightline.explain.cases import map_cases
from sightline.explain.class_targets import largest_class, region_class
from sightline.explain.targets import Explained
from sightline.report.segmentation import SegmentationReport
from sightline.structures import Classes
from sightline.tasks.base import Labels, Task


def as_class_map(data: Any) -> Any:
    """Draw objects with outlines as class maps if the data supports it; otherwise return the data unchanged."""
    draw = getattr(data, "as_class_map", None)
    return data if draw is None else draw()


def classes(data: Any) -> Classes:
    """The classes of the data's class maps, with "background" if the data has objects."""
    found: Classes = as_class_map(data).classes
    return found


TASK = Task(
    name="segmentation",
    labels=Labels("class_map", as_class_map, classes),
    measure=PixelCounts,
    headline=HEADLINE,
    report=SegmentationReport(HEADLINE),
    writer=SegmentationWriter(),
    default_model="unet_lite0",
    quick_model="unet_lite0",
    explained=Explained(
        largest_class, {"class": region_class}, "road, class:road or class:road:x1,y1,x2,y2", map_cases
    ),
)
