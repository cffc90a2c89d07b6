"""Cuboids: boxes in 3-D with nine numbers, their corners, and how they follow a change of the camera frame.

A cuboid has nine values in the last dimension: x, y, z of its centre, width w, height h and length l in metres, and
roll, pitch, yaw in radians, in the camera frame (x to the right, y down, z forwards). An unrotated cuboid has its
length along x, its height along y and its width along z; the rotation is R = R_y(yaw) · R_x(pitch) · R_z(roll), as in
`sightline.data.scenes.camera.cuboid_corners`. Functions support all float dtypes and devices.

An object whose cuboid is unknown has NaN in all nine values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.ops.rotations import angles_from_rotation, rotation_from_angles

EDGES = ((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7))
"""Pairs of corners, as `corners_of` numbers them, that an edge connects: four along the length, height and width."""


def known_cuboids(cuboids: Tensor) -> Tensor:
    """[...] bool: whether each cuboid [..., 9] is known."""
    return ~cuboids.isnan().any(-1)


def cuboid_parts(cuboids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cuboids [..., 9] → centres [..., 3], sides (w, h, l) [..., 3], rotations [..., 3, 3]."""
    return cuboids[..., :3], cuboids[..., 3:6], rotation_from_angles(cuboids[..., 6:])


def cuboids_from_parts(centres: Tensor, sides: Tensor, rotations: Tensor) -> Tensor:
    """The inverse of `cuboid_parts`."""
    return torch.cat([centres, sides, angles_from_rotation(rotations)], -1)


def corners_of(centres: Tensor, sides: Tensor, rotations: Tensor) -> Tensor:
    """The eight corners of cuboids, in metres.

    Args:
        centres: [..., 3].
        sides: [..., 3] w, h, l.
        rotations: [..., 3, 3].

    Returns:
        [..., 8, 3]. The bits of the corner index give the signs (0: −1, 1: +1): bit 0 for l, bit 1 for h (1: the lower
        side), bit 2 for w.
    """
    local = _signs(centres) * sides[..., None, [2, 1, 0]] / 2
    return local @ rotations.transpose(-1, -2) + centres[..., None, :]


def cuboid_corners(cuboids: Tensor) -> Tensor:
    """The corners of cuboids [..., 9] → [..., 8, 3]; see `corners_of`."""
    return corners_of(*cuboid_parts(cuboids))


def moved_cuboids(cuboids: Tensor, frames: Tensor) -> Tensor:
    """Cuboids in another frame that is rotated or mirrored.

    A mirrored cuboid is a cuboid again, because it is symmetric to its middle planes.

    Args:
        cuboids: [..., 9].
        frames: [..., 3, 3] orthogonal matrices from the old frame to the new one.
    """
    centres, sides, rotations = cuboid_parts(cuboids)
    turned = frames @ rotations
    # a third column with the other sign makes a mirrored rotation a rotation, and turns the cuboid onto itself
    sign = torch.linalg.det(frames).sign()[..., None, None]
    turned = torch.cat([turned[..., :2], turned[..., 2:] * sign], -1)
    return cuboids_from_parts((frames @ centres[..., None])[..., 0], sides, turned)


def project(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels [..., 2] of points [..., 3] in front of a camera with this [3, 3] matrix; see `structures.view.Camera`."""
    seen = points @ intrinsics.transpose(-1, -2).to(points)
    return seen[..., :2] / seen[..., 2:]


def straightened(intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Split a camera matrix into one with positive focal lengths and a rotation or mirror of the camera frame.

    The image of a camera may have been mirrored or rotated, so that its intrinsics K are not upper triangular or have a
    negative focal length. With K = K' · G, the image is that of an ordinary camera K' in the frame G · x, in which
    objects are turned and mirrored as they appear.

    Args:
        intrinsics: [..., 3, 3] float, whose last row is (0, 0, 1).

    Returns:
        K' [..., 3, 3], upper triangular with a positive diagonal; G [..., 3, 3], orthogonal, which keeps z.
    """
    a, b, c, d = (intrinsics[..., i, j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    # RQ decomposition of the 2 × 2 part: its last row is the focal length times the last row of G
    fy = torch.hypot(c, d)
    sine, cosine = c / fy, d / fy
    fx, skew = a * cosine - b * sine, a * sine + b * cosine
    sign = fx.sign()
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    cx, cy = intrinsics[..., 0, 2], intrinsics[..., 1, 2]
    frame = _matrix([sign * cosine, -sign * sine, zero, sine, cosine, zero, zero, zero, one])
    return _matrix([fx.abs(), skew, cx, zero, fy, cy, zero, zero, one]), frame


def _matrix(entries: list[Tensor]) -> Tensor:
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def _signs(like: Tensor) -> Tensor:
    """[8, 3] signs of the corners along l, h, w."""
    bits = torch.arange(8, device=like.device)[:, None] >> torch.arange(3, device=like.device) & 1
    return 2 * bits.to(like.dtype) - 1
