"""Pictures of meshes, the shape that can be turned, and the report of meshes."""

from __future__ import annotations

import base64
import re
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.evaluation.meshes import MeshMeasure
from sightline.report.mesh_pictures import mesh_picture, paint_mesh, seen_by, seen_from, seen_in_box
from sightline.report.mesh_viewer import viewer, viewers
from sightline.report.meshes import MeshReport, classes
from sightline.structures.meshes import Mesh
from tests.ops.meshes.shapes import solid

RED = (200, 40, 30)


@lru_cache
def scenes():
    return sl.scenes(2, 160, seed=3, kind="meshes", objects=(1, 1)).with_fields("meshes", "masks")


def painted(picture: Image.Image, before: Image.Image) -> np.ndarray:
    return (np.asarray(picture).astype(int) != np.asarray(before).astype(int)).any(2)


def test_a_painted_mesh_covers_the_mask_of_its_object():
    for image, target in scenes():
        mesh, mask = Mesh.of(target.meshes[0]), target.masks[0].numpy()
        blank = Image.new("RGB", (160, 160))
        for seen in (
            seen_by(mesh, image.intrinsics.numpy()),
            seen_in_box(mesh, target.boxes[0].double().numpy()),  # no border cuts these objects
        ):
            picture = blank.copy()
            paint_mesh(picture, *seen, RED)
            covered = painted(picture, blank)
            assert (covered & mask).sum() / (covered | mask).sum() > 0.8


def test_a_mirrored_image_shows_the_same_sides():
    image, target = scenes()[0]
    mesh, matrix = Mesh.of(target.meshes[0]), image.intrinsics.numpy()
    straight, mirrored = Image.new("RGB", (160, 160)), Image.new("RGB", (160, 160))
    paint_mesh(straight, *seen_by(mesh, matrix), RED)
    paint_mesh(
        mirrored, *seen_by(mesh, np.diag([-1, 1, 1]) @ matrix + np.array([[0, 0, 160], [0, 0, 0], [0, 0, 0]])), RED
    )
    apart = np.abs(np.asarray(straight).astype(int)[:, ::-1] - np.asarray(mirrored))
    assert (apart.max(2) > 60).mean() < 0.01


def test_the_nearer_side_hides_the_farther_one():
    """A box seen from the front shows one brightness, that of its front."""
    vertices, faces, brightness = seen_from(solid(1), 60)
    front = np.flatnonzero(vertices[faces, 2].max(1) < vertices[:, 2].mean())
    picture = Image.new("RGB", (60, 60))
    paint_mesh(picture, vertices, faces, brightness, RED)
    middle = np.asarray(picture)[30, 30]
    assert middle.tolist() == [int(c * brightness[front[0]]) for c in RED]


def test_a_mesh_beside_the_picture_paints_nothing():
    picture = Image.new("RGB", (20, 20))
    paint_mesh(picture, np.array([[30.0, 1, 1], [40, 1, 1], [30, 9, 1]]), np.array([[0, 1, 2]]), np.ones(1), RED)
    assert not np.asarray(picture).any()
    assert mesh_picture(solid(0), RED, 40).size == (40, 40)


def test_the_viewer_holds_the_mesh():
    html = viewer(solid(3), RED, "a <cone>")
    assert "a &lt;cone&gt;" in html
    points, faces = (re.search(rf'data-{name}="([^"]+)"', html)[1] for name in ("points", "faces"))
    points = np.frombuffer(base64.b64decode(points), "<i2").reshape(-1, 3)
    vertices = solid(3).vertices.double().numpy()
    centred = vertices - (vertices.min(0) + vertices.max(0)) / 2
    assert np.abs(points / 30000 * np.linalg.norm(centred, axis=1).max() - centred).max() < 1e-4
    assert np.frombuffer(base64.b64decode(faces), "<u2").reshape(-1, 3).tolist() == solid(3).faces.tolist()
    page = viewers([html])
    assert page.count("<script>") == page.count("</script>") == 1
    assert "http" not in page
    assert viewers([]) == ""
    large = Mesh.unchecked(torch.rand(2**16, 3), torch.tensor([[0, 1, 2]]))
    assert "too many to show" in viewer(large, RED, "large")


@pytest.fixture(scope="module")
def evaluated():
    measure = MeshMeasure(sl.Classes(["sphere", "box", "cylinder", "cone", "ring"]), keep=True, points=200)
    for _, target in scenes():
        measure.add(target, target.replace(scores=torch.full((len(target),), 0.9)))
    return measure.result(["a.png", "b.png"])


def test_the_report_shows_metrics_classes_and_shapes(evaluated):
    report = MeshReport(evaluated.headline)
    values = evaluated.to_dict()
    text = classes(values)
    assert "F1@0.3" in text
    assert text.count("<tr>") == 6
    assert classes(None).startswith('<p class="none">')
    assert report.counts(values) == ("2 objects", "2 detections")
    assert "1.000" in report.parts()[0].make(values)
    image, _ = scenes()[0]
    shown = report.show(evaluated, 0, image, 200)
    assert [what for what, _ in shown.pictures] == ["labels", "prediction"]
    picture = shown.pictures[0][1]
    assert picture.width == 200 + 4 + picture.height // 2  # the shape alone is to the right of the image
    assert shown.more.count("<canvas") == 2
    assert shown.caption == "· F1@0.3 1.00"


def test_drawings_show_the_shape_over_the_image():
    image, target = scenes()[0]
    without = sl.Instances(target.image_size, classes=target.classes, boxes=target.boxes, labels=target.labels)
    shaped = sl.Instances(target.image_size, classes=target.classes, boxes=target.boxes, meshes=target.meshes)
    plain, wide = (sl.draw(image, own, names=False) for own in (without, shaped))
    drawn, alone = wide.crop((0, 0, *plain.size)), wide.crop((plain.width, 0, *wide.size))
    assert painted(drawn, plain)[target.masks[0].numpy()].mean() > 0.9
    red, green, blue = np.moveaxis(np.asarray(alone).astype(int), 2, 0)
    assert (abs(red - green) + abs(green - blue) > 30).mean() > 0.1  # the shape in its colour, on grey paper
