"""The latent space of images and of objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sightline as sl
from sightline.explain.latent import latent_space, reduce
from sightline.structures import Instances
from tests.explain.small import SmallClassifier, labelled

pytest.importorskip("sklearn")


def test_features_are_means_of_the_map_and_classes_those_of_the_data() -> None:
    model, data = SmallClassifier(), labelled(7)
    found = latent_space(model, data, "second", batch_size=3, progress=False)
    with torch.no_grad():
        batch, _ = model.prepare([data.image(i) for i in range(7)], None)
        expected = model.second(model.first(batch.tensor)).mean((2, 3)).numpy()
    np.testing.assert_allclose(found.features, expected, rtol=1e-5)
    assert found.boxes is None
    assert [found.class_name(i) for i in range(3)] == ["red", "blue", "red"]
    assert found.names == [data.name(i) for i in range(7)]


def test_principal_components_are_those_of_the_singular_value_decomposition() -> None:
    features = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32) * np.float32([5, 3, 1, 1, 1])
    points, shares = reduce(features, "pca")
    centred = features.astype(np.float64) - features.astype(np.float64).mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :2] * values[:2]), rtol=1e-6)
    np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:2], rtol=1e-6)


def test_tsne_keeps_groups_apart_and_repeats() -> None:
    groups = np.repeat([0, 1, 2], 10)
    features = (np.random.default_rng(0).normal(size=(30, 8)) + 20 * groups[:, None]).astype(np.float32)
    points, shares = reduce(features, "tsne", seed=3)
    assert shares is None
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    apart[np.arange(30), np.arange(30)] = np.inf
    assert (groups[apart.argmin(1)] == groups).all()
    np.testing.assert_array_equal(points, reduce(features, "tsne", seed=3)[0])


def test_each_object_is_a_point_with_the_features_inside_its_box() -> None:
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    image[0, 8:32, 8:32] = 255
    target = Instances((48, 64), boxes=[[8.0, 8, 32, 32], [40, 20, 60, 44], [36, 2, 50, 16]], labels=[0, 1, 1])
    data = sl.Dataset.from_instances([image], [target], ["square", "nothing"])
    found = latent_space(SmallClassifier(size=48), data, "first", progress=False)
    assert len(found) == 3
    assert found.boxes is not None
    np.testing.assert_allclose(found.boxes, target.boxes)
    bias = found.features[1]
    np.testing.assert_allclose(found.features[2], bias, atol=1e-6)  # both are black, and as large as the map's edges
    assert (found.features[0] > bias + 0.3).all()


def test_too_few_points_and_unknown_methods_are_refused() -> None:
    with pytest.raises(sl.InputError, match="at least 3 images or objects, but there are 2"):
        latent_space(SmallClassifier(), labelled(2), "second", progress=False)
    with pytest.raises(sl.InputError, match="method is 'umap', but must be 'pca' or 'tsne'"):
        latent_space(SmallClassifier(), labelled(4), "second", method="umap", progress=False)  # type: ignore[arg-type]


def test_features_of_an_object_are_those_in_the_middle_of_its_box_if_the_map_rises_evenly() -> None:
    ramp = (torch.arange(64) * 3).to(torch.uint8).expand(3, 48, 64)
    boxes = [[11.0, 10, 31, 40], [30, 12, 55, 30], [20, 8, 43, 36]]
    target = Instances((48, 64), boxes=boxes, labels=[0, 0, 0])
    model = SmallClassifier(size=48)
    found = latent_space(model, sl.Dataset.from_instances([ramp], [target], ["a"]), "first", progress=False)
    with torch.no_grad():
        maps = model.first(model.prepare([ramp], None)[0].tensor)[0, :, 12].numpy()  # one row, away from the edges
    for features, (x1, _, x2, _) in zip(found.features, boxes, strict=True):
        expected = [np.interp((x1 + x2) / 4 - 0.5, np.arange(32), channel) for channel in maps]  # cells of 2 pixels
        np.testing.assert_allclose(features, expected, rtol=1e-4)
