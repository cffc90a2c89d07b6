"""The pinhole camera and rotations: projecting points, outlines, and cuboids with nine parameters.

Camera frame: metres, x to the right, y down, z forward. Pixels: x to the right, y down; (0, 0) is the outer corner of
the top-left pixel, so the centre of the pixel in row i and column j is (j + 0.5, i + 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sightline.data.scenes.shapes import Shape


def cos_sin(angle: float) -> tuple[float, float]:
    """Cosine and sine, rounded to twelve digits: maths libraries differ in the last digits, but images must not."""
    return round(math.cos(angle), 12), round(math.sin(angle), 12)


def turn_x(angle: float) -> np.ndarray:
    """[3, 3] rotation by `angle` (radians) about x."""
    c, s = cos_sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(angle: float) -> np.ndarray:
    """[3, 3] rotation by `angle` (radians) about y."""
    c, s = cos_sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(angle: float) -> np.ndarray:
    """[3, 3] rotation by `angle` (radians) about z."""
    c, s = cos_sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[3] cross product (NumPy's is slow for single vectors)."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with square pixels.

    Attributes:
        size: (height, width) of the image in pixels.
        focal: focal length in pixels.
        rotation: [3, 3] float64 R of x_camera = R · x_world + t.
        position: [3] float64, position of the camera in the world, in metres.
    """

    size: tuple[int, int]
    focal: float
    rotation: np.ndarray
    position: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """[3, 3] float64 K: K · (x, y, z) in the camera frame, divided by its third component, is in pixels."""
        height, width = self.size
        return np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]])

    @cached_property
    def translation(self) -> np.ndarray:
        """[3] float64 t of x_camera = R · x_world + t, in metres."""
        return -self.rotation @ self.position

    @property
    def extrinsics(self) -> np.ndarray:
        """[3, 4] float64, [R | t]: from homogeneous world points to the camera frame."""
        return np.column_stack([self.rotation, self.translation])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Transform world points [..., 3] to the camera frame [..., 3], float64."""
        return (np.asarray(points, np.float64) - self.position) @ self.rotation.T

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Project points [..., 3] in the camera frame (z > 0) to pixels [..., 2], float64."""
        points = np.asarray(points, np.float64)
        height, width = self.size
        return points[..., :2] / points[..., 2:] * self.focal + np.array([width / 2, height / 2])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points [..., 3] to pixels [..., 2], float64."""
        return self.to_pixels(self.to_camera(points))


def outline_box(shape: Shape, rotation: np.ndarray, centre: np.ndarray, camera: Camera) -> list[float]:
    """The bounding box x1, y1, x2, y2 in pixels of a solid's outline, including hidden and cut-off parts.

    Each side is a plane through the camera that touches the solid. Starting at the centre, the point farthest beyond
    the current plane gives the next one. For convex hulls this iteration never overshoots and converges like Newton's.

    Args:
        shape: the solid.
        rotation: [3, 3], from the solid's frame to the world.
        centre: [3], centre of the solid in the world.
        camera: the camera; the solid must be entirely in front of it.
    """
    (a, b, c), (d, e, f), (g, h, i) = (camera.rotation @ rotation).tolist()
    cx, cy, cz = camera.to_camera(centre).tolist()
    bounds = []
    for sign in (-1.0, 1.0):
        for x, y, start in ((sign, 0.0, cx / cz), (0.0, sign, cy / cz)):
            value = start
            for _ in range(12):
                z = -sign * value
                px, py, pz = shape.support(a * x + d * y + g * z, b * x + e * y + h * z, c * x + f * y + i * z)
                depth = cz + g * px + h * py + i * pz
                across = cx + a * px + b * py + c * pz if x else cy + d * px + e * py + f * pz
                value, before = across / depth, value
                if abs(value - before) < 1e-7:
                    break
            bounds.append(value)
    height, width = camera.size
    return [value * camera.focal + middle / 2 for value, middle in zip(bounds, (width, height) * 2, strict=True)]


def cuboid_of(shape: Shape, rotation: np.ndarray, centre: np.ndarray, camera: Camera) -> np.ndarray:
    """The bounding cuboid as nine parameters, as used by `cuboid_corners`.

    The height h is the side closest to vertical in the world, and the yaw is in (−π/2, π/2]: a cuboid rotated by π is
    the same cuboid, so the parameters are unique.

    Returns:
        [9] float64: x, y, z, w, h, l (metres), roll, pitch, yaw (radians) in the camera frame.
    """
    up = int(np.argmax(abs(rotation[2])))
    down = -rotation[:, up] * np.sign(rotation[2, up])
    along = rotation[:, (up + 1) % 3]
    across = cross(along, down)
    half = shape.half
    turned = camera.rotation @ np.column_stack([along, down, across])
    if turned[2, 2] < 0 or (turned[2, 2] == 0 and turned[0, 2] < 0):
        turned = turned * np.array([-1.0, 1.0, -1.0])
    roll = math.atan2(turned[1, 0], turned[1, 1])
    pitch = math.asin(max(-1.0, min(1.0, -turned[1, 2])))
    yaw = math.atan2(turned[0, 2], turned[2, 2])
    width, height, length = 2 * half[(up + 2) % 3], 2 * half[up], 2 * half[(up + 1) % 3]
    return np.array([*camera.to_camera(centre), width, height, length, roll, pitch, yaw])


def cuboid_corners(cuboids: np.ndarray) -> np.ndarray:
    """The eight corners of cuboids with nine parameters.

    As in KITTI and Omni3D, an unrotated cuboid has its length l along the camera's x, its height h along y and its
    width w along z; the rotation is R = R_y(yaw) · R_x(pitch) · R_z(roll). With roll and pitch 0, yaw is KITTI's
    rotation_y. Unlike in KITTI, x, y, z is the centre of the cuboid and not of its bottom face.

    Args:
        cuboids: [..., 9] x, y, z, w, h, l in metres and roll, pitch, yaw in radians, in the camera frame.

    Returns:
        [..., 8, 3] float64 corners in the camera frame. The bits of the corner index k give the signs (0: −1, 1: +1):
        bit 0 for l, bit 1 for h (1: the lower side), bit 2 for w.
    """
    cuboids = np.asarray(cuboids, np.float64)
    signs = np.array([[1 if k >> bit & 1 else -1 for bit in range(3)] for k in range(8)])
    local = signs * cuboids[..., None, [5, 4, 3]] / 2
    (cr, cp, cy), (sr, sp, sy) = (np.moveaxis(f(cuboids[..., 6:]), -1, 0) for f in (np.cos, np.sin))
    x, y, z = np.moveaxis(local, -1, 0)
    x, y = cr[..., None] * x - sr[..., None] * y, sr[..., None] * x + cr[..., None] * y
    y, z = cp[..., None] * y - sp[..., None] * z, sp[..., None] * y + cp[..., None] * z
    x, z = cy[..., None] * x + sy[..., None] * z, cy[..., None] * z - sy[..., None] * x
    return np.stack([x, y, z], -1) + cuboids[..., None, :3]
