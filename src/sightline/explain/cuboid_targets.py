"""What a detection has in 3-D: the depth of its cuboid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import box_of_result, require_detector, require_index, whole_number
from sightline.explain.instance_targets import PartOfBox
from sightline.explain.target import prepared
from sightline.models.model import Model
from sightline.models.spatial.cube_rcnn import CubeRCNN
from sightline.structures import ImageBatch


@dataclass(frozen=True)
class CuboidDepth(PartOfBox):
    """The logarithm of the depth of one object: how much a part of the image moves it away from the camera.

    Attributes:
        metres: the depth in the unchanged image.
    """

    metres: float = 0.0
    quantity = "log depth"

    def score(self, model: CubeRCNN, batch: ImageBatch) -> Tensor:
        boxes, _, classes = self.fixed(batch)
        return model.cuboids_in(batch, boxes, classes)[0].depths.log()

    def describe(self, model: Model) -> str:
        return f"depth ({self.metres:.2f} m) of {self.of.describe(model)}"


@torch.no_grad()
def cuboid_depth(model: Model, image: Tensor, index: int) -> CuboidDepth:
    """The depth of the cuboid of a detection.

    Args:
        model: a model of cuboids.
        image: [C, H, W], uint8 or float in [0, 1]; a `View` if its camera is known.
        index: position among the detections.

    Raises:
        InputError: the model predicts no cuboids, or found fewer objects.
    """
    if not isinstance(model, CubeRCNN):
        raise InputError(f"{model.title} predicts no cuboids, so no depth of one can be explained; use Cube R-CNN")
    detector, batch = require_detector(model), prepared(model, image)
    result = detector.batch_results(batch)[0]
    require_index(index, len(result), "object", "depth")
    box = box_of_result(detector, batch, result, index)
    place = torch.tensor(box.batch_box, device=batch.tensor.device)
    level = detector.part_level(batch, place, box.level)
    return CuboidDepth(box, level, float(result.cuboids[index, 2]))


def depth_target(model: Model, image: Tensor, words: Sequence[str]) -> CuboidDepth:
    """The target of the words "depth:0"."""
    return cuboid_depth(model, image, whole_number(":".join(words), "depth"))
