"""The frequency baseline of scene graphs: Zellers, Yatskar, Thomson, Choi, "Neural motifs: scene graph parsing with
global context", CVPR 2018, section 4.2 ("FREQ"): Faster R-CNN finds the objects, and the predicate between two of them
follows from their classes alone, by its frequency in the training data. Any model of relations should be better.

Departures: predicates are independent of each other, see `sightline.nn.heads.relations.FrequencyBias`; the variant that
requires boxes to overlap ("FREQ+OVERLAP") is left out, since relations such as "left of" do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.models.detection.faster_rcnn import SMALL, SMALL_START, START, faster_rcnn
from sightline.models.entry import Entry, extends
from sightline.models.scene.graph_plan import plan
from sightline.models.scene.iterative_message_passing import PREDICATES, RELATIONS
from sightline.models.scene.scene_graph import SceneGraphDetector, require_predicates
from sightline.nn.heads.relations import FrequencyBias, RelationSettings


@extends(faster_rcnn)
def scene_graph_frequency(
    classes: Iterable[str],
    *,
    predicates: Sequence[str] = PREDICATES,
    relations: RelationSettings = RELATIONS,
    **arguments: Any,
) -> SceneGraphDetector:
    """The frequency baseline on Faster R-CNN with any backbone. Other arguments as for `faster_rcnn`.

    Args:
        classes: names of the classes.
        predicates: names of the predicates; `train` takes those of the data.
        relations: settings of relations.
        arguments: additional arguments of `faster_rcnn`.
    """
    base = faster_rcnn(classes, **arguments)
    names = require_predicates(predicates)
    frequency = FrequencyBias(len(base.classes), len(names))
    return SceneGraphDetector(base, names, None, frequency, settings=relations)


PAPER = "Zellers et al. 2018, Neural motifs: scene graph parsing with global context"

ENTRIES = (
    Entry(
        name="scene_graph_frequency_resnet50_fpn",
        builder=scene_graph_frequency,
        task="scene_graph",
        paper=PAPER,
        summary="The frequency baseline of scene graphs on ResNet-50 with a feature pyramid.",
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="scene_graph_frequency_mobilenet_v2_fpn",
        builder=scene_graph_frequency,
        task="scene_graph",
        paper=PAPER,
        summary="The frequency baseline of scene graphs on MobileNet v2 with a narrow pyramid.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 8},
        defaults=SMALL,
        plan=plan,
    ),
    Entry(
        name="scene_graph_frequency_lite0_fpn",
        builder=scene_graph_frequency,
        task="scene_graph",
        paper=PAPER,
        summary="The frequency baseline of scene graphs on EfficientNet-Lite0 with a narrow pyramid.",
        start=SMALL_START,
        fixed={"backbone": "efficientnet_lite0", "version": 1, "finest": 8},
        defaults=SMALL,
        plan=plan,
    ),
)
