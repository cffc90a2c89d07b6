"""Metrics of meshes against values worked by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from sightline.errors import InputError
from sightline.evaluation.meshes import MeshMeasure, at_true_depth, compare_meshes
from sightline.structures import Classes, Instances
from sightline.structures.meshes import Mesh
from tests.ops.meshes.shapes import solid

CLASSES = Classes(["cone", "box"])


def square(z: float, side: float = 1.0, tilt: float = 0.0) -> Mesh:
    """A square facing the camera at depth z; `tilt` is the angle by which it is turned about its left side."""
    c, s = math.cos(tilt), math.sin(tilt)
    corners = [[0, 0, z], [side * c, 0, z + side * s], [side * c, side, z + side * s], [0, side, z]]
    return Mesh(torch.tensor(corners), [[0, 1, 2], [0, 2, 3]])


def test_a_mesh_compared_with_itself_is_perfect():
    scores = compare_meshes(solid(4), solid(4), points=500)
    assert scores.f1 == (1, 1, 1)
    assert scores.chamfer == pytest.approx(0, abs=1e-8)
    assert scores.normal_consistency == pytest.approx(1)


def test_parallel_squares_by_hand():
    """A square of side 2 and a copy 0.08 behind it. Scaled by 10 / 2, they are 0.4 apart, and so is every point."""
    scores = compare_meshes(square(3.08, 2.0), square(3.0, 2.0), points=2000)
    assert scores.f1 == (0, 0, 1)
    assert scores.chamfer == pytest.approx(2 * 0.4**2, rel=1e-3)  # the same points are drawn on both
    assert scores.normal_consistency == pytest.approx(1, abs=1e-6)


def test_half_a_square_by_hand():
    """Half of the points of the square are those of its half; the others are up to 5 away from it."""
    half = Mesh(torch.tensor([[0.0, 0, 3], [0.5, 0, 3], [0.5, 1, 3], [0, 1, 3]]), square(3).faces)
    scores = compare_meshes(half, square(3), points=4000)
    near = 0.5 + 0.5 / 10  # recall at 0.5: the half, and a strip of 0.5 beside it, of a side of 10
    assert scores.f1[2] == pytest.approx(2 * near / (1 + near), abs=0.02)
    assert scores.chamfer == pytest.approx(0.5 * 25 / 3, rel=0.1)  # the mean of d² from 0 to 5, for half of the points


def test_normals_of_a_tilted_square():
    scores = compare_meshes(square(3, tilt=math.pi / 3), square(3), points=300)
    assert scores.normal_consistency == pytest.approx(0.5, abs=1e-5)


def test_a_prediction_is_placed_at_the_true_depth():
    found = at_true_depth(solid(1, centre=4.0), solid(1, centre=8.0))
    low, high = found.bounds
    assert float(low[2] + high[2]) / 2 == pytest.approx(8)
    assert found.vertices[0].tolist() == pytest.approx((2 * solid(1, centre=4.0).vertices[0]).tolist())
    stated = at_true_depth(solid(1, centre=4.0), solid(1, centre=8.0), depth=2.0)
    assert stated.vertices[0].tolist() == pytest.approx((4 * solid(1, centre=4.0).vertices[0]).tolist())


def image(boxes, labels, meshes, scores=None, **more):
    fields = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.int64)}
    if scores is not None:
        fields["scores"] = torch.tensor(scores)
    return Instances((100, 100), classes=CLASSES, **fields, meshes=meshes, **more)


def test_objects_and_detections_of_two_images_by_hand():
    """Cone: found with its own shape, and once more. Box: found in the second image, with a bad shape and class."""
    measure = MeshMeasure(CLASSES, keep=True, points=400)
    own, other = solid(3, centre=5.0), solid(1, centre=5.0)
    near, far = [10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]
    measure.add(
        image([near], [0], [own]),
        image([near, near, far], [0, 0, 0], [own, own, own], [0.9, 0.8, 0.95]),
    )
    wrong = Mesh(other.vertices * torch.tensor([2.0, 2.0, 1.0]), other.faces)
    measure.add(
        image([near, far], [1, 1], [other, other]),
        image([near], [0], [wrong], [0.7], depths=torch.tensor([5.0])),
    )
    result = measure.result(["a", "b"])
    metrics = result.metrics
    # cone: false (0.95), right (0.9), duplicate (0.8), false (0.7): precision 1/2 at recall 1; box: none right
    assert result.per_class["cone"]["AP_mesh"] == pytest.approx(0.5)
    assert result.per_class["box"]["AP_mesh"] == 0
    assert metrics["AP_mesh"] == pytest.approx(0.25)
    assert metrics["found"] == pytest.approx(2 / 3)  # the cone, and the box that another class found
    assert result.object_f1[0] == 1
    assert result.object_f1[1] < 0.3
    assert result.object_f1[2] == 0
    assert metrics["F1@0.3"] == pytest.approx(result.object_f1.mean())
    assert result.per_class["box"]["F1@0.3"] == pytest.approx(result.object_f1[1:].mean())
    assert metrics["depth_error"] == pytest.approx(0, abs=1e-6)
    assert result.worst_first().tolist() == [1, 0]
    assert result.threshold == pytest.approx(0.9)
    assert [len(prediction) for prediction in result.predictions] == [3, 1]
    low, high = result.intervals()["F1@0.3"]
    assert low <= metrics["F1@0.3"] <= high
    again = json.loads(json.dumps(result.to_dict()))
    assert (again["objects"], again["detections"], len(again["object_f1"])) == (3, 4, 3)
    assert "F1@0.3" in str(result)


def test_labels_against_themselves_score_one():
    measure = MeshMeasure(CLASSES, points=300)
    target = image([[10.0, 10.0, 50.0, 50.0]], [1], [solid(1, centre=5.0)])
    measure.add(target, target)
    metrics = measure.result().metrics
    perfect = ("F1@0.1", "F1@0.3", "F1@0.5", "AP_mesh", "normal_consistency", "found", "box_AP50")
    assert [metrics[name] for name in perfect] == pytest.approx([1] * len(perfect))
    assert measure.result().reasons["cone/F1@0.3"] == "no object of 'cone' in these labels"


def test_images_without_objects_and_without_meshes():
    measure = MeshMeasure(CLASSES)
    with pytest.raises(InputError, match="no images to evaluate"):
        measure.result()
    empty = Instances((100, 100), classes=CLASSES)
    measure.add(empty, empty)
    result = measure.result()
    assert result.metrics["F1@0.3"] is None
    assert result.reasons["AP_mesh"] == "there are no objects in these labels"
    assert result.intervals() == {}
    plain = Instances((100, 100), classes=CLASSES, boxes=[[1.0, 1, 9, 9]], labels=[0], source="a.png")
    with pytest.raises(InputError, match=r"a\.png has no meshes to evaluate"):
        measure.add(plain, empty)


@pytest.mark.parametrize(("factor", "right"), [(1.02, 1.0), (1.085, 0.0)])
def test_a_mesh_is_right_from_an_f1_of_a_half_on(factor, right):
    """A box and a larger one: 8.5 % more is 0.21 at the nearest sides, 46 % of the surface, and above 0.3 elsewhere."""
    true, place = solid(1, centre=5.0), [[10.0, 10.0, 50.0, 50.0]]
    found = Mesh((true.vertices - 5) * factor + 5, true.faces)
    f1 = compare_meshes(found, true, points=2000).f1[1]
    assert (f1 > 0.5) == bool(right)
    assert f1 > 0.15
    measure = MeshMeasure(CLASSES, points=2000)
    measure.add(image(place, [1], [true]), image(place, [1], [found], [0.9], depths=torch.tensor([5.0])))
    assert measure.result().metrics["AP_mesh"] == right
