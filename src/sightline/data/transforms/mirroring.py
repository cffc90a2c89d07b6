"""Mirroring and keypoints: a mirrored left eye is a right eye, so pairs of keypoints are swapped with their image.

The pairs are those of the data (`Dataset.keypoint_swap`), which augmentations obtain when they are bound to it, or are
given as `keypoint_swap`. If they are unknown, images whose objects have keypoints are not mirrored in any direction: a
vertical flip is a mirroring, too. Rotations are not, so a rotation by 180° is allowed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.structures import Size


def unmirrored(step: np.ndarray, size: Size) -> np.ndarray:
    """An affine step [3, 3] into an image of `size`, without the mirroring it may contain.

    The image is mirrored once more along the axis that is closer to no change, so that a flip becomes the identity.
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


def swap_for(own: tuple[int, ...] | None, data: Any) -> tuple[int, ...] | None:
    """The keypoint pairs of an augmentation: its own, else those of the data."""
    return own if own is not None else getattr(data, "keypoint_swap", None)
