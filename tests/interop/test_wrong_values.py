"""Values of other libraries that are wrong are refused in one sentence, which names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sightline import Classes, Dataset, InputError, Instances, interop

SIZE = (20, 30)
ODD: list[Any] = [
    *(None, 5, 1.5, math.nan, "x", [None], ["a"], [[1, 2]], [[1, 2, 3, "a"]], [[math.nan] * 4], [[4, 3, 2, 1]]),
    *([[1, 2, 3, 4], [1, 2]], [2**70], {}, {"a": 1}, object(), np.zeros(()), np.zeros((2, 3)), torch.tensor(3)),
    np.array([{}], dtype=object),
]
"""Values of which hardly one is right anywhere."""
BOX = {"boxes": [[1.0, 2, 3, 4]], "labels": [1]}
PIPELINE = {"label": "a", "score": 0.5, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}
DETECTION = {"label": "a", "bounding_box": [0.1, 0.1, 0.2, 0.2], "confidence": 0.5}
POLYGON = {"type": "Polygon", "coordinates": [[[1, 1], [5, 1], [5, 5], [1, 1]]]}
FEATURE = {"type": "Feature", "geometry": POLYGON, "properties": {"class": "a"}}


def _supervision(**changed: Any) -> Any:
    values = {"xyxy": np.array([[1.0, 2, 3, 4]]), "class_id": np.array([0]), "data": {}}
    return interop.from_supervision(SimpleNamespace(**values | changed), SIZE, ["a"])


def _row(**changed: Any) -> Any:
    objects = {"bbox": [[1, 2, 3, 4]], "category": [0]} | changed
    return interop.from_huggingface_row({"image": np.zeros((20, 30, 3), np.uint8), "objects": objects}, ["a"])


def _feature(**changed: Any) -> Any:
    return interop.from_geojson({"features": [FEATURE | changed]}, SIZE)


def _segments(segments: Any) -> Any:
    values = {"segmentation": np.zeros(SIZE, int), "segments_info": segments}
    return interop.from_huggingface(values, SIZE)


READERS: dict[str, Callable[[Any], Any]] = {
    **{
        f"torchvision {key}": lambda odd, key=key: interop.from_torchvision(BOX | {key: odd}, SIZE)
        for key in ("boxes", "labels", "scores", "masks", "keypoints", "iscrowd", "area")
    },
    "torchvision": lambda odd: interop.from_torchvision(odd, SIZE),
    "torchvision size": lambda odd: interop.from_torchvision(BOX, odd),
    "torchvision first_label": lambda odd: interop.from_torchvision(BOX, SIZE, first_label=odd),
    "huggingface": lambda odd: interop.from_huggingface(odd, SIZE),
    "huggingface scores": lambda odd: interop.from_huggingface(BOX | {"scores": odd}, SIZE),
    "huggingface names": lambda odd: interop.from_huggingface(BOX, SIZE, {str(odd): "a"}),
    "huggingface box": lambda odd: interop.from_huggingface([PIPELINE | {"box": odd}], SIZE, ["a"]),
    "huggingface label": lambda odd: interop.from_huggingface([PIPELINE | {"label": odd}], SIZE, ["a"]),
    "huggingface segments": _segments,
    "row category": lambda odd: _row(category=odd),
    "row bbox": lambda odd: _row(bbox=odd),
    "row area": lambda odd: _row(area=odd),
    **{
        f"supervision {key}": lambda odd, key=key: _supervision(**{key: odd})
        for key in ("xyxy", "class_id", "confidence", "mask", "tracker_id")
    },
    "supervision names": lambda odd: _supervision(class_id=None, data={"class_name": odd}),
    "fiftyone": lambda odd: interop.from_fiftyone({"detections": odd}, SIZE, ["a"]),
    "fiftyone size": lambda odd: interop.from_fiftyone({"detections": [DETECTION]}, odd, ["a"]),
    **{
        f"fiftyone {key}": lambda odd, key=key: interop.from_fiftyone(
            {"detections": [DETECTION | {key: odd}]}, SIZE, ["a"]
        )
        for key in ("label", "bounding_box", "confidence", "mask", "index")
    },
    "geojson": lambda odd: interop.from_geojson({"features": odd}, SIZE),
    "geojson size": lambda odd: interop.from_geojson({"features": [FEATURE]}, odd),
    "geojson geometry": lambda odd: _feature(geometry=odd),
    "geojson coordinates": lambda odd: _feature(geometry=POLYGON | {"coordinates": odd}),
    "geojson rings": lambda odd: _feature(geometry=POLYGON | {"coordinates": [odd]}),
    "geojson properties": lambda odd: _feature(properties=odd),
    "geojson class": lambda odd: _feature(properties={"class": odd}),
    "geojson score": lambda odd: _feature(properties={"class": "a", "score": odd}),
}


@pytest.mark.parametrize("name", READERS)
def test_odd_values_are_read_or_refused_in_a_sentence(name: str) -> None:
    sentences = []
    for odd in ODD:
        try:
            READERS[name](odd)
        except InputError as error:
            sentences.append(str(error))
    assert len(sentences) >= len(ODD) // 3  # and the rest is harmless, such as None for no scores
    assert max(map(len, sentences)) < 400


@pytest.mark.parametrize("size", [5, (-20, 30), (20,), (20.5, 30), ("a", "b"), "20", None, (math.nan, 3)])
def test_the_size_of_an_image_is_two_whole_numbers(size: Any) -> None:
    with pytest.raises(InputError, match=r"the size of an image must be \(height, width\), two whole numbers"):
        Instances(size)
    with pytest.raises(InputError, match=r"the size of an image must be \(height, width\)"):
        interop.from_geojson({"features": []}, size)
    assert Instances(np.array([20, 30])).image_size == SIZE


def test_a_field_has_a_value_per_object() -> None:
    with pytest.raises(InputError, match="scores is a single number, but must have one value per object"):
        Instances(SIZE, boxes=torch.zeros(1, 4), labels=torch.zeros(1, dtype=torch.int64), scores=torch.tensor(0.5))


def test_what_is_no_dataset_and_no_result() -> None:
    for odd in (5, {"a": 1}, None, object()):
        with pytest.raises(InputError, match=r"is no PyTorch dataset of \(image, target\) pairs; give an object with"):
            Dataset.from_torch(odd)
    with pytest.raises(InputError, match="a int is no result of a model, and no list of results"):
        interop.to_pandas(5)


@pytest.mark.parametrize("more", [{}, {"scores": torch.zeros(0)}, {"masks": torch.zeros(0, *SIZE, dtype=torch.bool)}])
def test_no_objects_stay_no_objects(more: dict[str, Any]) -> None:
    classes = Classes(["a", "b"])
    nothing = Instances(
        SIZE, boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), classes=classes, **more
    )
    row = interop.to_huggingface_row(np.zeros((20, 30, 3), np.uint8), nothing)
    for found in (
        interop.from_torchvision(interop.to_torchvision(nothing), SIZE, classes),
        interop.from_huggingface(interop.to_huggingface(nothing), SIZE, classes),
        interop.from_huggingface([], SIZE, classes),
        interop.from_geojson(interop.to_geojson(nothing), SIZE, classes),
        interop.from_fiftyone(interop.to_fiftyone(nothing), SIZE, classes),
        interop.from_huggingface_row(row, classes)[1],
    ):
        assert (len(found), found.image_size, found.classes) == (0, SIZE, classes)  # type: ignore[union-attr]


def test_lists_of_arrays_are_read_without_a_warning() -> None:
    found = interop.from_torchvision({"boxes": [np.array([1.0, 2, 3, 4])] * 2, "labels": np.array([1, 1])}, SIZE)
    assert found.boxes.tolist() == [[1, 2, 3, 4]] * 2
