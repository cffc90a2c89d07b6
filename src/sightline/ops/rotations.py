"""Rotations in 3-D as matrices: from and to angles, the continuous 6-D form, and relative to the direction of a view.

Frame: that of a camera, x to the right, y down, z forwards. Matrices map column vectors and support all float dtypes
and devices.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def rotation_from_angles(angles: Tensor) -> Tensor:
    """R = R_y(yaw) · R_x(pitch) · R_z(roll), as for cuboids (`sightline.ops.cuboids`).

    Args:
        angles: [..., 3] roll, pitch, yaw in radians.

    Returns:
        [..., 3, 3].
    """
    (cr, cp, cy), (sr, sp, sy) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = [
        torch.stack([cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp], -1),
        torch.stack([cp * sr, cp * cr, -sp], -1),
        torch.stack([cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp], -1),
    ]
    return torch.stack(rows, -2)


def angles_from_rotation(rotation: Tensor) -> Tensor:
    """The inverse of `rotation_from_angles`: [..., 3, 3] → roll, pitch, yaw [..., 3] in radians.

    Pitch is in [−π/2, π/2], roll and yaw in (−π, π].
    """
    pitch = torch.asin((-rotation[..., 1, 2]).clamp(-1, 1))
    roll = torch.atan2(rotation[..., 1, 0], rotation[..., 1, 1])
    yaw = torch.atan2(rotation[..., 0, 2], rotation[..., 2, 2])
    return torch.stack([roll, pitch, yaw], -1)


def rotation_from_6d(values: Tensor) -> Tensor:
    """Rotations from six numbers, by Gram–Schmidt: [..., 6] → [..., 3, 3].

    Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019, equation 15: the first
    three numbers are the direction of the first column; the part of the other three that is perpendicular to it is the
    direction of the second column.
    """
    first = F.normalize(values[..., :3], dim=-1)
    other = values[..., 3:]
    second = F.normalize(other - (first * other).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def rotation_to_6d(rotation: Tensor) -> Tensor:
    """The first two columns of a rotation: [..., 3, 3] → [..., 6]."""
    return torch.cat([rotation[..., 0], rotation[..., 1]], -1)


def view_rotation(points: Tensor) -> Tensor:
    """The rotation that turns the optical axis towards points, about the axis perpendicular to both.

    With R = V · A, where V is the rotation towards an object's centre, the allocentric rotation A describes how the
    object appears: it does not change when the object moves on a sphere around the camera and looks the same. (Kundu,
    Li, Rehg, "3D-RCNN", CVPR 2018, section 3.1.)

    Args:
        points: [..., 3] in the camera frame, not on the negative z axis.

    Returns:
        [..., 3, 3] V with V · (0, 0, 1) in the direction of the point.
    """
    x, y, z = F.normalize(points, dim=-1).unbind(-1)
    # Rodrigues' formula for the axis (−y, x, 0) and the angle whose cosine is z
    k = 1 / (1 + z).clamp(min=1e-8)
    rows = [
        torch.stack([1 - k * x * x, -k * x * y, x], -1),
        torch.stack([-k * x * y, 1 - k * y * y, y], -1),
        torch.stack([-x, -y, z], -1),
    ]
    return torch.stack(rows, -2)
