"""What a detection has besides its box: the pixels of its mask, and its keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import (
    DetectedBox,
    box_of_result,
    require_detector,
    require_index,
    whole_number,
)
from sightline.explain.target import Box, Target, prepared
from sightline.models.detection.detector import Detector
from sightline.models.model import Model
from sightline.structures import ImageBatch, Instances
from sightline.words import did_you_mean

COCO_KEYPOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)
"""The names of a person's 17 keypoints in COCO, in order."""


@dataclass(frozen=True)
class PartOfBox(Target):
    """Base class of targets in a fixed box.

    Attributes:
        of: the detection.
        level: index of the feature map that the score is computed from.
    """

    of: DetectedBox
    level: int

    @property
    def box(self) -> Box | None:  # type: ignore[override]
        return self.of.box

    def fixed(self, batch: ImageBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The box [N, 4], and row and class [N], for each image of a batch."""
        assert self.of.batch_box is not None
        device, count = batch.tensor.device, len(batch)
        boxes = torch.tensor([self.of.batch_box], device=device).expand(count, 4)
        rows, classes = torch.tensor([[self.of.row], [self.of.class_id]], device=device).expand(2, count)
        return boxes, rows, classes


@dataclass(frozen=True)
class MaskPixels(PartOfBox):
    """The mean score, before the sigmoid, of the pixels of one object's mask.

    Attributes:
        cells: [M, M] bool, the cells of the model's grid that the mask of the unchanged image contains.
        mask: [H, W] bool, the mask in pixels of the original image.
    """

    cells: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool), compare=False)
    mask: Tensor | None = field(default=None, compare=False)
    quantity = "mean logit"

    def score(self, model: Detector, batch: ImageBatch) -> Tensor:
        logits = model.mask_logits_of(batch, *self.fixed(batch))
        return logits[:, self.cells.to(logits.device)].mean(1)

    def describe(self, model: Model) -> str:
        return f"mask of {self.of.describe(model)}"


@dataclass(frozen=True)
class Keypoint(PartOfBox):
    """The score of one keypoint of one object: the peak of its heat map, see `Detector.keypoint_logits_of`.

    Attributes:
        keypoint: index of the keypoint.
        name: its name.
    """

    keypoint: int = 0
    name: str = ""
    quantity = "logit"

    def score(self, model: Detector, batch: ImageBatch) -> Tensor:
        return model.keypoint_logits_of(batch, *self.fixed(batch))[:, self.keypoint]

    def describe(self, model: Model) -> str:
        return f"{self.name or f'keypoint {self.keypoint}'} of {self.of.describe(model)}"


@torch.no_grad()
def mask_pixels(model: Model, image: Tensor, index: int) -> MaskPixels:
    """The mask of a detection.

    Args:
        model: a detector with masks.
        image: [C, H, W], uint8 or float in [0, 1].
        index: position among the detections.

    Raises:
        InputError: the model predicts no masks or found fewer objects, or the mask has no pixel.
    """
    detector, batch = require_detector(model), prepared(model, image)
    result = detector.batch_results(batch)[0]
    require_index(index, len(result), "object", "mask")
    own = MaskPixels(*_box_and_level(detector, batch, result, index))
    cells = detector.mask_logits_of(batch, *own.fixed(batch))[0] > 0
    if not cells.any():
        raise InputError(f"the mask of box {index} has no pixel, so there is nothing to explain; explain box:{index}")
    return replace(own, cells=cells, mask=result.masks[index].cpu())


@torch.no_grad()
def keypoint(model: Model, image: Tensor, index: int, name: str) -> Keypoint:
    """A keypoint of a detection.

    Args:
        model: a detector with keypoints.
        image: [C, H, W], uint8 or float in [0, 1].
        index: position among the detections.
        name: number of the keypoint, or its name if the model has COCO's 17 keypoints.

    Raises:
        InputError: the model predicts no keypoints or found fewer objects, or has no such keypoint.
    """
    detector, batch = require_detector(model), prepared(model, image)
    result = detector.batch_results(batch)[0]
    require_index(index, len(result), "object", "keypoint")
    own = Keypoint(*_box_and_level(detector, batch, result, index))
    count = detector.keypoint_logits_of(batch, *own.fixed(batch)).shape[1]
    names = COCO_KEYPOINTS if count == len(COCO_KEYPOINTS) else ()
    if name in names:
        return replace(own, keypoint=names.index(name), name=name)
    if name.isascii() and name.isdigit() and int(name) < count:
        return replace(own, keypoint=int(name), name=names[int(name)] if names else "")
    hint = did_you_mean(name, names, f"give a number from 0 to {count - 1}")
    raise InputError(f"the model has {count} keypoints, and {name!r} is none of them; {hint}")


def _box_and_level(model: Detector, batch: ImageBatch, result: Instances, index: int) -> tuple[DetectedBox, int]:
    """A detection as a target, and the level of its additional fields."""
    box = box_of_result(model, batch, result, index)
    place = torch.tensor(box.batch_box, device=batch.tensor.device)
    return box, model.part_level(batch, place, box.level)


def mask_target(model: Model, image: Tensor, words: Sequence[str]) -> MaskPixels:
    """The target of the words "mask:0"."""
    return mask_pixels(model, image, whole_number(":".join(words), "mask"))


def keypoint_target(model: Model, image: Tensor, words: Sequence[str]) -> Keypoint:
    """The target of the words "keypoint:0:left_eye" or "keypoint:0:1"."""
    number, *name = words
    if not name:
        raise InputError(f"keypoint:{number} does not say which keypoint; give keypoint:{number}:0 or a name")
    return keypoint(model, image, whole_number(number, "keypoint"), ":".join(name))
