"""Scene graphs by iterative message passing: Xu, Zhu, Choy, Fei-Fei, "Scene graph generation by iterative message
passing", CVPR 2017, on Faster R-CNN with a feature pyramid, with the frequency bias of Zellers, Yatskar, Thomson, Choi,
"Neural motifs: scene graph parsing with global context", CVPR 2018, section 4.2.

Departures from Xu et al.:

- several predicates can hold between two objects, each with a probability of its own; the paper has one per pair;
- a relation also sees where both boxes are (`sightline.ops.pairs.pair_geometry`): the box around both, from which the
  paper takes its features, is the same for "left of" and "right of";
- detections keep their class and box, which the paper also predicts from the states of the graph; the class that these
  states predict is used for boxes given without a class, and learnt from labelled objects;
- detector and graph are trained together, the graph on labelled boxes that are moved a little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sightline.models.detection.faster_rcnn import SMALL, SMALL_START, START, faster_rcnn
from sightline.models.entry import Entry, extends
from sightline.models.scene.graph_plan import plan
from sightline.models.scene.scene_graph import SceneGraphDetector, require_predicates
from sightline.nn.heads.box import TwoLayerHead
from sightline.nn.heads.regions import AlignedRegions
from sightline.nn.heads.relations import FrequencyBias, MessagePassingHead, RelationSettings
from sightline.nn.necks.fpn import PyramidBackbone

PREDICATES = (
    *("above", "across", "against", "along", "and", "at", "attached to", "behind", "belonging to", "between"),
    *("carrying", "covered in", "covering", "eating", "flying in", "for", "from", "growing on", "hanging from", "has"),
    *("holding", "in", "in front of", "laying on", "looking at", "lying on", "made of", "mounted on", "near", "of"),
    *("on", "on back of", "over", "painted on", "parked on", "part of", "playing", "riding", "says", "sitting on"),
    *("standing on", "to", "under", "using", "walking in", "walking on", "watching", "wearing", "wears", "with"),
)
"""The 50 predicates of Visual Genome that scene graph models are compared on (Xu et al. 2017, section 5)."""
RELATIONS = RelationSettings()


@extends(faster_rcnn)
def scene_graph(
    classes: Iterable[str],
    *,
    predicates: Sequence[str] = PREDICATES,
    relation_width: int = 512,
    iterations: int = 2,
    frequency_bias: bool = True,
    relations: RelationSettings = RELATIONS,
    **arguments: Any,
) -> SceneGraphDetector:
    """Iterative message passing on Faster R-CNN with any backbone. Other arguments as for `faster_rcnn`.

    Args:
        classes: names of the classes.
        predicates: names of the predicates; `train` takes those of the data.
        relation_width: number of features of an object and of a relation (512 in the paper).
        iterations: number of times that messages are exchanged (2 in the paper).
        frequency_bias: add the frequency of each predicate between objects of two classes to its score.
        relations: settings of relations.
        arguments: additional arguments of `faster_rcnn`.
    """
    base = faster_rcnn(classes, **arguments)
    names = require_predicates(predicates)
    regions = base.roi_heads.region_features
    assert isinstance(base.backbone, PyramidBackbone)
    assert isinstance(regions, AlignedRegions)
    pair_head = TwoLayerHead(base.backbone.out_channels * 7 * 7, relation_width)
    inputs = base.roi_heads.box_head.out_features
    assert isinstance(inputs, int)
    head = MessagePassingHead(
        AlignedRegions(regions.levels), pair_head, inputs, len(base.classes), len(names), iterations
    )
    frequency = FrequencyBias(len(base.classes), len(names))
    return SceneGraphDetector(base, names, head, frequency, frequency_bias, relations)


PAPER = "Xu et al. 2017, Scene graph generation by iterative message passing; Zellers et al. 2018, Neural motifs"
SMALL_RELATIONS: dict[str, Any] = {**SMALL, "relation_width": 256}
"""Arguments for small backbones, for training on CPUs."""

ENTRIES = (
    Entry(name="scene_graph", builder=scene_graph, task="scene_graph", paper=PAPER, start={"norm": "frozen"}),
    Entry(
        name="scene_graph_resnet50_fpn",
        builder=scene_graph,
        task="scene_graph",
        paper=PAPER,
        summary="Scene graphs by iterative message passing on ResNet-50 with a feature pyramid.",
        start=START,
        fixed={"backbone": "resnet50", "version": 1, "finest": 4},
    ),
    Entry(
        name="scene_graph_mobilenet_v2_fpn",
        builder=scene_graph,
        task="scene_graph",
        paper=PAPER,
        summary="Scene graphs by iterative message passing on MobileNet v2 with a narrow pyramid.",
        start=SMALL_START,
        fixed={"backbone": "mobilenet_v2", "version": 1, "finest": 8},
        defaults=SMALL_RELATIONS,
        plan=plan,
    ),
    Entry(
        name="scene_graph_lite0_fpn",
        builder=scene_graph,
        task="scene_graph",
        paper=PAPER,
        summary="Scene graphs by iterative message passing on EfficientNet-Lite0, for training on CPUs.",
        start=SMALL_START,
        fixed={"backbone": "efficientnet_lite0", "version": 1, "finest": 8},
        defaults=SMALL_RELATIONS,
        plan=plan,
    ),
)
