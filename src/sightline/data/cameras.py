"""The cameras of a dataset's images: intrinsics and depth maps, read only for labels that are in scene coordinates.

Readers store what they know about a camera in the extra data of its image (`Columns.image_extra`), under "camera":

    {"matrix": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "depth_file_name": "depth/000001.png", "depth_scale": 0.001}

The matrix is that of `sightline.structures.view.Camera`, for the upright image; the depth map is optional. It is a grey
image with one depth per pixel in units of `depth_scale` metres (by default 0.001, millimetres), 0 where it is unknown.
Its path is relative to the dataset's folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.data.images import read_depth
from sightline.data.source import Source
from sightline.errors import InputError
from sightline.ops.geometry import geometry_of
from sightline.structures import Camera, Size, camera_of
from sightline.structures.fields import FIELDS
from sightline.structures.view import require_intrinsics

KEY = "camera"
"""The key of a camera in the extra data of its image."""
_MILLIMETRES = 0.001


def needs_cameras(fields: Sequence[str]) -> bool:
    """Whether one of these fields of targets is in scene coordinates, so that images are needed with their cameras."""
    return any(name in FIELDS and geometry_of(FIELDS[name]).in_scene for name in fields)


def stated_camera(source: Source, row: int) -> Camera | None:
    """The camera of image `row` without its depth map; None if it is unknown.

    Raises:
        InputError: the camera has no matrix, or the matrix is not that of a camera; the message names the image.
    """
    if source.images is not None and (known := camera_of(source.images[row])) is not None:
        return known
    facts = _facts(source, row)
    if facts is None:
        return None
    name = source.columns.names.text(row)
    if "matrix" not in facts:
        raise InputError(f'{name}: its "camera" has no "matrix"; add the [3, 3] matrix from camera to pixels')
    return Camera(require_intrinsics(facts["matrix"], f"{name}: the matrix of its camera"))


def read_camera(source: Source, row: int, size: Size) -> Camera | None:
    """The camera of image `row`, of `size`, with its depth map if it has one; None if the camera is unknown.

    Raises:
        InputError: as for `stated_camera`; or the depth map cannot be read, or has another size than the image.
    """
    camera, facts = stated_camera(source, row), _facts(source, row)
    if camera is None or camera.depth is not None or facts is None or not facts.get("depth_file_name"):
        return camera
    name, scale = source.columns.names.text(row), facts.get("depth_scale", _MILLIMETRES)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise InputError(
            f"{name}: the depth_scale of its camera is {scale!r}, but must be metres above 0, such as 0.001"
        )
    path = depth_path(source, row)
    assert path is not None, "the camera has a depth map"
    depth = read_depth(path)
    if tuple(depth.shape) != tuple(size):
        (height, width), (tall, wide) = size, depth.shape
        raise InputError(
            f"the depth map {path} has {wide} × {tall} pixels, but its image {name} has {width} × {height}; they must "
            "be of equal size"
        )
    return Camera(camera.intrinsics, depth, float(scale))


def depth_path(source: Source, row: int) -> Path | None:
    """The file with the depth map of image `row`; None if it has none.

    The path in the labels is relative to the folder of the dataset, which is below the root of several datasets that
    were joined: it is looked for in the folders above the image, the nearest first.
    """
    facts = _facts(source, row)
    stated = None if facts is None else facts.get("depth_file_name")
    if not stated:
        return None
    if not isinstance(stated, str):
        name = source.columns.names.text(row)
        raise InputError(f"{name}: the depth_file_name of its camera is {stated!r}, but must be a path; correct it")
    root = source.root or Path()
    image = root / source.columns.names.text(row)
    above = [folder for folder in image.parents if folder.is_relative_to(root)]
    return next((folder / stated for folder in above if (folder / stated).is_file()), root / stated)


def _facts(source: Source, row: int) -> dict[str, Any] | None:
    """What the extra data of image `row` says about its camera."""
    extra = source.columns.image_extra
    entry = extra[row] if extra is not None else b""
    if b'"camera"' not in entry:
        return None
    facts = json.loads(entry).get(KEY)
    if facts is not None and not isinstance(facts, dict):
        name = source.columns.names.text(row)
        raise InputError(f'{name}: its "camera" is {str(facts)[:60]}, but must be an object with a "matrix"')
    return facts
