"""Scene graphs: objects, and the relations between them."""

from __future__ import annotations

from typing import Any

from sightline.data.dataset import Dataset
from sightline.deploy.writers.scene_graph import SceneGraphWriter
from sightline.errors import InputError
from sightline.evaluation.scene_graphs import HEADLINE, SceneGraphMeasure
from sightline.explain.box_targets import best_box, box_target, proposal_target
from sightline.explain.relation_targets import best_relation, relation_cases, relation_target
from sightline.explain.targets import Explained
from sightline.report.scene_graph import SceneGraphReport
from sightline.structures.relations import FIELDS
from sightline.tasks.base import Labels, Task


def with_relations(data: Any) -> Any:
    """The data with relations in its targets.

    Raises:
        InputError: a dataset has no relations.
    """
    if not isinstance(data, Dataset) or all(name in data.fields for name in FIELDS):
        return data
    if not data.source.columns.tables.get("relations"):
        raise InputError(
            "the data has no relations between objects, which scene graphs are learnt from; docs/scene_graphs.md "
            "describes the layouts that have them"
        )
    return data.with_fields(*FIELDS)


def predicates(data: Any) -> dict[str, list[str]]:
    """The argument `predicates` of models: those of a dataset, the most frequent first."""
    found = list(data.predicates) if isinstance(data, Dataset) else []
    return {"predicates": found} if found else {}


TASK = Task(
    name="scene_graph",
    labels=Labels("instances", with_relations, about="relations", arguments=predicates),
    measure=SceneGraphMeasure,
    headline=HEADLINE,
    report=SceneGraphReport(HEADLINE),
    writer=SceneGraphWriter(),
    default_model="scene_graph_lite0_fpn",
    explained=Explained(
        best_relation,
        {"relation": relation_target, "class": best_box, "box": box_target, "proposal": proposal_target},
        "relation:0, dog, box:0 or proposal:0",
        relation_cases,
    ),
)
