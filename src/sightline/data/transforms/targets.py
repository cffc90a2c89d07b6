"""Boxes, keypoints, masks and class maps through the matrix that moves their image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.resample import warp_labels
from sightline.errors import InputError
from sightline.structures import IGNORE, ClassMap, ClassScores, Instances, Size, Target

PERSON_SWAP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's 17 keypoints of a person: which one each becomes in a mirror (nose, then left and right in turn)."""

_LEAST = 1e-3  # pixels of a clipped box


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The tight boxes [N, 4] around the corners of `boxes` [N, 4] xyxy after the affine `matrix`; not clipped."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2
    centres = centres @ matrix[:2, :2].T + matrix[:2, 2]
    halves = halves @ np.abs(matrix[:2, :2]).T  # an affine image of a box is a parallelogram, centred where the box was
    return np.concatenate([centres - halves, centres + halves], axis=1)


def visible_share(boxes: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much of each box a window shows.

    Args:
        boxes: [N, 4] xyxy.
        windows: [K, 4] xyxy.

    Returns:
        share [K, N] of the box's area inside the window (0 for boxes without area), and the visible part's width and
        height, [K, N] pixels each.
    """
    low = np.maximum(boxes[:, :2], windows[:, None, :2])
    high = np.minimum(boxes[:, 2:], windows[:, None, 2:])
    width, height = np.moveaxis((high - low).clip(0), -1, 0)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return width * height / np.maximum(area, 1e-12), width, height


def within_image(target: Target) -> Target:
    """The objects as far as they lie in their image: boxes clipped to it, and objects wholly outside it left out.

    Keypoints beyond the border become absent (0, 0, 0), and an area shrinks with its box, unless the object has a mask,
    which never leaves its image. Other kinds of target, and targets that lie inside, come back as they are.
    """
    if not isinstance(target, Instances) or "boxes" not in target or not len(target):
        return target
    height, width = target.image_size
    boxes = target.boxes
    corners = boxes.detach().cpu().numpy()
    if "keypoints" not in target and corners.min() >= 0 and (corners.max(0)[2:] <= (width, height)).all():
        return target  # as nearly always: NumPy says so in a third of torch's time
    clipped = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
    changed: dict[str, Any] = {}
    over = (clipped != boxes).any(1)
    if bool(over.any()):
        changed["boxes"] = clipped
        if "areas" in target:
            before, after = (b[:, 2:] - b[:, :2] for b in (boxes, clipped))
            share = (after.prod(1) / before.prod(1).clamp(min=1e-12)).clamp(0, 1)
            drawn = target.masks.flatten(1).any(1) if "masks" in target else torch.zeros_like(over)
            changed["areas"] = torch.where(over & ~drawn, target.areas * share.to(target.areas.dtype), target.areas)
    if "keypoints" in target:
        points = target.keypoints
        inside = (points[..., :2] >= 0).all(-1) & (points[..., 0] < width) & (points[..., 1] < height)
        if not bool((inside | (points[..., 2] <= 0)).all()):
            changed["keypoints"] = points * inside[..., None]
    if not changed:
        return target
    target = target.replace(**changed)
    # what a rounded border leaves of a box beyond it is no object either
    seen = ~over | ((clipped[:, 2:] - clipped[:, :2]) > _LEAST).all(1)
    return target if bool(seen.all()) else target[seen]


def warp_target(
    target: Target, matrix: np.ndarray, size: Size, min_visible: float, keypoint_swap: tuple[int, ...] | None
) -> Target:
    """The target of an image moved by `matrix` (source pixels → output pixels) into an image of `size`.

    Boxes are clipped to the image; where an object has a mask, and the matrix turns or the border cuts it, its box is
    the tight one of the mask that is left. Objects with less than `min_visible` of their area in the image, or thinner
    than a pixel, are dropped. Keypoints beyond the border become absent.

    Raises:
        InputError: fields in metres (cuboids, meshes), which a change of the picture alone would make wrong.
    """
    if isinstance(target, ClassMap):
        if target.scores is not None:
            raise InputError("a class map with scores is a prediction; augmentations move targets, so leave scores out")
        labels = warp_labels(target.labels, matrix, size, IGNORE)
        return ClassMap(labels, target.classes, source=target.source)
    if isinstance(target, ClassScores):
        return ClassScores(size, target.label, target.scores, target.classes, target.source)
    return _warp_instances(target, matrix, size, min_visible, keypoint_swap)


def _warp_instances(
    target: Instances, matrix: np.ndarray, size: Size, min_visible: float, keypoint_swap: tuple[int, ...] | None
) -> Instances:
    moved = transform_boxes(boxes_of(target), matrix)
    determinant = float(np.linalg.det(matrix[:2, :2]))
    keypoints = None
    if "keypoints" in target:
        affine = torch.from_numpy(np.ascontiguousarray(matrix[:2])).to(target.keypoints.dtype)
        places = target.keypoints[..., :2] @ affine[:, :2].T + affine[:, 2]
        keypoints = move_keypoints(target.keypoints, places, size, keypoint_swap if determinant < 0 else None)
    return place_instances(
        target,
        moved,
        size,
        min_visible,
        growth=np.full(len(target), abs(determinant)),
        turned=abs(matrix[0, 1]) + abs(matrix[1, 0]) > 1e-9,
        move_masks=lambda rows: warp_labels(target.masks[rows], matrix, size, False),
        keypoints=keypoints,
    )


def boxes_of(target: Instances) -> np.ndarray:
    """[N, 4] float64 boxes of a target that a change of geometry can move.

    Raises:
        InputError: it has no boxes, or fields in metres (cuboids, meshes).
    """
    for name in ("cuboids", "meshes"):
        if name in target and len(target):
            raise InputError(
                f"{target.source or 'the target'} has {name}, which are in metres and cannot follow a flip, crop or "
                "turn of the picture alone; use colour augmentations only"
            )
    if "boxes" not in target:
        raise InputError(f"{target.source or 'the target'} has no boxes, which geometric augmentations need; add them")
    return target.boxes.detach().cpu().numpy().astype(np.float64)


def place_instances(
    target: Instances,
    moved: np.ndarray,
    size: Size,
    min_visible: float,
    *,
    growth: np.ndarray,
    turned: bool,
    move_masks: Callable[[Tensor], Tensor],
    keypoints: Tensor | None,
) -> Instances:
    """The objects of `target` in a picture of `size`, clipped to it, without those that are out of sight.

    Args:
        moved: [N, 4] float64, the boxes in the new picture, not clipped.
        growth: [N] by how much each object's area was multiplied.
        turned: the move was not axis-aligned, so boxes are loose and those of masks are tighter.
        move_masks: gives the masks of chosen objects ([N] bool) in the new picture.
        keypoints: [N, P, 3] in the new picture, where there are any.
    """
    height, width = size
    shares, widths, heights = visible_share(moved, np.array([[0.0, 0.0, width, height]]))
    near = (widths[0] >= 1) & (heights[0] >= 1)
    rows = torch.from_numpy(near)
    fields = target.fields
    masks = fields.pop("masks", None)
    if keypoints is not None:
        fields["keypoints"] = keypoints
    placed = Instances.unchecked(size, classes=target.classes, source=target.source, **fields)[rows]
    moved, share, growth = moved[near], shares[0, near], growth[near]
    boxes = np.minimum(moved.clip(0), [width, height, width, height])
    keep = np.ones(len(boxes), dtype=bool)
    changed: dict[str, Any] = {}
    if masks is not None:
        before = _counts(masks[rows])
        masks = changed["masks"] = move_masks(rows)  # only of what can be seen: masks are the costly part
        after = _counts(masks)
        drawn = before > 0  # an object without a mask goes by its box
        share[drawn] = (after[drawn] / np.maximum(before[drawn] * growth[drawn], 1e-12)).clip(0, 1)
        tight = drawn & (after > 0) & (turned | (boxes != moved).any(1))
        boxes[tight] = _tight_boxes(masks[torch.from_numpy(tight)])
        keep = ~drawn | (after > 0)
    crowd = placed.crowd.numpy() if "crowd" in placed else np.zeros(len(boxes), dtype=bool)
    keep &= ((share >= min_visible) | crowd) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    changed["boxes"] = torch.from_numpy(boxes).to(target.boxes.dtype)
    if "areas" in placed:
        changed["areas"] = placed.areas * torch.from_numpy(share * growth).to(placed.areas.dtype)
    placed = placed.replace(**changed)
    return placed if keep.all() else placed[torch.from_numpy(keep)]


def _counts(masks: Tensor) -> np.ndarray:
    """float64 [N]: how many pixels each of the masks [N, H, W] has."""
    # One mask at a time NumPy counts bytes of bool ten times as fast as along an axis.
    return np.array([np.count_nonzero(mask) for mask in masks.numpy()], dtype=np.float64)


def _tight_boxes(masks: Tensor) -> np.ndarray:
    """[N, 4] float64 outer boxes of non-empty masks [N, H, W]."""
    columns, rows = (np.asarray(masks.numpy().any(axis)) for axis in (1, 2))
    x1, y1 = columns.argmax(1), rows.argmax(1)
    x2 = columns.shape[1] - columns[:, ::-1].argmax(1)
    y2 = rows.shape[1] - rows[:, ::-1].argmax(1)
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float64)


def move_keypoints(keypoints: Tensor, places: Tensor, size: Size, swap: tuple[int, ...] | None = None) -> Tensor:
    """Keypoints [N, P, 3] moved to `places` [N, P, 2] and exchanged by `swap`; those beyond the image are (0, 0, 0)."""
    inside = (places >= 0).all(-1) & (places[..., 0] < size[1]) & (places[..., 1] < size[0])
    there = inside & (keypoints[..., 2] > 0)
    moved = torch.cat([places.to(keypoints.dtype), keypoints[..., 2:]], dim=-1) * there[..., None]
    if swap is None:
        return moved
    if len(swap) != keypoints.shape[1]:
        raise InputError(
            f"keypoint_swap has {len(swap)} entries, but the objects have {keypoints.shape[1]} keypoints; give one each"
        )
    return moved[:, list(swap)]
