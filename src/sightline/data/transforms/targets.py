"""What becomes of a target when its image is augmented: one function per question, one registration per type of target.

A type of your own answers by registering itself, `@follow.register`. One that is true of the whole image, wherever
things lie in it, need only be a `sightline.structures.WholeImage`. For a type that does neither, changes of colour
work, and changes of geometry are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.motion import Motion
from sightline.data.transforms.objects import move_objects, objects_within
from sightline.errors import InputError
from sightline.ops.geometry import following
from sightline.structures import IGNORE, ClassMap, Instances, WholeImage

PERSON_SWAP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's 17 keypoints of a person: which one each becomes in a mirror (nose, then left and right in turn)."""


@singledispatch
def within_image(target: Any) -> Any:
    """The objects as far as they lie in their image: boxes clipped to it, and objects wholly outside it left out.

    Keypoints beyond the border become absent (0, 0, 0), and an area shrinks with its box, unless the object has a mask,
    which never leaves its image. Other types of target, and targets that lie inside, come back as they are.
    """
    return target


within_image.register(Instances, objects_within)


@singledispatch
def boxes_to_keep(target: Any) -> np.ndarray:
    """[N, 4] float64 xyxy of what a crop should keep; none for a type that has no objects."""
    return np.zeros((0, 4))


@boxes_to_keep.register
def _(target: Instances) -> np.ndarray:
    if "boxes" not in target or not len(target):
        return np.zeros((0, 4))
    boxes = target.boxes.detach().cpu().numpy().astype(np.float64)
    return boxes[~target.crowd.cpu().numpy()] if "crowd" in target else boxes


@singledispatch
def mirrors_wrongly(target: Any, keypoint_swap: tuple[int, ...] | None) -> bool:
    """Whether a mirrored image would have its left and right keypoints exchanged, for want of their pairs."""
    return False


@mirrors_wrongly.register
def _(target: Instances, keypoint_swap: tuple[int, ...] | None) -> bool:
    if keypoint_swap is not None:
        return False
    # a single point is its own mirror image
    return any(row.pairs and values.shape[1] > 1 for row, _, values in following(target))


@singledispatch
def follow(target: Any, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None) -> Any:
    """The target of an image that was moved.

    Of `Instances`, every field follows by its geometry (`sightline.structures.fields`). Boxes are clipped to the image;
    where an object has a mask, and the move turns or the border cuts it, its box is the tight one of the mask that is
    left. Objects with less than `min_visible` of their area in the image, or thinner than a pixel, are dropped.
    Keypoints beyond the border become absent.

    Args:
        target: of the image as it was.
        motion: the move.
        min_visible: objects of which a smaller share of the area stays are dropped.
        keypoint_swap: for each keypoint the index of its mirror image, used where the move mirrors.

    Raises:
        InputError: the target cannot follow: fields in metres (cuboids, meshes), which a change of the picture alone
            would make wrong; a prediction; or a type that does not say how.
    """
    if not motion.moves:
        return target
    name = type(target).__name__
    raise InputError(
        f"{target.source or 'the target'} is a {name}, which does not say how it follows a flip, crop or turn of its "
        f"image; use colour augmentations only, make {name} a sightline.structures.WholeImage if it does not depend on "
        "them, or register it with sightline.data.transforms.follow"
    )


follow.register(Instances, move_objects)


@follow.register
def _(target: ClassMap, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None) -> ClassMap:
    if target.scores is not None:
        raise InputError("a class map with scores is a prediction; augmentations move targets, so leave scores out")
    return ClassMap(motion.pixels("labels", target.labels, IGNORE), target.classes, source=target.source)


@follow.register
def _(target: WholeImage, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None) -> WholeImage:
    return target.resized(motion.size)


@dataclass(frozen=True)
class Parts:
    """What of a target an augmentation of another library has to move along with the image.

    Attributes:
        points: by name, [N, …, 2] x, y in pixels; "corners" are those of boxes, from which the move of boxes is read.
        pixels: by name, [N, H, W] or [H, W], and the value beyond the image.
    """

    points: dict[str, Tensor] = field(default_factory=dict)
    pixels: dict[str, tuple[Tensor, int | bool]] = field(default_factory=dict)


@singledispatch
def parts_of(target: Any) -> Parts:
    """The parts of a target that `follow` asks its `Motion` for, by the same names.

    Of a type that does not say, the image's own corners: whether they move tells whether it had to follow.
    """
    height, width = target.image_size
    return Parts({"corners": corners_of(torch.tensor([[0.0, 0.0, width, height]]))})


@parts_of.register
def _(target: Instances) -> Parts:
    parts = Parts()
    if not len(target) or "boxes" not in target:
        return parts
    parts.points["corners"] = corners_of(target.boxes)
    for row, geometry, values in following(target):
        if geometry.raster:
            parts.pixels[row.name] = (values, False)
        elif row.name != "boxes" and (points := geometry.points(values, target.boxes)) is not None:
            parts.points[row.name] = points
    return parts


@parts_of.register
def _(target: ClassMap) -> Parts:
    return Parts(pixels={"labels": (target.labels, IGNORE)})


@parts_of.register
def _(target: WholeImage) -> Parts:
    return Parts()


def corners_of(boxes: Tensor) -> Tensor:
    """[N, 4, 2] float64, the corners of boxes [N, 4] xyxy, once clockwise on the screen from the top left."""
    return boxes.double()[:, [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(1, (4, 2))
