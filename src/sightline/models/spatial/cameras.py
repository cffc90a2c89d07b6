"""Cameras of the images of a batch: those that are known, and an assumed one for the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from sightline.structures import Camera, ImageBatch, Instances, Size

log = logging.getLogger("sightline")


def assumed_camera(size: Size, focal: float) -> Camera:
    """The camera assumed for an image of `size` (height, width), with a focal length of `focal` heights."""
    height, width = size
    f = focal * height
    matrix = torch.tensor([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Camera(matrix, assumed=True)


def warn_of_assumed(focal: float, effect: str) -> None:
    """Log that a focal length of `focal` heights of the image is assumed, with the effect on the results."""
    log.warning(
        "images without a camera: a focal length of %.3g heights of the image is assumed, so that %s; "
        "give --camera, in Python camera= or sl.View(image, intrinsics)",
        focal,
        effect,
    )


def with_all_cameras(batch: ImageBatch, focal: float, effect: str, told: bool) -> ImageBatch:
    """A batch in which every image has a camera.

    Args:
        batch: the batch.
        focal: focal length of the assumed camera, in heights of the image.
        effect: what is wrong in the results if another camera took the images, for the warning.
        told: whether a warning has already been logged.
    """
    known = list(batch.cameras) or [None] * len(batch)
    if None not in known:
        return batch
    if not told:
        warn_of_assumed(focal, effect)
    cameras = [
        camera or assumed_camera(size, focal).resized(size, inside)
        for camera, size, inside in zip(known, batch.original_sizes, batch.sizes, strict=True)
    ]
    return replace(batch, cameras=cameras)


def in_original_pixels(results: Sequence[Instances], batch: ImageBatch) -> list[Instances]:
    """The results with "cameras" [N, 3, 3], the intrinsics of their image in its own pixels."""
    found = []
    for result, camera, (sx, sy) in zip(results, batch.require_cameras(), batch.scales, strict=True):
        matrix = torch.diag(torch.tensor([1 / sx, 1 / sy, 1], dtype=torch.float64)) @ camera.intrinsics.cpu()
        found.append(result.replace(cameras=matrix.to(result.boxes).expand(len(result), 3, 3)))
    return found
