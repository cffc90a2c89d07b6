"""Mirroring and keypoints: a mirrored left eye is a right eye, so pairs of points change places with their image.

Which points are pairs is known of the data (`Dataset.keypoint_swap`) and reaches augmentations when they are bound to
it, or is given to them as `keypoint_swap`. Where it is not known, images whose objects have keypoints are not mirrored,
in no direction: a vertical flip is a mirroring, too. Turns are none, so a half turn stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.structures import Instances, Size, Target


def mirrors_wrongly(target: Target, keypoint_swap: tuple[int, ...] | None) -> bool:
    """Whether a mirrored image would have its left and right keypoints exchanged, for want of their pairs."""
    return (
        keypoint_swap is None
        and isinstance(target, Instances)
        and "keypoints" in target
        and target.keypoints.shape[1] > 1  # a single point is its own mirror image
    )


def unmirrored(step: np.ndarray, size: Size) -> np.ndarray:
    """An affine step [3, 3] into a picture of `size` without the mirroring it may contain.

    The picture is mirrored once more, along the axis that comes nearer to no change: a flip becomes no flip.
    """
    (a, b), (c, d) = step[:2, :2].tolist()
    if a * d - b * c >= 0:
        return step
    horizontal = d - a >= a - d
    back = np.diag([-1.0, 1.0, 1.0] if horizontal else [1.0, -1.0, 1.0])
    if horizontal:
        back[0, 2] = size[1]
    else:
        back[1, 2] = size[0]
    return back @ step


def may_mirror(augmentation: Any) -> bool:
    """Whether an augmentation of this library, or one inside it, mirrors images."""
    inside = [*getattr(augmentation, "pieces", ())]
    if isinstance(getattr(augmentation, "p", 1.0), int | float) and not getattr(augmentation, "p", 1.0) > 0:
        return False
    if type(augmentation).__name__ in ("HorizontalFlip", "VerticalFlip"):
        return True
    if getattr(augmentation, "flip", 0) or getattr(augmentation, "vertical_flip", 0):
        return True
    inner = getattr(augmentation, "augmentation", None)
    return any(may_mirror(piece) for piece in (*inside, *([] if inner is None else [inner])))


def swap_for(own: tuple[int, ...] | None, data: Any) -> tuple[int, ...] | None:
    """An augmentation's pairs of keypoints: its own, else those of the data."""
    return own if own is not None else getattr(data, "keypoint_swap", None)
