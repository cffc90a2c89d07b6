"""Class maps against labels: the numbers against loops over pixels, and what does not exist."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.data.dataset import Dataset
from sightline.errors import ClassMismatch, InputError
from sightline.evaluation import PixelCounts, evaluate, evaluate_segmentation
from sightline.evaluation.boundaries import boundary_scores, dilate
from sightline.structures import IGNORE, Classes, ClassMap

NAMES = ["ground", "tree", "house"]


def maps(seed: int, size: tuple[int, int] = (13, 17), ids: int = 3, ignore: float = 0.1) -> tuple[ClassMap, ClassMap]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, ids, size)
    found = np.where(generator.random(size) < 0.6, labels, generator.integers(0, ids, size))
    labels[generator.random(size) < ignore] = IGNORE
    return ClassMap(torch.from_numpy(labels), source=f"{seed}.png"), ClassMap(torch.from_numpy(found))


def test_the_numbers_are_those_of_loops_over_pixels() -> None:
    pairs = [maps(seed) for seed in range(3)]
    result = evaluate_segmentation([a for a, _ in pairs], [b for _, b in pairs], NAMES)
    table = [[0] * 3 for _ in NAMES]
    for label, found in pairs:
        for t, p in zip(label.labels.flatten().tolist(), found.labels.flatten().tolist(), strict=True):
            if t != IGNORE:
                table[t][p] += 1
    assert result.confusion.tolist() == table
    assert result.confusion.dtype == np.int64
    total = sum(map(sum, table))
    right = [table[k][k] for k in range(3)]
    rows, columns = [sum(row) for row in table], [sum(row[k] for row in table) for k in range(3)]
    iou = [right[k] / (rows[k] + columns[k] - right[k]) for k in range(3)]
    expected = {
        "mIoU": sum(iou) / 3,
        "pixel_accuracy": sum(right) / total,
        "class_accuracy": sum(right[k] / rows[k] for k in range(3)) / 3,
        "frequency_weighted_IoU": sum(rows[k] * iou[k] for k in range(3)) / total,
        "Dice": sum(2 * right[k] / (rows[k] + columns[k]) for k in range(3)) / 3,
    }
    assert {name: result.metrics[name] for name in expected} == pytest.approx(expected)
    assert result.per_class["tree"]["precision"] == pytest.approx(right[1] / columns[1])
    assert result.confusions()[0][2] == max(table[a][b] for a in range(3) for b in range(3) if a != b)
    assert result.pixels == total
    json.dumps(result.to_dict(), allow_nan=False)
    assert "mIoU" in str(result)


def naive_boundary(labels: np.ndarray, found: np.ndarray, k: int, band: float) -> float | None:
    """F1 of the boundary of class k, pixel by pixel."""
    height, width = labels.shape
    reach = max(1, math.ceil(band * math.hypot(height, width)))

    def edge(values: np.ndarray) -> list[tuple[int, int]]:
        places = []
        for y in range(height):
            for x in range(width):
                near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                others = [values[a, b] for a, b in near if 0 <= a < height and 0 <= b < width]
                if values[y, x] == k and any(o not in (k, IGNORE) for o in others):
                    places.append((y, x))
        return places

    def met(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> float:
        return sum(any(math.dist(a, b) <= reach for b in those) for a in these) / len(these)

    true, said = edge(labels), edge(found)
    if not true and not said:
        return None
    if not true or not said:
        return 0.0
    precision, recall = met(said, true), met(true, said)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_images_are_named_by_their_source_or_their_position() -> None:
    named, bare = maps(7), maps(8)
    plain = ClassMap(bare[0].labels)
    assert evaluate_segmentation([named[0], plain], [named[1], bare[1]], NAMES).names == ["7.png", "image 1"]


def test_what_is_near_in_a_huge_map() -> None:
    """Distances of more than 46,340 pixels, whose squares int32 does not hold."""
    those = np.zeros((3, 60_000), bool)
    those[1, 10] = True
    assert dilate(those, 2).nonzero()[1].tolist() == [*range(9, 12), *range(8, 13), *range(9, 12)]


@pytest.mark.parametrize(("size", "reach"), [((9, 14), 3), ((3, 20), 7), ((20, 3), 40)])
def test_what_is_near_equals_a_loop(size: tuple[int, int], reach: int) -> None:
    those = np.random.default_rng(0).random(size) < 0.03
    those[1, 1] = True
    places = np.argwhere(those)
    expected = [[(((places - (y, x)) ** 2).sum(1) <= reach**2).any() for x in range(size[1])] for y in range(size[0])]
    assert np.array_equal(dilate(those, reach), expected)


@pytest.mark.parametrize("band", [0.01, 0.12])
def test_boundaries_are_those_of_loops_over_pixels(band: float) -> None:
    generator = np.random.default_rng(1)
    labels = np.kron(generator.integers(0, 3, (4, 4)), np.ones((5, 6), np.int64))
    found = np.roll(labels, 1, 1)
    found[3:9, 2:9] = 2
    labels[:3, :7] = found[:3, :7] = IGNORE
    scores = boundary_scores(labels, found, 4, band)
    for k in range(4):
        expected = naive_boundary(labels, found, k, band)
        assert (None if np.isnan(scores[k]) else float(scores[k])) == (
            None if expected is None else pytest.approx(expected)
        )
    assert np.isnan(scores[3])


def test_what_does_not_exist_is_none_with_a_reason() -> None:
    labels = torch.zeros(6, 8, dtype=torch.int64)
    result = evaluate_segmentation([ClassMap(labels)], [ClassMap(labels)], NAMES)
    assert result.metrics["mIoU"] == 1.0
    assert result.metrics["boundary_F"] is None
    assert result.reasons["boundary_F"] == "no image has a boundary"
    assert result.per_class["tree"]["IoU"] is None
    assert result.reasons["tree/IoU"] == "'tree' is neither in these labels nor in the predictions"
    nothing = evaluate_segmentation([ClassMap(labels - 1)], [ClassMap(labels)], NAMES)
    assert all(value is None for value in nothing.metrics.values())
    assert nothing.reasons["mIoU"] == "all pixels of these labels are ignored"
    assert nothing.notes == ["1 of 1 images have no labelled pixel"]
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_classes_are_brought_over_by_name() -> None:
    labels = ClassMap(torch.tensor([[0, 1, 1, IGNORE]]), classes=None)
    found = ClassMap(torch.tensor([[2, 0, 1, 1]]), classes=_classes("tree", "road", "ground"))
    result = evaluate_segmentation([labels], [found], ["ground", "tree"])
    assert result.confusion.tolist() == [[1, 0], [0, 1]]
    assert result.other.tolist() == [0, 1]
    assert result.metrics["pixel_accuracy"] == pytest.approx(2 / 3)
    assert "(1 'road')" in result.notes[0]  # the other does not count
    with pytest.raises(ClassMismatch):
        evaluate_segmentation([labels], [ClassMap(found.labels, _classes("tree", "road", "sky"))], ["ground", "tree"])


def _classes(*names: str):
    from sightline.structures import Classes

    return Classes(names)


def test_maps_that_cannot_be_compared() -> None:
    counts = PixelCounts(NAMES)
    with pytest.raises(InputError, match=r"a\.png: the prediction is a map of \[2, 3\] pixels, but the label map has"):
        counts.add(ClassMap(torch.zeros(3, 3), source="a.png"), ClassMap(torch.zeros(2, 3)))
    with pytest.raises(InputError, match="ids from 0 to 7, but there are 3 classes"):
        counts.add(ClassMap(torch.tensor([[0, 7]])), ClassMap(torch.zeros(1, 2)))
    with pytest.raises(InputError, match="there are no images"):
        counts.result()


class Threshold(nn.Module):
    """Bright pixels are trees."""

    task = "segmentation"

    def forward(self, images: list[Tensor]) -> list[ClassMap]:
        return [ClassMap((image[0] > 99).long(), scores=torch.zeros(3, *image.shape[1:])) for image in images]


def test_a_model_is_measured_on_a_dataset() -> None:
    images = torch.zeros(3, 3, 20, 30, dtype=torch.uint8)
    images[:, :, 5:12, 4:9] = 200
    labels = (images[:, 0] > 0).long()
    labels[2, 5:9] = 2
    data = Dataset.from_class_maps(list(images), list(labels), NAMES)
    result = evaluate(Threshold(), data, PixelCounts, batch_size=2, progress=False)
    assert result.metrics["pixel_accuracy"] == pytest.approx(1 - 4 * 30 / 1800)
    assert result.worst_first().tolist()[0] == 2
    assert result.names == ["000000.png", "000001.png", "000002.png"]
    assert torch.equal(result.targets[2].labels, labels[2])
    assert torch.equal(result.predictions[1].labels, labels[1])
    assert evaluate(Threshold(), data, PixelCounts, progress=False, keep_predictions=False).targets is None


def test_everything_for_json_by_hand() -> None:
    """Six pixels that count: 0 0 0 1 1 1 said to be 0 0 1 1 1 and a class that the data does not have."""
    labels = ClassMap(torch.tensor([[0, 0, 0, 1], [1, 1, IGNORE, IGNORE]]), source="a.png")
    said = ClassMap(torch.tensor([[0, 0, 1, 1], [1, 2, 0, 0]]), Classes(["x", "y", "z"]))
    empty = ClassMap(torch.full((2, 2), IGNORE))
    result = evaluate_segmentation([labels, empty], [said, ClassMap(torch.zeros(2, 2, dtype=torch.long))], ["x", "y"])
    found = result.to_dict()
    assert (found["images"], found["pixels"]) == (2, 6)
    assert found["confusion"] == [[2, 1], [0, 2]]
    assert found["other"] == [0, 1]
    assert found["confusions"] == [("x", "y", 1)]
    assert found["image_IoU"] == {"a.png": pytest.approx((2 / 3 + 2 / 4) / 2, abs=1e-6), "image 1": None}
    metrics = found["metrics"]
    assert metrics["mIoU"] == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert metrics["pixel_accuracy"] == pytest.approx(4 / 6)
    assert metrics["class_accuracy"] == pytest.approx(2 / 3)
    assert metrics["frequency_weighted_IoU"] == pytest.approx(0.5 * 2 / 3 + 0.5 * 2 / 4)
    assert metrics["Dice"] == pytest.approx((4 / 5 + 4 / 6) / 2)
    assert found["per_class"]["x"]["precision"] == 1
    assert found["per_class"]["y"]["precision"] == pytest.approx(2 / 3)
    assert [found["per_class"][name]["pixels"] for name in "xy"] == [3, 3]
    assert [found["per_class"][name]["predicted"] for name in "xy"] == [2, 3]
    assert result.notes == [
        "Pixels were predicted as classes that the data does not have (1 'z'): they count as wrong",
        "1 of 2 images have no labelled pixel",
    ]
    assert result.worst_first().tolist() == [0, 1]
    assert "confusion" not in result.to_dict(details=False)


def test_confusions_are_at_most_as_many_as_asked_for() -> None:
    labels = ClassMap(torch.tensor([[0, 0, 0, 1, 1, 2]]))
    said = ClassMap(torch.tensor([[1, 1, 2, 0, 1, 2]]))
    result = evaluate_segmentation([labels], [said], ["a", "b", "c"])
    assert result.confusions() == [("a", "b", 2), ("a", "c", 1), ("b", "a", 1)]
    assert result.confusions(2) == [("a", "b", 2), ("a", "c", 1)]


@pytest.mark.parametrize("largest", [0, 127, 128, 300])
def test_maps_come_back_as_they_were_kept(largest: int) -> None:
    names = [f"class {k}" for k in range(301)]
    target = ClassMap(torch.tensor([[0, largest, IGNORE]]))
    result = evaluate_segmentation([target], [target], names)
    assert result.targets is not None
    assert result.targets[0].labels.tolist() == [[0, largest, IGNORE]]
    assert result.confusion[largest, largest] == (2 if largest == 0 else 1)


def test_the_largest_and_the_smallest_id() -> None:
    for label, counts in ((2, False), (1, True)):
        target = ClassMap(torch.tensor([[label, 0]]))
        if counts:
            assert evaluate_segmentation([target], [target], ["a", "b"]).metrics["mIoU"] == 1
        else:
            with pytest.raises(InputError, match="the labels hold ids from 0 to 2, but there are 2 classes"):
                evaluate_segmentation([target], [target], ["a", "b"])
    beyond = ClassMap(torch.tensor([[2, 0]]))  # said to be of no class: wrong, not refused
    assert evaluate_segmentation([ClassMap(torch.tensor([[1, 0]]))], [beyond], ["a", "b"]).other.tolist() == [0, 1]
