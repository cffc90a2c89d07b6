"""Meshes: the objects of an image with their shapes."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.data.stored import optional_fields
from sightline.deploy.writers.meshes import MeshWriter
from sightline.evaluation.meshes import HEADLINE, MeshMeasure
from sightline.explain.box_targets import best_box, box_target, proposal_target
from sightline.explain.cases import box_cases
from sightline.explain.mesh_targets import depth_target, shape_target
from sightline.explain.targets import Explained
from sightline.report.meshes import MeshReport
from sightline.tasks.base import Labels, Task

_FIELD = "meshes"


def with_meshes(data: Any) -> Any:
    """The data with meshes; unchanged if it has none."""
    if not isinstance(data, Dataset) or _FIELD not in (*data.source.later, *optional_fields(data.columns)):
        return data
    return data.with_fields(_FIELD)


TASK = Task(
    name="meshes",
    labels=Labels("instances", with_meshes, about=_FIELD),
    measure=MeshMeasure,
    headline=HEADLINE,
    report=MeshReport(HEADLINE),
    writer=MeshWriter(),
    default_model="mesh_rcnn_lite0_fpn",
    quick_model="mesh_rcnn_lite0_fpn",
    explained=Explained(
        best_box,
        {
            "class": best_box,
            "box": box_target,
            "mesh": shape_target,
            "depth": depth_target,
            "proposal": proposal_target,
        },
        "cone, box:0, box:0:left, mesh:0, depth:0 or proposal:0",
        box_cases,
    ),
)
