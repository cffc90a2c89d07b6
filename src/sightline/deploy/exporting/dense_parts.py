"""Boxes of dense and of region-based detectors, for exported models."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.deploy.exporting.operators import LEAST
from sightline.deploy.exporting.part import OBJECTS, Part, as_batch, in_image, objects
from sightline.deploy.exporting.regions import detected, proposed
from sightline.deploy.exporting.selecting import Selected, at_places, clipped, falling, selected
from sightline.models.darknet.detector import DarknetDetector
from sightline.models.darknet.preprocess import DarknetPreprocess
from sightline.models.detection.detector import Detector
from sightline.models.detection.faster_rcnn import FasterRCNN
from sightline.models.detection.proposal_network import ProposalNetwork


class DetectorPart(Part):
    """Boxes of a dense detector after suppression, in pixels of the original image."""

    kind = "objects"
    outputs = OBJECTS

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, Detector)
        found = selected(self.model.dense_candidates(as_batch(batch)), self.model.selection(), size)
        return objects(in_image(found.boxes, size, original), found.scores, found.labels)


class DarknetPart(Part):
    """Boxes of a network of a Darknet file, out of the letterbox."""

    kind = DetectorPart.kind
    outputs = OBJECTS

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        assert isinstance(model, DarknetDetector)
        assert isinstance(model.preprocess, DarknetPreprocess)
        canvas = torch.tensor(model.preprocess.canvas, device=batch.device)
        found = selected(model.dense_candidates(as_batch(batch)), model.selection(), canvas)
        corner = ((canvas - size) // 2).flip(0).repeat(2)
        boxes = clipped(in_image(found.boxes - corner, size, canvas), canvas)
        solid = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        # what lies in the bars of the letterbox alone is dropped
        scores, order = falling(torch.where(solid, found.scores, LEAST))
        return objects(in_image(at_places(boxes, order), canvas, original), scores, found.labels.gather(1, order))


class RegionPart(Part):
    """Boxes of a detector that scores the proposals of its own network."""

    kind = DetectorPart.kind
    outputs = OBJECTS

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        _, found = self.detected(batch, size)
        return objects(in_image(found.boxes, size, original), found.scores, self.classes_of(found))

    def detected(self, batch: Tensor, size: Tensor) -> tuple[dict[str, Tensor], Selected]:
        """The maps of a batch, and its detections in pixels of the batch, labelled by output of the head."""
        model = self.model
        assert isinstance(model, FasterRCNN)
        maps = model.backbone(batch)
        found = detected(model.roi_heads, maps, proposed(model.rpn, maps, batch, size), size)
        return maps, found if model.output_ids is None else _of_classes(model, found)

    def classes_of(self, found: Selected) -> Tensor:
        """The class ids of detections."""
        assert isinstance(self.model, Detector)
        return self.model.classes_of(found.labels)


def _of_classes(model: Detector, found: Selected) -> Selected:
    """The detections without those of outputs that belong to no class."""
    scores, order = falling(torch.where(model.classes_of(found.labels) >= 0, found.scores, LEAST))
    labels, places = found.labels.gather(1, order), found.places.gather(1, order)
    return Selected(at_places(found.boxes, order), scores, labels, places)


class ProposalPart(Part):
    """Boxes of a region proposal network."""

    kind = DetectorPart.kind
    outputs = {name: meaning for name, meaning in OBJECTS.items() if name != "labels"}

    def forward(self, batch: Tensor, size: Tensor, original: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        assert isinstance(model, ProposalNetwork)
        boxes, scores = proposed(model.rpn, model.backbone(batch), batch, size)
        boxes, scores, _, count = objects(in_image(boxes, size, original), scores, torch.zeros_like(scores))
        return boxes, scores, count
