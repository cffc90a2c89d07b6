"""Cameras of the images of a batch: those that are known, and an assumed one for the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from sightline.models.spatial.cube_rcnn import assumed_camera
from sightline.structures import ImageBatch, Instances

log = logging.getLogger("sightline")


def with_all_cameras(batch: ImageBatch, focal: float, told: bool) -> ImageBatch:
    """A batch in which every image has a camera.

    Args:
        batch: the batch.
        focal: focal length of the assumed camera, in heights of the image.
        told: whether a warning has already been logged.
    """
    known = list(batch.cameras) or [None] * len(batch)
    if None not in known:
        return batch
    if not told:
        log.warning(
            "images without a camera: a focal length of %.3g heights of the image is assumed, so that shapes are a "
            "little too deep or too flat; give --camera, in Python camera= or sl.View(image, intrinsics)",
            focal,
        )
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
