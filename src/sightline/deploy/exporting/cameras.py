"""The cameras of images for exported models that take them, and what the results say about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.models.spatial.cameras import assumed_camera
from sightline.ops.cuboids import moved_cuboids, straightened
from sightline.structures import Camera, Instances, camera_of

TAKEN = "[N, 3, 3] float32, intrinsics in pixels of the images, upper triangular with a positive diagonal"
"""What files that take cameras take besides images."""


def cameras_of(images: Sequence[Tensor], focal: float) -> list[Camera]:
    """The camera of each image [C, H, W]; images without one have an assumed one of `focal` heights of the image."""
    return [camera_of(image) or assumed_camera((image.shape[-2], image.shape[-1]), focal) for image in images]


def as_input(cameras: Sequence[Camera]) -> Tensor:
    """The intrinsics that the file takes: [N, 3, 3] float32, upper triangular with a positive diagonal.

    A camera whose image was mirrored or rotated is straightened: its cuboids are then found as they appear.
    """
    return straightened(torch.stack([camera.intrinsics.cpu() for camera in cameras]))[0].float()


def seen_by(result: Instances, camera: Camera) -> Instances:
    """The objects of an image with cuboids in the frame of its camera, from those in the straightened frame."""
    frame, boxes = straightened(camera.intrinsics.cpu())[1], result.boxes
    fields: dict[str, Any] = {
        "cuboids": moved_cuboids(result.cuboids, frame.mT.to(result.cuboids)),
        "cameras": camera.intrinsics.to(boxes).expand(len(result), 3, 3),
    }
    if camera.assumed:
        fields["camera_guess"] = torch.ones(len(result), dtype=torch.bool, device=boxes.device)
    return result.replace(**fields)
