"""D-RISE (Petsiuk et al., "Black-box explanation of object detectors via saliency maps", 2021, section 3): RISE whose
score is the similarity of a masked image's detections to the detection that is explained.

The similarity of two detections is the product of the IoU of their boxes, the cosine similarity of their class scores,
and the objectness (section 3.2); the score of a masked image is the maximum over its candidates.

Departure: a detector without an objectness of its own takes the highest class score in its place. The paper leaves the
factor out, which does not work for dense heads: their thousands of boxes without an object have small class scores, but
many of these point in the direction of the detection's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.explain.rise import RISE
from sightline.models.detection.candidates import Candidates
from sightline.ops.boxes import elementwise_iou
from sightline.structures import ImageBatch


@dataclass(frozen=True)
class DRISE(RISE):
    """RISE for one detected box; the function must be its `DetectionSimilarity`.

    Args:
        samples: number of masks (the paper: 5000).
        cells: cells of the random grid along each side (the paper: 16).
    """

    name = "d_rise"
    compares = True
    cells: int = 16


@dataclass(frozen=True)
class DetectionSimilarity:
    """The similarity of an image's candidates to one detection, as a target.

    Attributes:
        box: [4] (x1, y1, x2, y2) of the detection in pixels of the batch.
        scores: [K] its class scores.
    """

    box: Tensor
    scores: Tensor

    @classmethod
    def of(cls, candidates: Candidates, row: int, class_id: int) -> DetectionSimilarity:
        """The similarity to a candidate of one image and its class."""
        boxes = candidates.boxes[row].detach()
        return cls(boxes[class_id if len(boxes) > 1 else 0], candidates.scores[row].detach())

    def score(self, model: Any, batch: ImageBatch) -> Tensor:
        """[N] in [0, 1]: the highest similarity in each image of a batch."""
        return torch.stack([self.similarity(found) for found in model.candidates(batch)])

    def similarity(self, candidates: Candidates) -> Tensor:
        """The highest similarity of the candidates of one image; 0 without candidates."""
        if not len(candidates.scores):
            return candidates.scores.new_zeros(())
        scores = candidates.scores.float()
        alike = F.cosine_similarity(scores, self.scores.to(scores)[None], dim=1)
        best, classes = scores.max(1)
        boxes = candidates.boxes
        per_class = boxes.shape[1] > 1
        own = boxes[torch.arange(len(boxes), device=boxes.device), classes] if per_class else boxes[:, 0]
        overlap = elementwise_iou(own.float(), self.box.to(own).float().expand_as(own))
        overlap = overlap.nan_to_num()  # of boxes without an area
        return (overlap * alike * best).max()
