"""3-D boxes from one image: objects with their cuboids in metres."""

from __future__ import annotations

from typing import Any

from sightline.data.cuboids import FIELD, cuboid_arguments
from sightline.data.dataset import Dataset
from sightline.data.stored import optional_fields
from sightline.deploy.writers.cuboids import CuboidWriter
from sightline.evaluation.cuboids import HEADLINE, CuboidMeasure
from sightline.explain.box_targets import best_box, box_target, proposal_target
from sightline.explain.cases import box_cases
from sightline.explain.cuboid_targets import depth_target
from sightline.explain.targets import Explained
from sightline.report.cuboids import CuboidReport
from sightline.tasks.base import Labels, Task

ATTRIBUTES = ("truncated", "occluded")
"""Additional fields of the objects, by which KITTI's evaluation tells how difficult they are."""


def with_cuboids(data: Any) -> Any:
    """The data with cuboids, and with KITTI's attributes if it has them; unchanged if it has no cuboids."""
    if not isinstance(data, Dataset):
        return data
    known = optional_fields(data.columns)
    return data.with_fields(*(name for name in (FIELD, *ATTRIBUTES) if name in known))


TASK = Task(
    name="cuboids",
    labels=Labels("instances", with_cuboids, about="cuboids", arguments=cuboid_arguments),
    measure=CuboidMeasure,
    headline=HEADLINE,
    report=CuboidReport(HEADLINE),
    writer=CuboidWriter(),
    default_model="cube_rcnn_lite0_fpn",
    explained=Explained(
        best_box,
        {"class": best_box, "box": box_target, "depth": depth_target, "proposal": proposal_target},
        "dog, box:0, box:0:delta, depth:0 or proposal:0",
        box_cases,
    ),
)
