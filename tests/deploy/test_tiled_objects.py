"""Objects of tiles joined across the seams, against the same detector on the whole image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import sightline as sl
from sightline.deploy.seams import Part, Tile, join_parts
from sightline.deploy.tiled_objects import predict_tiled_objects
from sightline.errors import InputError
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.ops.masks import masks_to_boxes
from sightline.structures import ImageBatch


class Seer(Model):
    """Finds exactly what is visible: the pixels of each number in the first channel are one object.

    The second channel has its class. Scores fall with the number, so that the order is known.
    """

    task = "detection"

    def __init__(self, with_masks: bool = True):
        super().__init__(["a", "b"], Preprocess(divisor=1))
        self.with_masks = with_masks
        self.seen: list[tuple[int, int]] = []

    def forward(self, images, targets=None):  # type: ignore[no-untyped-def]
        return [self.result(image) for image in images]

    def result(self, image: Tensor) -> sl.Instances:
        self.seen.append((int(image.shape[1]), int(image.shape[2])))
        numbers = [number for number in image[0].unique().tolist() if number]
        masks = torch.stack([image[0] == n for n in numbers]) if numbers else torch.zeros(0, *image.shape[1:]).bool()
        labels = [int(image[1][mask].max()) - 1 for mask in masks]
        more = {"masks": masks} if self.with_masks else {}
        return sl.Instances(
            tuple(image.shape[1:]),  # type: ignore[arg-type]
            classes=self.classes,
            boxes=masks_to_boxes(masks),
            labels=torch.tensor(labels, dtype=torch.int64),
            scores=torch.tensor([1 - number / 256 for number in numbers]),
            **more,
        )

    def batch_results(self, batch: ImageBatch) -> list[sl.Instances]:
        raise NotImplementedError


def scene(height: int, width: int, seed: int, rectangles: bool) -> Tensor:
    """Objects of all sizes that do not overlap, many of them cut by any grid of tiles."""
    generator = np.random.default_rng(seed)
    image = np.zeros((3, height, width), np.uint8)
    y, x = np.mgrid[:height, :width]
    for number in range(1, 40):
        h, w = generator.integers(4, 90, 2)
        top, left = generator.integers(0, height - 4), generator.integers(0, width - 4)
        inside = (y >= top) & (y < top + h) & (x >= left) & (x < left + w)
        if not rectangles:  # ellipses, or diagonal bars, whose boxes say little
            u, v = (y - top - h / 2) / h * 2, (x - left - w / 2) / w * 2
            inside &= (u**2 + v**2 < 1) if number % 2 else (abs(u - v) < 0.35)
        if inside.sum() > 8 and not image[0][inside].any():
            image[0][inside], image[1][inside] = number, 1 + number % 2
    return torch.from_numpy(image)


def same(found: sl.Instances, whole: sl.Instances) -> None:
    assert len(found) == len(whole)
    for name, value in whole.fields.items():
        assert torch.equal(found.fields[name], value), name


@example(seed=1, tiles=(50, 25), width=160, rectangles=False)
@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(64, 16), (50, 25), (96, 24), (40, 12)]),
    st.integers(130, 190),
    st.booleans(),
)
def test_joined_objects_equal_those_of_the_whole_image(
    seed: int, tiles: tuple[int, int], width: int, rectangles: bool
) -> None:
    image = scene(150, width, seed, rectangles)
    model = Seer()
    same(predict_tiled_objects(model, image, *tiles, whole_image=False, threshold=0), model.result(image))
    if rectangles:  # their boxes are enough
        model = Seer(with_masks=False)
        same(predict_tiled_objects(model, image, *tiles, whole_image=False, threshold=0), model.result(image))


def found_in(tile: Tile, *boxes: tuple[float, float, float, float], score: float = 0.9, label: int = 0) -> Part:
    """Objects of a tile, from their boxes in the image."""
    size = (tile.bottom - tile.top, tile.right - tile.left)
    corner = torch.tensor([tile.left, tile.top] * 2)
    count = len(boxes)
    fields = {"labels": torch.full((count,), label), "scores": torch.full((count,), score)}
    return Part(tile, sl.Instances(size, boxes=torch.tensor(boxes).reshape(-1, 4) - corner, **fields))


LEFT, RIGHT = Tile(0, 0, 100, 100), Tile(0, 70, 100, 170)


def joined(*parts: Part, overlap: int = 30) -> list[list[float]]:
    return join_parts(parts, (100, 170), overlap).boxes.tolist()


def test_the_tile_that_shows_more_decides() -> None:
    exact, near_the_border = (75.0, 10, 85, 20), (75.5, 10, 85, 20)
    assert joined(found_in(LEFT, exact), found_in(RIGHT, near_the_border)) == [list(exact)]  # 15 pixels against 5.5
    cut = (60.0, 40, 100, 60)
    assert joined(found_in(LEFT, cut), found_in(RIGHT, (70, 40, 120, 60))) == [[60, 40, 120, 60]]
    apart = found_in(LEFT, (60, 40, 100, 50)), found_in(RIGHT, (70, 52, 120, 62))
    assert len(joined(*apart)) == 2  # beside each other
    assert len(joined(found_in(LEFT, cut), found_in(RIGHT, (70, 40, 120, 60), label=1))) == 2
    one_tile = found_in(LEFT, (75, 10, 90, 30), (76, 10, 91, 30))
    assert len(joined(one_tile, found_in(RIGHT, (75, 10, 90, 30)))) == 2  # the left tile found two
    sliver = found_in(LEFT, (90, 40, 100, 42))
    assert joined(sliver, found_in(RIGHT, (80, 20, 150, 80))) == [[80, 20, 150, 80]]
    assert joined(found_in(LEFT), found_in(RIGHT)) == []


def test_the_whole_image_finds_what_no_tile_shows() -> None:
    everything = Tile(0, 0, 100, 170)
    parts = found_in(LEFT, (5, 5, 100, 95)), found_in(RIGHT, (70, 5, 165, 95))
    coarse = Part(everything, found_in(everything, (4, 6, 166, 94), (10, 10, 20, 20), (40, 40, 80, 60)).result, True)
    assert joined(*parts, coarse) == [[4, 6, 166, 94], [40, 40, 80, 60]]  # 10 × 10 would be in a tile
    fine = found_in(LEFT, (41, 41, 80, 61))
    assert joined(fine, coarse)[0] == [41, 41, 80, 61]  # in full detail


def test_a_large_object_needs_the_whole_image() -> None:
    image = torch.zeros(3, 120, 200, dtype=torch.uint8)
    image[:, 10:110, 20:190] = 7

    class Shy(Seer):
        """Recognises an object only if its border is visible on at least three sides."""

        def result(self, image: Tensor) -> sl.Instances:
            found = super().result((image > 3) * torch.tensor([[[7]], [[1]], [[0]]], dtype=torch.uint8))
            height, width = found.image_size
            inside = (found.boxes > 0) & (found.boxes < torch.tensor([width, height, width, height]))
            return found[inside.sum(1) >= 3]

    model = Shy()
    assert len(predict_tiled_objects(model, image, 50, 12, whole_image=False)) == 0
    found = predict_tiled_objects(model, image, 50, 12)
    assert model.seen[-1] == (30, 50)
    assert torch.allclose(found.boxes, torch.tensor([[20.0, 10, 190, 110]]), atol=4)
    assert found.masks.shape == (1, 120, 200)


def test_in_use(tmp_path: Path) -> None:
    image = scene(150, 170, 3, False)
    model = Seer()
    whole = model.result(image)
    found = sl.predict(model, image, tile=64, overlap=16, whole_image=False, threshold=0.9, classes=["b"])
    same(found, whole[(whole.scores >= 0.9) & (whole.labels == 1)])
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    done = sl.predict_to_folder(model, tmp_path / "a.png", tmp_path / "out", tile=64, overlap=16, whole_image=False)
    boxes = [entry["bbox"] for entry in json.loads((done.folder / "predictions.json").read_text())["annotations"]]
    assert len(boxes) == int((whole.scores >= 0.5).sum())
    np.save(tmp_path / "a.npy", image.permute(1, 2, 0).numpy())
    same(predict_tiled_objects(model, tmp_path / "a.npy", 64, 16, whole_image=False, threshold=0), whole)
    small = sl.predict(model, image[:, :40, :40], tile=64, overlap=16, threshold=0)  # one tile, no whole image
    same(small, model.result(image[:, :40, :40]))


def test_errors() -> None:
    image = torch.zeros(3, 80, 80, dtype=torch.uint8)
    with pytest.raises(InputError, match="overlap is 0, but it must be a whole number of at least 4"):
        predict_tiled_objects(Seer(), image, 40, 0)
    with pytest.raises(InputError, match="tiles of 40 pixels cannot overlap by 30; use at most half"):
        predict_tiled_objects(Seer(), image, 40, 30)
    classifier = sl.create_model("mobilenet_v2", ["a", "b"])
    with pytest.raises(InputError, match="predicts ClassScores, but tiles can be joined only for objects with boxes"):
        predict_tiled_objects(classifier, image, 40, 8)
    with pytest.raises(InputError, match="blended by the probability of each class at each pixel"):
        sl.predict(classifier, image, tile=40)
