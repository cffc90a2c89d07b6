"""How a target follows the augmentation of its image: one function per operation, one registration per target type.

A user-defined type is supported by registering it, `@follow.register`. A type that describes the whole image,
independent of positions, only needs to be a `sightline.structures.WholeImage`. For all other types, colour changes
work, and geometric changes raise an error.
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
"""Mirror images of COCO's 17 person keypoints, by index (nose, then left and right alternating)."""


@singledispatch
def within_image(target: Any) -> Any:
    """Clip objects to their image: boxes are clipped, and objects entirely outside are removed.

    Keypoints beyond the border become absent (0, 0, 0). Areas shrink with their boxes, unless the object has a mask,
    which never extends beyond its image. Other types of targets, and targets inside the image, are returned unchanged.
    """
    return target


within_image.register(Instances, objects_within)


@singledispatch
def boxes_to_keep(target: Any) -> np.ndarray:
    """[N, 4] float64 xyxy of the boxes of objects that are not crowd regions; empty for types without objects.

    These are the boxes that a crop should keep.
    """
    return np.zeros((0, 4))


@boxes_to_keep.register
def _(target: Instances) -> np.ndarray:
    if "boxes" not in target or not len(target):
        return np.zeros((0, 4))
    boxes = target.boxes.detach().cpu().numpy().astype(np.float64)
    return boxes[~target.crowd.cpu().numpy()] if "crowd" in target else boxes


@singledispatch
def mirrors_wrongly(target: Any, keypoint_swap: tuple[int, ...] | None) -> bool:
    """Whether mirroring the image would swap left and right keypoints incorrectly, because their pairs are unknown."""
    return False


@mirrors_wrongly.register
def _(target: Instances, keypoint_swap: tuple[int, ...] | None) -> bool:
    if keypoint_swap is not None:
        return False
    # a single keypoint is its own mirror image
    return any(row.pairs and values.shape[1] > 1 for row, _, values in following(target))


@singledispatch
def follow(target: Any, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None) -> Any:
    """The target of a geometrically transformed image.

    Every field of `Instances` follows by its geometry (`sightline.structures.fields`). Boxes are clipped to the image.
    If an object has a mask and the image is rotated, or the border cuts the mask, its box is the bounding box of the
    remaining mask. Objects with less than `min_visible` of their area in the image, or thinner than a pixel, are
    dropped. Keypoints beyond the border become absent.

    Args:
        target: the target of the original image.
        motion: the geometric change.
        min_visible: objects are dropped if a smaller fraction of their area remains.
        keypoint_swap: for each keypoint the index of its mirror image, used if the change mirrors.

    Raises:
        InputError: the target cannot follow: it has fields in metres (cuboids, meshes) and the camera of its image does
            not follow, so that they would become wrong; it is a prediction; or its type does not define how.
    """
    if not motion.moves:
        return target
    name = type(target).__name__
    raise InputError(
        f"{target.source or 'the target'} is a {name}, which does not define how it follows a flip, crop or rotation "
        f"of its image; use only colour augmentations, make {name} a sightline.structures.WholeImage if it does not "
        "depend on them, or register it with sightline.data.transforms.follow"
    )


follow.register(Instances, move_objects)


@follow.register
def _(target: ClassMap, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None) -> ClassMap:
    if target.scores is not None:
        raise InputError("a class map with scores is a prediction; augmentations need targets, so leave scores out")
    return ClassMap(motion.pixels("labels", target.labels, IGNORE), target.classes, source=target.source)


@follow.register
def _(target: WholeImage, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None) -> WholeImage:
    return target.resized(motion.size)


@dataclass(frozen=True)
class Parts:
    """The parts of a target that an augmentation of another library must transform with the image.

    Attributes:
        points: by name, [N, …, 2] x, y in pixels; "corners" are those of boxes and define how boxes change.
        pixels: by name, [N, H, W] or [H, W], and the value beyond the image.
    """

    points: dict[str, Tensor] = field(default_factory=dict)
    pixels: dict[str, tuple[Tensor, int | bool]] = field(default_factory=dict)


@singledispatch
def parts_of(target: Any) -> Parts:
    """The parts of a target that `follow` requests from its `Motion`, by the same names.

    For a type that does not define them, the corners of the image, which show whether it had to follow.
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
    """[N, 4, 2] float64, the corners of boxes [N, 4] xyxy, clockwise in the image from the top left."""
    return boxes.double()[:, [0, 1, 2, 1, 2, 3, 0, 3]].unflatten(1, (4, 2))
