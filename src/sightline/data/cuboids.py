"""What a model of cuboids takes from its training data: mean sides of each class, depths, and the usual camera."""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.data.dataset import Dataset
from sightline.ops.cuboids import straightened

FIELD = "cuboids"


def cuboid_arguments(data: Any) -> dict[str, Any]:
    """The arguments of models of cuboids (`sightline.models.spatial.cube_rcnn.cube_rcnn`) that a dataset determines.

    Objects without a known cuboid, crowd regions and images without a camera are left out.

    Args:
        data: a dataset; anything else has none of these arguments.

    Returns:
        "class_sides": mean w, h, l of each class in metres (a class without cuboids has the mean of all objects);
        "virtual_depth": mean and standard deviation of the logarithm of the depth divided by the focal length in
        heights of the image; "assumed_focal": median of the focal lengths in heights of the image. Those that nothing
        is known about are missing.
    """
    column = data.columns.extra.get(FIELD) if isinstance(data, Dataset) else None
    if not isinstance(column, np.ndarray) or column.dtype.kind != "f":
        return {}
    columns = data.columns
    known = np.isfinite(column).all(1) & (column[:, 2:6] > 0).all(1) & ~columns.crowd
    found: dict[str, Any] = {}
    if known.any():
        of_all = column[known, 3:6].mean(0)
        rows = [known & (columns.labels == k) for k in range(len(data.classes))]
        means = [column[own, 3:6].mean(0) if own.any() else of_all for own in rows]
        found["class_sides"] = [[round(float(side), 4) for side in mean] for mean in means]
    focal = np.full(len(data), np.nan)
    for i in range(len(data)):
        camera = data.camera(i)
        if camera is not None:
            focal[i] = float(straightened(camera.intrinsics)[0][1, 1]) / data.image_size(i)[0]
    if np.isfinite(focal).any():
        found["assumed_focal"] = round(float(np.nanmedian(focal)), 4)
    depths = np.log(column[known, 2] / focal[columns.image_of[known]])
    depths = depths[np.isfinite(depths)]
    if len(depths) > 1 and depths.std() > 0:
        found["virtual_depth"] = (round(float(depths.mean()), 4), round(float(depths.std()), 4))
    return found
