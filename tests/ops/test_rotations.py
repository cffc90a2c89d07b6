"""Rotations against SciPy-free arithmetic: products of three elementary rotations, and what each form promises."""

import math

import pytest
import torch

from sightline.data.scenes.camera import turn_x, turn_y, turn_z
from sightline.ops.rotations import (
    angles_from_rotation,
    rotation_from_6d,
    rotation_from_angles,
    rotation_to_6d,
    view_rotation,
)

ANGLES = torch.tensor([[0.3, -1.2, 2.9], [-3.0, 0.4, -0.7], [0.0, 1.5, 0.0], [0, 0, math.pi]], dtype=torch.float64)


def test_angles_are_turns_about_y_x_and_z():
    for angles, found in zip(ANGLES.tolist(), rotation_from_angles(ANGLES), strict=True):
        roll, pitch, yaw = angles
        assert found.numpy() == pytest.approx(turn_y(yaw) @ turn_x(pitch) @ turn_z(roll), abs=1e-11)
    assert angles_from_rotation(rotation_from_angles(ANGLES)).numpy() == pytest.approx(ANGLES.numpy(), abs=1e-9)


def test_six_numbers_give_any_rotation_and_only_rotations():
    rotation = rotation_from_angles(ANGLES)
    assert rotation_from_6d(rotation_to_6d(rotation)).numpy() == pytest.approx(rotation.numpy(), abs=1e-12)
    any_six = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = rotation_from_6d(any_six)
    assert (found @ found.mT - torch.eye(3)).abs().max() < 1e-12
    assert (torch.linalg.det(found) - 1).abs().max() < 1e-12
    first = any_six[:, :3] / any_six[:, :3].norm(dim=1, keepdim=True)
    assert found[..., 0].numpy() == pytest.approx(first.numpy())
    # scale and a share of the first direction in the second do not matter
    other = torch.cat([3 * any_six[:, :3], 0.5 * any_six[:, 3:] - 2 * any_six[:, :3]], 1)
    assert rotation_from_6d(other).numpy() == pytest.approx(found.numpy(), abs=1e-9)


def test_the_optical_axis_turns_to_the_point_by_the_shortest_way():
    points = torch.tensor([[0.0, 0, 2], [1, 0, 1], [-0.3, 0.8, 2.0], [2, -3, 0.1]], dtype=torch.float64)
    turns = view_rotation(points)
    axis = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    assert (turns @ axis).numpy() == pytest.approx((points / points.norm(dim=1, keepdim=True)).numpy())
    assert turns[0].numpy() == pytest.approx(torch.eye(3).numpy())
    assert turns[1].numpy() == pytest.approx(turn_y(math.pi / 4), abs=1e-11)
    angle = ((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).acos()
    assert angle.numpy() == pytest.approx((points[:, 2] / points.norm(dim=1)).acos().numpy())
