"""Anchors from a data set's boxes: the clustering, the report, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.anchors import anchors, relative_shapes
from sightline.data.dataset import Dataset
from sightline.data.scenes import write_scenes
from sightline.errors import InputError
from sightline.ops.anchor_clusters import cluster_shapes, shape_iou
from sightline.structures import Classes, Instances
from tests.test_cli import done, refused

CENTRES = torch.tensor([[0.05, 0.1], [0.3, 0.1], [0.2, 0.6], [0.8, 0.7]])


def blobs(count: int = 50) -> torch.Tensor:
    noise = torch.empty(len(CENTRES), count, 2).uniform_(0.95, 1.05, generator=torch.Generator().manual_seed(3))
    return (CENTRES[:, None] * noise).flatten(0, 1)


def dataset(shapes: list[tuple[float, float]], size: tuple[int, int] = (100, 200)):
    classes = Classes(["a"])
    boxes = [[0.0, 0.0, w, h] for w, h in shapes]
    picture = torch.zeros(3, *size, dtype=torch.uint8)
    target = Instances(size, classes=classes, boxes=torch.tensor(boxes).reshape(-1, 4), labels=[0] * len(boxes))
    return Dataset.from_instances([picture], [target], classes)


def test_iou_of_shapes_is_that_of_concentric_boxes() -> None:
    a, b = torch.rand(5, 2).double(), torch.rand(4, 2).double()
    for i, (w, h) in enumerate(a.tolist()):
        for j, (v, g) in enumerate(b.tolist()):
            inner = min(w, v) * min(h, g)
            assert float(shape_iou(a, b)[i, j]) == pytest.approx(inner / (w * h + v * g - inner))
    assert shape_iou(torch.zeros(1, 2), torch.zeros(1, 2)) == 0


def test_constructed_clusters_are_found() -> None:
    found = cluster_shapes(blobs(), 4)
    order = CENTRES.prod(1).argsort()
    torch.testing.assert_close(found.shapes, CENTRES[order], rtol=0.02, atol=0)
    assert torch.bincount(found.assigned).tolist() == [50] * 4
    assert found.ious.mean() > 0.93
    again = cluster_shapes(blobs(), 4)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_more_clusters_fit_better_and_one_is_the_best_of_its_steps() -> None:
    shapes = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    means = [float(cluster_shapes(shapes, k).ious.mean()) for k in (1, 2, 4, 8)]
    assert means == sorted(means)
    plain = shape_iou(shapes, shapes.mean(0, keepdim=True)).mean()  # where k-means with one centre ends
    assert means[0] >= float(plain) - 1e-6


def test_the_distinct_shapes_themselves_and_many_copies() -> None:
    shapes = torch.tensor([[1.0, 2.0]] * 30 + [[3.0, 1.0]] + [[5.0, 5.0]] * 2)
    found = cluster_shapes(shapes, 3)
    assert found.shapes.tolist() == [[1, 2], [3, 1], [5, 5]]
    assert found.ious.tolist() == [1.0] * 33
    with pytest.raises(InputError, match="k is 4, but there are 3 distinct shapes"):
        cluster_shapes(shapes, 4)
    with pytest.raises(InputError, match="above 0"):
        cluster_shapes(torch.zeros(3, 2), 1)


def test_boxes_count_in_units_of_their_image() -> None:
    data = dataset([(20, 50), (100, 10), (300, 50), (0, 9)])  # the third leaves the image, the fourth has no area
    assert relative_shapes(data).tolist() == [[0.1, 0.5], [0.5, 0.1], [1.0, 0.5]]
    report = anchors(data, 3, image_size=320)
    np.testing.assert_allclose(report.pixels, [[32, 160], [160, 32], [320, 160]], rtol=1e-5)
    assert report.cells() == [[1.0, 5.0], [5.0, 1.0], [10.0, 5.0]]
    assert report.shares.tolist() == pytest.approx([1 / 3] * 3)
    assert report.mean_iou == pytest.approx(1)
    assert len(report.by_k) == 3
    text = str(report)
    assert "3 anchors for 3 boxes, at 320×320 pixels" in text
    assert "32.0   160.0    0.100  0.500    33.3 %" in text


def test_data_without_boxes_or_of_too_few_is_refused() -> None:
    with pytest.raises(InputError, match="no boxes to compute anchors from"):
        anchors(dataset([]))
    with pytest.raises(InputError, match="k is 5, but the boxes have only 2 distinct shapes"):
        anchors(dataset([(20, 50), (100, 10), (100, 10)]))
    with pytest.raises(InputError, match="k is 0"):
        anchors(dataset([(20, 50)]), 0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Usage: sightline anchors" in done("anchors", "--help").out
    write_scenes("data", train=6, val=2, test=0, size=64, progress=False)
    outcome = done("anchors", "data", "-k", 3, "--image-size", 160)
    assert "3 anchors for " in outcome.out
    assert "mean IoU between a box and its nearest anchor: 0." in outcome.out
    assert "picture: anchors.png\nfor YOLO v2: --arg image_size=160 --arg 'anchors=[[" in outcome.out
    with Image.open("anchors.png") as picture:
        assert min(picture.size) > 400
    assert done("anchors", "data", "-k", 3, "--image-size", 160, "-o", "b.png").out.split("picture")[0] in outcome.out
    assert "anchors.png exists, and nothing is overwritten" in refused("anchors", "data")
    assert "a plot cannot be written as .txt" in refused("anchors", "data", "-o", "a.txt")
    assert "shapes; give a k of at most " in refused("anchors", "data", "-k", 5000, "-o", "c.png")
    assert "there is no nowhere" in refused("anchors", "nowhere", "-o", "c.png")
