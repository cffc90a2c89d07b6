"""What a detection has besides its box in Mesh R-CNN: its voxels, and how deep and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.box_targets import DetectedBox, detected_box, require_detector, whole_number
from sightline.explain.target import Box, Target, prepared
from sightline.models.model import Model
from sightline.models.spatial.mesh_rcnn import MeshRCNN
from sightline.structures import ImageBatch


@dataclass(frozen=True)
class ObjectVoxels(Target):
    """The mean score, before the sigmoid, of the voxels that are occupied in one object's shape.

    Attributes:
        of: the detection.
        level: index of the feature map that the score is computed from.
        occupied: [G, G, G] bool, the occupied voxels of the unchanged image.
    """

    of: DetectedBox
    level: int
    occupied: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 0, dtype=torch.bool), compare=False)
    quantity = "mean logit"

    @property
    def box(self) -> Box | None:  # type: ignore[override]
        return self.of.box

    def score(self, model: MeshRCNN, batch: ImageBatch) -> Tensor:
        voxels, _ = model.shapes_of(batch, _boxes(self.of, batch))
        return voxels[:, self.occupied.to(voxels.device)].mean(1)

    def describe(self, model: Model) -> str:
        return f"shape of {self.of.describe(model)}"


@dataclass(frozen=True)
class ObjectDepth(Target):
    """The logarithm of the range of depths of one object, relative to the longer side of its box.

    Attributes:
        of: the detection.
        level: index of the feature map that the score is computed from.
    """

    of: DetectedBox
    level: int
    quantity = "log depth"

    @property
    def box(self) -> Box | None:  # type: ignore[override]
        return self.of.box

    def score(self, model: MeshRCNN, batch: ImageBatch) -> Tensor:
        return model.shapes_of(batch, _boxes(self.of, batch))[1][:, 0]

    def describe(self, model: Model) -> str:
        return f"depth of {self.of.describe(model)}"


def shape_target(model: Model, image: Tensor, words: Sequence[str]) -> ObjectVoxels:
    """The target of the words "mesh:0"."""
    own, of, level = _detection(model, image, words, "mesh")
    batch = prepared(model, image)
    with torch.no_grad():
        voxels, _ = own.shapes_of(batch, _boxes(of, batch))
    chances = voxels[0].sigmoid()
    return ObjectVoxels(of, level, chances >= chances.max().clamp(max=own.roi_heads.mesh_branch.settings.threshold))


def depth_target(model: Model, image: Tensor, words: Sequence[str]) -> ObjectDepth:
    """The target of the words "depth:0"."""
    _, of, level = _detection(model, image, words, "depth")
    return ObjectDepth(of, level)


def _detection(model: Model, image: Tensor, words: Sequence[str], word: str) -> tuple[MeshRCNN, DetectedBox, int]:
    if not isinstance(model, MeshRCNN):
        raise InputError(f"{model.title} predicts no meshes, so {word}:… is no target of it; explain a box")
    of = detected_box(model, image, whole_number(":".join(words), word))
    batch = prepared(model, image)
    assert of.batch_box is not None
    place = torch.tensor(of.batch_box, device=batch.tensor.device)
    return model, of, require_detector(model).part_level(batch, place, of.level)


def _boxes(of: DetectedBox, batch: ImageBatch) -> Tensor:
    """The detected box for each image of a batch: [N, 4]."""
    assert of.batch_box is not None
    return torch.tensor([of.batch_box], device=batch.tensor.device).expand(len(batch), 4)
