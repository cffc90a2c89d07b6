"""Cuboids: corners as the renderer defines them, changes of the camera, and IoU against independent oracles."""

import importlib.util
import math

import numpy as np
import pytest
import torch

from sightline.data.scenes import camera as scene_camera
from sightline.ops.cuboid_iou import bev_iou, cuboid_iou, intersection_volume, paired_cuboid_iou
from sightline.ops.cuboids import (
    EDGES,
    cuboid_corners,
    cuboid_parts,
    cuboids_from_parts,
    known_cuboids,
    moved_cuboids,
    project,
    straightened,
)


def some(n, seed=0, tilt=1.0):
    g = torch.Generator().manual_seed(seed)
    parts = [torch.randn(n, 3, generator=g) * 0.4, torch.rand(n, 3, generator=g) * 1.2 + 0.3]
    angles = (torch.rand(n, 3, generator=g) - 0.5) * torch.tensor([2 * tilt, 2 * tilt, 6.0])
    return torch.cat([*parts, angles], 1).double()


def test_corners_are_those_of_the_renderer():
    cuboids = some(20)
    assert cuboid_corners(cuboids).numpy() == pytest.approx(scene_camera.cuboid_corners(cuboids.numpy()), abs=1e-12)
    lengths = [(cuboid_corners(cuboids)[:, a] - cuboid_corners(cuboids)[:, b]).norm(dim=1) for a, b in EDGES]
    for k, side in enumerate((5, 4, 3)):  # four edges along l, h, w each
        for own in lengths[4 * k : 4 * k + 4]:
            assert own.numpy() == pytest.approx(cuboids[:, side].numpy())
    assert cuboids_from_parts(*cuboid_parts(cuboids)).numpy() == pytest.approx(cuboids.numpy())


def test_unknown_cuboids():
    cuboids = some(3)
    cuboids[1] = torch.nan
    assert known_cuboids(cuboids).tolist() == [True, False, True]
    assert cuboid_iou(cuboids, cuboids)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mirror", [1, -1])
def test_moved_cuboids_have_the_moved_corners(mirror):
    frame = torch.from_numpy(scene_camera.turn_z(0.7)) @ torch.diag(torch.tensor([mirror, 1.0, 1.0]).double())
    cuboids = some(9)
    moved = cuboid_corners(moved_cuboids(cuboids, frame))
    expected = cuboid_corners(cuboids) @ frame.T
    for found, corners in zip(moved, expected, strict=True):  # the same corners, in another order if mirrored
        assert (torch.cdist(found, corners).min(1).values < 1e-9).all()
        assert len(torch.cdist(found, corners).argmin(1).unique()) == 8


def test_straightened_cameras_see_the_same():
    plain = np.array([[50.0, 0.3, 20], [0, 40, 12], [0, 0, 1]])
    c, s = math.cos(0.4), math.sin(0.4)
    turn = np.array([[c, -s, 5], [s, c, -3], [0, 0, 1]])
    flip = np.array([[-1.0, 0, 40], [0, 1, 0], [0, 0, 1]])
    for change in (np.eye(3), turn, flip, turn @ flip, flip @ flip, np.diag([-1.0, -1, 1])):
        matrix = torch.from_numpy(change @ plain)
        intrinsics, frame = straightened(matrix)
        assert (intrinsics.diagonal() > 0).all()
        assert intrinsics[1, 0] == 0
        assert (intrinsics @ frame).numpy() == pytest.approx(matrix.numpy(), abs=1e-9)
        assert (frame @ frame.T).numpy() == pytest.approx(np.eye(3), abs=1e-12)
        assert frame[2].tolist() == [0, 0, 1]
    intrinsics, frame = straightened(torch.from_numpy(flip @ plain))
    assert intrinsics.diagonal().tolist() == pytest.approx([50, 40, 1])
    assert frame.diagonal().tolist() == [-1, 1, 1]
    points = torch.tensor([[0.1, 0.2, 3.0]]).double()
    assert project(points, torch.from_numpy(plain))[0].tolist() == pytest.approx([20 + (5 + 0.06) / 3, 12 + 8 / 3])


def sampled_volume(a, b, count=60_000):
    """The common volume by points drawn inside `a`, with its standard error."""
    centre, sides, rotation = (part.numpy() for part in cuboid_parts(a))
    points = (np.random.default_rng(0).random((count, 3)) - 0.5) * sides[::-1] @ rotation.T + centre
    centre, other, rotation = (part.numpy() for part in cuboid_parts(b))
    share = (np.abs((points - centre) @ rotation) <= other[::-1] / 2).all(1).mean()
    return share * sides.prod(), math.sqrt(share * (1 - share) / count) * sides.prod()


def test_the_common_volume_of_tilted_cuboids_is_that_of_sampled_points():
    a, b = some(16, 1), some(16, 2)
    found = intersection_volume(a, b)
    assert (found > 0.02).sum() > 8
    for one, other, volume in zip(a, b, found.tolist(), strict=True):
        sampled, error = sampled_volume(one, other)
        assert volume == pytest.approx(sampled, abs=5 * error + 1e-4)
    union = a[:, 3:6].prod(1) + b[:, 3:6].prod(1) - found
    assert paired_cuboid_iou(a, b).tolist() == pytest.approx((found / union).tolist())
    assert cuboid_iou(a, b).diagonal().tolist() == pytest.approx(paired_cuboid_iou(a, b).tolist())
    assert cuboid_iou(b, a).T.numpy() == pytest.approx(cuboid_iou(a, b).numpy(), abs=1e-6)


def polygon_area(a, b):
    """The common area of two rectangles (corners [4, 2] in order) by clipping one with each side of the other."""
    turn = np.cross(b[1] - b[0], b[2] - b[1])
    for p, q in zip(b, np.roll(b, -1, 0), strict=True):
        side = [float(np.cross(q - p, x - p) * np.sign(turn)) for x in a]
        kept = []
        for k in range(len(a)):
            x, y, s, t = a[k - 1], a[k], side[k - 1], side[k]
            if s * t < 0:
                kept.append(x + (y - x) * s / (s - t))
            if t >= 0:
                kept.append(y)
        a = kept
        if not a:
            return 0.0
    x, y = np.array(a).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def ground(cuboids):
    """The corners [N, 4, 2] of the cuboids' rectangles in x and z, in order."""
    return cuboid_corners(cuboids)[:, [0, 1, 5, 4]][..., [0, 2]].numpy()


def test_iou_of_cuboids_that_turn_about_the_vertical_is_that_of_clipped_polygons():
    a, b = some(12, 3, tilt=0), some(12, 4, tilt=0)
    areas = [polygon_area(list(one), other) for one, other in zip(ground(a), ground(b), strict=True)]
    if importlib.util.find_spec("shapely"):
        from shapely.geometry import Polygon

        shapes = [Polygon(p).intersection(Polygon(q)).area for p, q in zip(ground(a), ground(b), strict=True)]
        assert areas == pytest.approx(shapes)
    top = torch.maximum(a[:, 1] - a[:, 4] / 2, b[:, 1] - b[:, 4] / 2)
    bottom = torch.minimum(a[:, 1] + a[:, 4] / 2, b[:, 1] + b[:, 4] / 2)
    heights = (bottom - top).clamp(min=0).numpy()
    assert intersection_volume(a, b).numpy() == pytest.approx(np.array(areas) * heights, abs=1e-6)
    union = (a[:, 3] * a[:, 5] + b[:, 3] * b[:, 5]).numpy() - areas
    assert bev_iou(a, b).diagonal().numpy() == pytest.approx(areas / union, abs=1e-6)


def test_cuboids_that_share_planes():
    a = some(40)
    assert (paired_cuboid_iou(a, a) - 1).abs().max() < 1e-6
    half = a.clone()
    half[:, 3:6] /= 2
    assert (paired_cuboid_iou(a, half) - 1 / 8).abs().max() < 1e-6
    # moved by half of its length along its length: 1/2 of it is common
    moved = a.clone()
    moved[:, :3] += cuboid_parts(a)[2][..., 0] * a[:, 5:6] / 2
    assert (paired_cuboid_iou(a, moved) - 1 / 3).abs().max() < 1e-6
    beside = a.clone()
    beside[:, :3] += cuboid_parts(a)[2][..., 0] * a[:, 5:6]
    assert intersection_volume(a, beside).abs().max() < 1e-6
    # turned by a quarter, with length and width exchanged, it is the same box
    quarter = torch.from_numpy(scene_camera.turn_y(math.pi / 2))
    centres, sides, rotations = cuboid_parts(a)
    same = cuboids_from_parts(centres, sides[:, [2, 1, 0]], rotations @ quarter)
    assert (paired_cuboid_iou(a, same) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("angle", [1e-3, 1e-5, 1e-7, 3e-8, 1e-8, 3e-9, 1e-10, 1e-13])
def test_almost_parallel_planes(angle):
    a = some(20)
    b = a.clone()
    b[:, 6:] += angle
    assert (1 - paired_cuboid_iou(a, b)).abs().max() < 8 * angle + 1e-6


def test_a_cube_turned_by_an_eighth():
    cube = torch.tensor([[0.0, 0, 5, 1, 1, 1, 0, 0, 0], [0, 0, 5, 1, 1, 1, 0, 0, math.pi / 4]])
    octagon = 2 * (math.sqrt(2) - 1)
    assert float(cuboid_iou(cube[:1], cube[1:])) == pytest.approx(octagon / (2 - octagon), abs=1e-6)
    assert float(bev_iou(cube[:1], cube[1:])) == pytest.approx(octagon / (2 - octagon), abs=1e-6)
    higher = cube[1:].clone()
    higher[:, 1] += 0.5
    assert float(cuboid_iou(cube[:1], higher)) == pytest.approx(octagon / 2 / (2 - octagon / 2), abs=1e-6)
    assert float(bev_iou(cube[:1], higher)) == pytest.approx(octagon / (2 - octagon), abs=1e-6)


def test_empty_and_far():
    assert cuboid_iou(torch.zeros(0, 9), some(2)).shape == (0, 2)
    far = some(2)
    far[:, 0] += 50
    assert cuboid_iou(some(2), far).abs().max() == 0
