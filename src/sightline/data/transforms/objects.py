"""How objects follow the geometric change of their image: which are kept, and each field by its geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.motion import Motion
from sightline.errors import InputError
from sightline.ops.geometry import following
from sightline.structures import Instances

_LEAST = 1e-3  # minimum side of a clipped box, in pixels


def visible_share(boxes: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fraction of each box that is inside a window.

    Args:
        boxes: [N, 4] xyxy.
        windows: [K, 4] xyxy.

    Returns:
        the fraction [K, N] of the box's area inside the window (0 for boxes without area), and width and height of the
        visible part, [K, N] pixels each.
    """
    low = np.maximum(boxes[:, :2], windows[:, None, :2])
    high = np.minimum(boxes[:, 2:], windows[:, None, 2:])
    width, height = np.moveaxis((high - low).clip(0), -1, 0)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return width * height / np.maximum(area, 1e-12), width, height


def objects_within(target: Instances) -> Instances:
    """Objects clipped to their image; see `targets.within_image`."""
    if "boxes" not in target or not len(target):
        return target
    size = height, width = target.image_size
    boxes = target.boxes
    corners = boxes.detach().cpu().numpy()
    inside = corners.min() >= 0 and (corners.max(0)[2:] <= (width, height)).all()  # NumPy takes a third of torch's time
    changed: dict[str, Any] = {}
    for row, geometry, values in following(target):
        if (clipped := geometry.clipped(values, size)) is not values:
            changed[row.name] = clipped
    if inside:
        return target.replace(**changed) if changed else target
    clipped = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
    over = (clipped != boxes).any(1)
    before, after = (b[:, 2:] - b[:, :2] for b in (boxes, clipped))
    share = (after.prod(1) / before.prod(1).clamp(min=1e-12)).clamp(0, 1)
    share = torch.where(over & ~_outlined(target), share, torch.ones_like(share))
    for row, geometry, values in following(target):
        if (cut := geometry.cut(values, share)) is not values:
            changed[row.name] = cut
    target = target.replace(**{**changed, "boxes": clipped})
    # a sliver that remains of a box beyond a rounded border is not an object either
    seen = ~over | ((clipped[:, 2:] - clipped[:, :2]) > _LEAST).all(1)
    return target if bool(seen.all()) else target[seen]


def boxes_of(target: Instances, with_camera: bool = False) -> np.ndarray:
    """[N, 4] float64 boxes of a target that can follow a change of geometry.

    Args:
        target: the target.
        with_camera: whether the camera of the image follows the change.

    Raises:
        InputError: it has no boxes; or fields in metres (cuboids, meshes), and the camera does not follow.
    """
    for row, geometry, values in following(target):
        if geometry.in_scene and len(values) and not with_camera:
            raise InputError(
                f"{target.source or 'the target'} has {row.name}, which are in metres and cannot follow a flip, crop "
                "or rotation of an image without a camera; use only colour augmentations, or give the camera"
            )
    if "boxes" not in target:
        raise InputError(f"{target.source or 'the target'} has no boxes, which geometric augmentations need; add them")
    return target.boxes.detach().cpu().numpy().astype(np.float64)


def move_objects(
    target: Instances, motion: Motion, min_visible: float, keypoint_swap: tuple[int, ...] | None
) -> Instances:
    """The objects in the resulting image, clipped to it, without those that are not visible; see `targets.follow`."""
    moved, growth, turned = motion.boxes(boxes_of(target, motion.with_camera))
    size = height, width = motion.size
    fields = target.fields
    rasters: dict[str, bool] = {}  # whether they outline the object
    for row, geometry, values in following(target):
        if geometry.raster:
            rasters[row.name] = row.outline
            del fields[row.name]
        elif row.name != "boxes" and (points := geometry.points(values, target.boxes)) is not None:
            fields[row.name] = geometry.moved(values, motion.points(row.name, points), size)
            if row.pairs and motion.mirrored and keypoint_swap is not None:
                fields[row.name] = _exchanged(fields[row.name], keypoint_swap)
    shares, widths, heights = visible_share(moved, np.array([[0.0, 0.0, width, height]]))
    near = (widths[0] >= 1) & (heights[0] >= 1)
    rows = torch.from_numpy(near)
    placed = Instances.unchecked(size, classes=target.classes, source=target.source, **fields)[rows]
    moved, share, growth = moved[near], shares[0, near], growth[near]
    boxes = np.minimum(moved.clip(0), [width, height, width, height])
    keep = np.ones(len(boxes), dtype=bool)
    changed: dict[str, Any] = {}
    for name, outlines in rasters.items():
        before = target.fields[name]
        after = changed[name] = motion.pixels(name, before, rows=rows)  # only visible rows: this is expensive
        if outlines:
            counts, left = _counts(before[rows]), _counts(after)
            drawn = counts > 0  # for an object without a mask, the box is used
            share[drawn] = (left[drawn] / np.maximum(counts[drawn] * growth[drawn], 1e-12)).clip(0, 1)
            tight = drawn & (left > 0) & (turned | (boxes != moved).any(1))
            boxes[tight] = _tight_boxes(after[torch.from_numpy(tight)])
            keep &= ~drawn | (left > 0)
    crowd = placed.crowd.numpy() if "crowd" in placed else np.zeros(len(boxes), dtype=bool)
    keep &= ((share >= min_visible) | crowd) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    factor = torch.from_numpy(share * growth)
    for row, geometry, values in following(placed):
        if (cut := geometry.cut(values, factor)) is not values:
            changed[row.name] = cut
    placed = placed.replace(**{**changed, "boxes": torch.from_numpy(boxes).to(target.boxes.dtype)})
    return placed if keep.all() else placed[torch.from_numpy(keep)]


def _outlined(target: Instances) -> Tensor:
    """[N] bool: whether the object has a mask, which never extends beyond its image."""
    outlined = torch.zeros(len(target), dtype=torch.bool, device=target.boxes.device)
    for row, _, values in following(target):
        if row.outline:
            outlined |= values.flatten(1).any(1)
    return outlined


def _exchanged(points: Tensor, swap: tuple[int, ...]) -> Tensor:
    if len(swap) != points.shape[1]:
        raise InputError(
            f"keypoint_swap has {len(swap)} entries, but the objects have {points.shape[1]} keypoints; they must agree"
        )
    return points[:, list(swap)]


def _counts(masks: Tensor) -> np.ndarray:
    """float64 [N]: the number of pixels of each of the masks [N, H, W]."""
    # For one mask at a time, NumPy counts bool ten times as fast as along an axis.
    return np.array([np.count_nonzero(mask) for mask in masks.numpy()], dtype=np.float64)


def _tight_boxes(masks: Tensor) -> np.ndarray:
    """[N, 4] float64 bounding boxes of non-empty masks [N, H, W]."""
    columns, rows = (np.asarray(masks.numpy().any(axis)) for axis in (1, 2))
    x1, y1 = columns.argmax(1), rows.argmax(1)
    x2 = columns.shape[1] - columns[:, ::-1].argmax(1)
    y2 = rows.shape[1] - rows[:, ::-1].argmax(1)
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float64)
