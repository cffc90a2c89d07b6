"""One predicted relation: the score of its predicate, and where it is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import best_box, require_index, whole_number
from sightline.explain.cases import Case, box_cases
from sightline.explain.faithfulness import inside_box
from sightline.explain.target import Box, Target, as_box, prepared
from sightline.models.model import Model
from sightline.models.scene.scene_graph import SceneGraphDetector
from sightline.ops.boxes import box_iou
from sightline.ops.pairs import union_boxes
from sightline.structures import ImageBatch, Instances
from sightline.structures.relations import Triplet, ranked, triplets_of

_OTHERS = 6
"""Maximum number of other objects that exchange messages with the two of the relation."""


@dataclass(frozen=True)
class RelationScore(Target):
    """The score of a predicate between two fixed boxes, before the sigmoid and without the frequency bias.

    The frequency bias depends on the classes alone, which do not change, so it would add a constant.

    Attributes:
        subject, predicate, object: class, predicate and class, by name.
        predicate_id: index of the predicate.
        batch_boxes: the boxes of the two objects, subject first, and of the best other detections, in pixels of the
            batch; they exchange messages.
        box: the box around both, in pixels of the original image.
        level: as in `Target`.
        number: position among the relations of the image, best first.
        likelihood: score of the relation in the unchanged image, in [0, 1].
    """

    subject: str
    predicate: str
    object: str
    predicate_id: int
    batch_boxes: tuple[Box, ...]
    box: Box | None = None
    level: int = 0
    number: int = 0
    likelihood: float | None = field(default=None, compare=False)
    quantity = "logit"

    def score(self, model: SceneGraphDetector, batch: ImageBatch) -> Tensor:
        boxes = torch.tensor(self.batch_boxes, device=batch.tensor.device, dtype=batch.tensor.dtype)
        graph = model.graph(model.backbone(batch.tensor), [boxes] * len(batch), batch)
        # the pair (0, 1) comes first of each image
        return graph.predicates.unflatten(0, (len(batch), -1))[:, 0, self.predicate_id]

    def describe(self, model: Model) -> str:
        value = "" if self.likelihood is None else f" ({self.likelihood:.2f})"
        return f"relation {self.number}: {self.subject} {self.predicate} {self.object}{value}"


@torch.no_grad()
def relation(model: Model, image: Tensor, index: int = 0) -> RelationScore:
    """A predicted relation as a target.

    Args:
        model: a model of scene graphs.
        image: [C, H, W], uint8 or float in [0, 1].
        index: position among the relations of the image, best first.

    Raises:
        InputError: the model does not predict relations, or found fewer in this image; or it predicts them from classes
            alone.
    """
    scene_graphs, batch = _required(model), prepared(model, image)
    result = scene_graphs.batch_results(batch)[0]
    found = ranked(result)
    require_index(index, len(found), "relation", "relation")
    return _target(scene_graphs, batch, result, found[index], index)


def _required(model: Model) -> SceneGraphDetector:
    if not isinstance(model, SceneGraphDetector):
        raise InputError(f"{model.title} predicts no relations, so there is none to explain; explain another target")
    if model.head is None:
        raise InputError(
            f"{model.title} predicts relations from the classes of two objects alone, so that no pixel changes their "
            "score; explain box:0 instead"
        )
    return model


def _target(
    model: SceneGraphDetector, batch: ImageBatch, result: Instances, triplet: Triplet, number: int
) -> RelationScore:
    names = result.names()
    others = [i for i in range(len(result)) if i not in (triplet.subject, triplet.object)][:_OTHERS]
    rows = torch.tensor([triplet.subject, triplet.object, *others], device=result.boxes.device)
    boxes = result.boxes[rows]
    around = union_boxes(boxes[:1], boxes[1:2])
    inside = batch.in_batch(boxes.float())
    return RelationScore(
        subject=names[triplet.subject],
        predicate=triplet.predicate,
        object=names[triplet.object],
        predicate_id=model.predicates.index(triplet.predicate),
        batch_boxes=tuple(as_box(row) for row in inside),
        box=as_box(around[0]),
        level=model.part_level(batch, batch.in_batch(around.float())[0], 0),
        number=number,
        likelihood=triplet.score,
    )


@torch.no_grad()
def best_relation(model: Model, image: Tensor) -> Target:
    """The most certain relation of an image, or the best box, if the model finds no relation that pixels change."""
    if isinstance(model, SceneGraphDetector) and model.head is None:
        return best_box(model, image)
    found = ranked(_required(model).batch_results(prepared(model, image))[0])
    return relation(model, image) if found else best_box(model, image)


def relation_target(model: Model, image: Tensor, words: Sequence[str]) -> RelationScore:
    """The target of the words "relation:0"."""
    return relation(model, image, whole_number(":".join(words), "relation"))


@torch.no_grad()
def relation_cases(model: Any, name: str, image: Tensor, label: Any) -> Iterator[Case]:
    """The most certain relation of an image that is labelled; both labelled boxes say where it is.

    The boxes that are found, if the model predicts relations from classes alone.
    """
    if isinstance(model, SceneGraphDetector) and model.head is None:
        yield from box_cases(model, name, image, label)
        return
    scene_graphs, batch = _required(model), prepared(model, image)
    result = scene_graphs.batch_results(batch)[0]
    if not len(result) or not len(label):
        return
    same = box_iou(result.boxes.cpu().float(), label.boxes.float()) >= 0.5
    same &= result.labels.cpu()[:, None] == label.labels[None]
    truths = triplets_of(label)
    size = (int(image.shape[-2]), int(image.shape[-1]))
    for number, found in enumerate(ranked(result)):
        for truth in truths:
            both = same[found.subject, truth.subject] and same[found.object, truth.object]
            if both and found.predicate == truth.predicate:
                boxes = label.boxes[[truth.subject, truth.object]].tolist()
                inside = torch.stack([inside_box(box, size) for box in boxes]).any(0)
                yield Case(name, image, _target(scene_graphs, batch, result, found, number), inside)
                return
