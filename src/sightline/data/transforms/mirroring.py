"""Mirroring and keypoints: a mirrored left eye is a right eye, so pairs of points change places with their image.

Which points are pairs is known of the data (`Dataset.keypoint_swap`) and reaches augmentations when they are bound to
it, or is given to them as `keypoint_swap`. Where it is not known, images whose objects have keypoints are not mirrored,
in no direction: a vertical flip is a mirroring, too. Turns are none, so a half turn stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.structures import Size


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


def swap_for(own: tuple[int, ...] | None, data: Any) -> tuple[int, ...] | None:
    """An augmentation's pairs of keypoints: its own, else those of the data."""
    return own if own is not None else getattr(data, "keypoint_swap", None)
