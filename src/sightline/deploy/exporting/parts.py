"""What an exported file computes from a preprocessed batch, for each kind of model, and how its outputs are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sightline.deploy.exporting.cuboid_parts import CuboidRegionPart
from sightline.deploy.exporting.dense_parts import DarknetPart, DetectorPart, ProposalPart, RegionPart
from sightline.deploy.exporting.field_parts import (
    DetectorMaskPart,
    DetectorPosePart,
    KeypointRegionPart,
    MaskRegionPart,
)
from sightline.deploy.exporting.part import Outputs, Part, as_batch
from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.darknet.detector import DarknetDetector
from sightline.models.detection.detector import Detector
from sightline.models.detection.fast_rcnn import FastRCNN
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.keypoint_rcnn import KeypointRCNN
from sightline.models.detection.mask_rcnn import MaskRCNN
from sightline.models.detection.proposal_network import ProposalNetwork
from sightline.models.detection.sightline_mask import SightlineMask
from sightline.models.detection.sightline_pose import SightlinePose
from sightline.models.detection.yolo_9000 import YOLO9000
from sightline.models.model import Model
from sightline.models.segmentation.segmenter import Segmenter
from sightline.models.spatial.cube_rcnn import CubeRCNN
from sightline.ops.mask_grids import deferred_grids
from sightline.ops.masks import deferred_masks
from sightline.structures import Classes, ClassMap, ClassScores, Instances, Size


class ClassifierPart(Part):
    """Class probabilities."""

    kind = "scores"
    outputs = {"scores": "[N, K] float, class probabilities"}

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, ImageClassifier)
        return (self.model.network(batch).float().softmax(-1),)


class SegmenterPart(Part):
    """Logits as the network gives them; the class map at the size of the image is computed by nodes behind the part."""

    kind = "map"
    outputs = {
        "labels": "[N, H, W] int64, the class of each pixel of the image",
        "scores": "[N, K, H, W] float, class probabilities; on request",
    }

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, Segmenter)
        return (self.model.network_logits(as_batch(batch)).float(),)


PARTS: dict[type[Model], type[Part]] = {
    ImageClassifier: ClassifierPart,
    Segmenter: SegmenterPart,
    ProposalNetwork: ProposalPart,
    MaskRCNN: MaskRegionPart,
    KeypointRCNN: KeypointRegionPart,
    CubeRCNN: CuboidRegionPart,
    FasterRCNN: RegionPart,
    SightlineMask: DetectorMaskPart,
    SightlinePose: DetectorPosePart,
    DarknetDetector: DarknetPart,
    Detector: DetectorPart,
}
"""Class of models → their part. A model has the part of the nearest of its base classes."""


def part_of(model: Model) -> Part:
    """The part that a model is exported as.

    Raises:
        InputError: there is none for this model.
    """
    require_exportable(model)
    return PARTS[next(kind for kind in type(model).mro() if kind in PARTS)](model)


def require_exportable(model: Model) -> None:
    """Check that a model has an exported form.

    Raises:
        InputError: it has none; the message says why.
    """
    reason = refusal(model)
    if reason is not None:
        raise InputError(f"{model.title} cannot be exported: {reason}; docs/exporting.md lists the models that can be")


def refusal(model: Model) -> str | None:
    """Why a model has no exported form; None if it has."""
    kind: Any = next((kind for kind in type(model).mro() if kind in PARTS), None)
    if kind is None:
        return model.unexportable
    if not isinstance(model, Detector):
        return None
    if model.task != kind.task:
        return model.unexportable
    if isinstance(model, CubeRCNN) and model.depth_input is not None:
        return "its depth maps have no exported form yet"
    if isinstance(model, FastRCNN):
        return "its proposals come from a function outside of the network"
    if isinstance(model, YOLO9000):
        return "where its walk down the tree of words ends depends on the scores"
    if kind is Detector and type(model).dense_candidates is Detector.dense_candidates:
        return "which places it looks at depends on the image"
    if model.target_fields != kind.target_fields:
        return f"its {' and '.join(model.target_fields)} have no exported form yet"
    if type(model).finish is not kind.finish:
        return "what it does with its boxes after the selection has no exported form yet"
    if model.selection().method == "merging":
        return "its detections are merged from several boxes, which has no exported form"
    return None


def read_objects(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The objects of each image."""
    found = []
    for i, size in enumerate(sizes):
        count = int(outputs["count"][i])
        fields: dict[str, Any] = {name: value[i, :count] for name, value in outputs.items() if name != "count"}
        found.append(Instances.unchecked(size, classes=classes, **fields))
    return found


def read_masks(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The objects of each image, with masks from the grids over their boxes, pasted when they are read."""
    found = read_objects(outputs, sizes, classes)
    return [own.replace(masks=deferred_masks(own.masks, own.boxes, own.image_size)) for own in found]


def read_grids(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The objects of each image, with masks from the grids over their mask boxes, pasted when they are read."""
    frames = outputs["mask_boxes"]
    found = read_objects({k: v for k, v in outputs.items() if k != "mask_boxes"}, sizes, classes)
    return [
        own.replace(masks=deferred_grids(own.masks, frame[: len(own)], own.image_size))
        for own, frame in zip(found, frames, strict=True)
    ]


def read_map(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The class map of each image, with probabilities if the file gives them."""
    labels, scores = outputs["labels"], outputs.get("scores")
    return [ClassMap.unchecked(labels[i], classes, None if scores is None else scores[i]) for i in range(len(sizes))]


def read_scores(outputs: Outputs, sizes: Sequence[Size], classes: Classes) -> list[Any]:
    """The class probabilities of each image."""
    return [ClassScores(size, scores=outputs["scores"][i], classes=classes) for i, size in enumerate(sizes)]


Reader = Callable[[Outputs, Sequence[Size], Classes], list[Any]]

READERS: dict[str, Reader] = {
    ClassifierPart.kind: read_scores,
    SegmenterPart.kind: read_map,
    DetectorPart.kind: read_objects,
    CuboidRegionPart.kind: read_objects,
    MaskRegionPart.kind: read_masks,
    DetectorMaskPart.kind: read_grids,
}
"""Kind of a part → what makes results of its outputs."""
