"""Cameras that a user gives for images without labels."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sightline.deploy.sources import Item
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.runtime import reading
from sightline.structures import Camera, Size
from sightline.structures.view import require_intrinsics

GivenCamera = str | os.PathLike[str] | Mapping[str, Any] | Any
"""What `with_given_cameras` takes as a camera."""
_FOCAL = "focal="


def with_given_cameras(items: list[Item], camera: GivenCamera | None, model: Model) -> list[Item]:
    """The images with the camera that the user gives, in place of their own, if any.

    Args:
        items: the images.
        camera: one camera for all images: "focal=900", a focal length in pixels, with the principal point at the centre
            of the image; or a [3, 3] matrix as in `sightline.structures.view.Camera`, an array or {"matrix": …}, or a
            JSON file with either. Or one for each image, {"a.png": {"matrix": …}, …}, or a JSON file with it: names are
            file names or the last parts of paths. None changes nothing.
        model: the model that predicts them.

    Raises:
        InputError: the model does not use cameras, the file cannot be read, a matrix is not that of a camera, or an
            image is not named.
    """
    if camera is None:
        return items
    if not model.takes_cameras:
        raise InputError(f"{model.title} does not use the cameras of images; leave camera out")
    if isinstance(camera, str) and camera.startswith(_FOCAL):
        seen = _with_focal_length(camera)
        return [replace(item, camera=seen) for item in items]
    what, values = "camera", camera
    if isinstance(camera, str | os.PathLike):
        what, values = os.fspath(camera), _read(Path(camera))
    if isinstance(values, Mapping) and "matrix" not in values:
        known = {str(name): _matrix(own, f"{what}: {name}") for name, own in values.items()}
        return [replace(item, camera=_of_image(item, known, what)) for item in items]
    everywhere = _constant(_matrix(values, what))
    return [replace(item, camera=everywhere) for item in items]


def _with_focal_length(text: str) -> Callable[[Size], Camera]:
    try:
        focal = float(text.removeprefix(_FOCAL))
    except ValueError:
        focal = math.nan
    if not 0 < focal < math.inf:
        raise InputError(f"camera is {text!r}, but must be a focal length above 0 in pixels, such as focal=900")

    def seen(size: Size) -> Camera:
        matrix = [[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]]
        return Camera(torch.tensor(matrix, dtype=torch.float64))

    return seen


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(
            f"camera is {os.fspath(path)!r}, but there is no such file; give a JSON file with a matrix, or a focal "
            "length in pixels such as focal=900"
        )
    reading.require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a JSON file with cameras ({error}); correct it") from None


def _matrix(values: Any, what: str) -> Camera:
    if isinstance(values, Camera):
        return values
    if isinstance(values, Mapping):
        if "matrix" not in values:
            raise InputError(f'{what}: there is no "matrix"; add the [3, 3] matrix from camera to pixels')
        values = values["matrix"]
    return Camera(require_intrinsics(values, what))


def _constant(camera: Camera) -> Callable[[Size], Camera]:
    return lambda size: camera


def _of_image(item: Item, known: Mapping[str, Camera], what: str) -> Callable[[Size], Camera]:
    parts = Path(item.name or "").parts
    for start in range(len(parts)):  # the whole path first
        if (name := "/".join(parts[start:])) in known:
            return _constant(known[name])
    raise InputError(f"{what}: there is no camera of {item.name or 'the image'}; add it, or leave the image out")
