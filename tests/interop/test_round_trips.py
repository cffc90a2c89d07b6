"""Every form and back, against values worked out by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sightline as sl
from sightline.errors import InputError
from sightline.interop import (
    from_fiftyone,
    from_geojson,
    from_huggingface,
    from_huggingface_row,
    from_supervision,
    from_torchvision,
    to_fiftyone,
    to_geojson,
    to_huggingface,
    to_huggingface_row,
    to_pandas,
    to_supervision,
    to_torchvision,
)

NAMES = ["cat", "dog"]
SIZE = (20, 40)


@pytest.fixture
def found() -> sl.Instances:
    """Two objects of an image of 40 × 20 pixels; the mask of the first is a frame with a hole."""
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 2:12, 4:14] = True
    masks[0, 5:8, 6:10] = False
    masks[1, 0:5, 30:40] = True
    return sl.Instances(
        SIZE,
        classes=sl.Classes(NAMES),
        source="a.png",
        boxes=torch.tensor([[4.0, 2, 14, 12], [30, 0, 40, 5]]),
        labels=[1, 0],
        scores=[0.75, 0.5],
        masks=masks,
    )


def same(a: sl.Instances, b: sl.Instances, *names: str) -> None:
    assert (a.image_size, a.classes, len(a)) == (b.image_size, b.classes, len(b))
    for name in names:
        torch.testing.assert_close(a.fields[name], b.fields[name], check_dtype=False)


def test_torchvision(found: sl.Instances) -> None:
    values = to_torchvision(found)
    assert values["labels"].tolist() == [2, 1]  # 0 is the background
    assert values["masks"].shape == (2, 1, 20, 40)
    assert values["masks"].dtype == torch.float32
    same(from_torchvision(values, SIZE, NAMES), found, "boxes", "labels", "scores", "masks")
    assert to_torchvision(found, first_label=0)["labels"].tolist() == [1, 0]
    target = found.replace(crowd=torch.tensor([False, True]), areas=torch.tensor([88.0, 50]))
    del target._fields["scores"]
    values = to_torchvision(target)
    assert values["masks"].dtype == torch.uint8
    assert values["masks"].shape == (2, 20, 40)
    assert values["iscrowd"].tolist() == [0, 1]
    same(from_torchvision(values, SIZE, NAMES), target, "boxes", "labels", "masks", "crowd", "areas")
    empty = from_torchvision({"boxes": [], "labels": []}, SIZE, NAMES)
    assert (len(empty), to_torchvision(empty)["boxes"].shape) == (0, (0, 4))


def test_torchvision_errors(found: sl.Instances) -> None:
    with pytest.raises(InputError, match="the dictionary has no 'labels'; it has boxes"):
        from_torchvision({"boxes": [[0, 0, 1, 1]]}, SIZE)
    with pytest.raises(InputError, match="the label 0, but the first class has label 1; remove objects"):
        from_torchvision({"boxes": [[0, 0, 1, 1]], "labels": [0]}, SIZE, NAMES)
    with pytest.raises(InputError, match="label 2 is not a class id: there are 2 classes"):
        from_torchvision({"boxes": [[0, 0, 1, 1]], "labels": [3]}, SIZE, NAMES)
    with pytest.raises(InputError, match=r"boxes have shape \[1, 3\], but must be \[objects, 4\]"):
        from_torchvision({"boxes": [[0, 0, 1]], "labels": [1]}, SIZE, NAMES)
    with pytest.raises(InputError, match="boxes must be numbers of one shape per object"):
        from_torchvision({"boxes": [[0, 0, 1, 1], [0]], "labels": [1, 1]}, SIZE, NAMES)
    with pytest.raises(InputError, match="not a list; convert the results one by one"):
        to_torchvision([found])  # type: ignore[arg-type]


@dataclass
class Detections:
    """The attributes of supervision's class."""

    xyxy: Any
    class_id: Any = None
    confidence: Any = None
    mask: Any = None
    tracker_id: Any = None
    data: dict[str, Any] = field(default_factory=dict)


def test_supervision_without_it() -> None:
    boxes = np.array([[0.0, 0, 5, 5]], np.float32)
    back = from_supervision(Detections(boxes, data={"class_name": np.array(["dog"])}, tracker_id=[7]), SIZE, NAMES)
    assert (back.labels.tolist(), back.tracks.tolist(), back.boxes.tolist()) == ([1], [7], boxes.tolist())
    assert len(from_supervision(Detections(np.zeros((0, 4))), SIZE, NAMES)) == 0
    with pytest.raises(InputError, match=r"neither class_id nor data\['class_name'\]"):
        from_supervision(Detections(boxes), SIZE, NAMES)
    with pytest.raises(InputError, match=r"a list is no supervision\.Detections; it has no xyxy"):
        from_supervision([], SIZE, NAMES)
    with pytest.raises(InputError, match="unknown class 'bird'"):
        from_supervision(Detections(boxes, data={"class_name": ["bird"]}), SIZE, NAMES)
    for name, given in (("sphere", ["a"]), ("dog", NAMES)):
        with pytest.raises(
            InputError, match=f"object 0 has class id 0 and the name '{name}', but class 0 of the classes"
        ):
            from_supervision(Detections(boxes, [0], data={"class_name": [name]}), SIZE, given)
    for name in ("cat", "0"):  # names that are unknown are written as ids
        assert len(from_supervision(Detections(boxes, np.array([0]), data={"class_name": [name]}), SIZE, NAMES)) == 1


@pytest.mark.filterwarnings("ignore")
def test_supervision(found: sl.Instances) -> None:
    pytest.importorskip("supervision", exc_type=ImportError)
    found = found.replace(tracks=torch.tensor([3, 1]))
    detections = to_supervision(found)
    assert detections.data["class_name"].tolist() == ["dog", "cat"]
    assert detections.area.tolist() == [88.0, 50.0]
    kept = detections[detections.confidence > 0.6]
    same(from_supervision(kept, SIZE, NAMES), found[:1], "boxes", "labels", "scores", "masks", "tracks")
    same(from_supervision(detections, SIZE, NAMES), found, "boxes", "labels", "scores", "masks", "tracks")
    assert len(to_supervision(found[:0])) == 0


def test_hugging_face(found: sl.Instances) -> None:
    values = to_huggingface(found)
    assert {name: value.tolist() for name, value in values.items() if name != "boxes"} == {
        "scores": [0.75, 0.5],
        "labels": [1, 0],
    }
    same(from_huggingface(values, SIZE, {"0": "cat", "1": "dog"}), found, "boxes", "labels", "scores")
    pipeline = [
        {"score": 0.75, "label": "dog", "box": {"xmin": 4, "ymin": 2, "xmax": 14, "ymax": 12}},
        {"score": 0.5, "label": "cat", "box": {"xmin": 30, "ymin": 0, "xmax": 40, "ymax": 5}},
    ]
    same(from_huggingface(pipeline, SIZE, NAMES), found, "boxes", "labels", "scores")
    segments = torch.full(SIZE, -1)
    segments[found.masks[0]], segments[found.masks[1]] = 5, 6
    info = [{"id": 5, "label_id": 1, "score": 0.75}, {"id": 6, "label_id": 0, "score": 0.5}]
    back = from_huggingface({"segmentation": segments, "segments_info": info}, SIZE, NAMES)
    same(back, found, "boxes", "labels", "scores", "masks")
    known = sl.ClassMap(torch.ones(SIZE, dtype=torch.int64), sl.Classes(NAMES))
    assert torch.equal(from_huggingface(to_huggingface(known), (1, 1), NAMES).labels, known.labels)
    with pytest.raises(InputError, match="id2label has the ids 1, 3, but they must be 0 to 1 without gaps"):
        from_huggingface(values, SIZE, {1: "cat", 3: "dog"})
    with pytest.raises(InputError, match="a str, but must be a dictionary with boxes and labels, one with segm"):
        from_huggingface("x", SIZE)
    with pytest.raises(InputError, match="object 0: box has no 'ymax'"):
        from_huggingface([{"label": "dog", "box": {"xmin": 4, "ymin": 2, "xmax": 14}}], SIZE, NAMES)


def test_hugging_face_rows(found: sl.Instances) -> None:
    row = to_huggingface_row(Image.new("RGB", (40, 20)), found, image_id=9)
    assert row["objects"] == {
        "id": [0, 1],
        "area": [100.0, 50.0],
        "bbox": [[4.0, 2.0, 10.0, 10.0], [30.0, 0.0, 10.0, 5.0]],
        "category": [1, 0],
    }
    image, target = from_huggingface_row(row, NAMES)
    assert image.size == (40, 20)
    same(target, found, "boxes", "labels")
    del row["width"]
    row["objects"]["category"] = ["dog", "cat"]
    same(from_huggingface_row(row, NAMES)[1], found, "boxes", "labels")
    with pytest.raises(InputError, match="row 9 has the class 'dog', whose id is not known; give classes="):
        from_huggingface_row(row)
    with pytest.raises(InputError, match="row 9: objects has no 'bbox'; it has category"):
        from_huggingface_row({**row, "objects": {"category": []}}, NAMES)


def test_fiftyone(found: sl.Instances) -> None:
    values = to_fiftyone(found)
    first = values["detections"][0]
    assert (first["label"], first["confidence"]) == ("dog", 0.75)
    assert first["bounding_box"] == pytest.approx([0.1, 0.1, 0.25, 0.5])
    assert first["mask"].shape == (10, 10)
    assert first["mask"].sum() == 88
    same(from_fiftyone(values, SIZE, NAMES), found, "boxes", "labels", "scores", "masks")
    for one in values["detections"]:
        one["mask"] = one["mask"].repeat(3, 0).repeat(2, 1)  # of another resolution than the box
    same(from_fiftyone(values, SIZE, NAMES), found, "masks")
    scores = sl.ClassScores(SIZE, scores=torch.tensor([0.2, 0.8]), classes=sl.Classes(NAMES))
    back = from_fiftyone(to_fiftyone(scores), SIZE, NAMES)
    assert back.label == 1
    torch.testing.assert_close(back.scores, scores.scores)
    known = sl.ClassMap(torch.arange(8).reshape(2, 4) % 2, sl.Classes(NAMES))
    assert torch.equal(from_fiftyone(to_fiftyone(known), (2, 4), NAMES).labels, known.labels)
    with pytest.raises(InputError, match="detection 1 has no 'bounding_box'; it has label"):
        from_fiftyone({"detections": [values["detections"][0], {"label": "dog"}]}, SIZE, NAMES)
    with pytest.raises(InputError, match="must be a dictionary with detections, label or mask, not \\[\\]"):
        from_fiftyone([], SIZE, NAMES)  # type: ignore[arg-type]


UTM = (0.5, 0, 500_000, 0, -0.5, 4_600_000, 0, 0, 1)
"""Half a metre per pixel, y upwards."""


@pytest.mark.parametrize("transform", [(1, 0, 0, 0, 1, 0), UTM, (0.3, 0.4, -7, 0.4, -0.3, 2)])
def test_geojson(found: sl.Instances, transform: tuple[float, ...]) -> None:
    values = json.loads(json.dumps(to_geojson(found, transform)))
    assert values["image"] == "a.png"
    assert values["features"][0]["properties"] == {"class": "dog", "label": 1, "score": 0.75}
    outline, hole = values["features"][0]["geometry"]["coordinates"]
    assert outline[0] == outline[-1]
    for ring, sign in ((outline, 1), (hole, -1)):  # counterclockwise, and clockwise for holes
        x, y = np.array(ring[:-1]).T
        assert np.sign((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) == sign
    same(from_geojson(values, SIZE, NAMES, transform), found, "boxes", "labels", "scores", "masks")
    assert from_geojson(values, SIZE, transform=transform).classes == sl.Classes(["cat", "dog"])


def test_geojson_of_boxes_maps_and_parts(found: sl.Instances) -> None:
    boxes = sl.Instances(SIZE, boxes=found.boxes, labels=found.labels)
    corners = to_geojson(boxes, UTM)["features"][1]["geometry"]["coordinates"][0]
    assert sorted(corners[:-1]) == [[500015, 4599997.5], [500015, 4600000], [500020, 4599997.5], [500020, 4600000]]
    labels = torch.zeros(6, 8, dtype=torch.int64)
    labels[1:3, 1:3], labels[3:5, 3:5], labels[5, 7] = 1, 1, -1  # touch at a corner: two parts
    features = to_geojson(sl.ClassMap(labels, sl.Classes(["background", "road"])))["features"]
    assert [one["properties"] for one in features] == [{"class": "road", "label": 1, "pixels": 8}]
    assert (features[0]["geometry"]["type"], len(features[0]["geometry"]["coordinates"])) == ("MultiPolygon", 2)
    empty = found[:1].replace(masks=torch.zeros(1, *SIZE, dtype=torch.bool))
    assert to_geojson(empty)["features"][0]["geometry"] is None
    assert len(from_geojson(to_geojson(found[:0]), SIZE, NAMES)) == 0


def test_geojson_errors(found: sl.Instances) -> None:
    with pytest.raises(InputError, match="transform must be six numbers"):
        to_geojson(found, (1, 2, 3))
    with pytest.raises(InputError, match="maps the image onto a line"):
        to_geojson(found, (1, 2, 0, 2, 4, 0))
    with pytest.raises(InputError, match="the GeoJSON has no 'features'; it has type"):
        from_geojson({"type": "Feature"}, SIZE)
    point = {"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"class": "dog"}}
    with pytest.raises(InputError, match="feature 0 is a Point, but only a Polygon or MultiPolygon is an area"):
        from_geojson({"features": [point]}, SIZE, NAMES)
    with pytest.raises(InputError, match="feature 0 has no property 'class'; name the one with the class by"):
        from_geojson({"features": [point | {"properties": {}}]}, SIZE, NAMES)


def test_geojson_outside_the_image(found: sl.Instances) -> None:
    on_the_map = to_geojson(found, UTM)
    with pytest.raises(
        InputError,
        match=r"feature 0 lies outside the image of 40 × 20 pixels: x 500002 to 500007, y .*; give the transform",
    ):
        from_geojson(on_the_map, SIZE, NAMES)
    for place, size in ((UTM, SIZE), ((1, 0, 0, 0, 1, 0), (20, 40))):
        assert len(from_geojson(to_geojson(found, place), size, NAMES, place)) == 2
    with pytest.raises(InputError, match="feature 1 lies outside the image of 30 × 20 pixels: x 30 to 40"):
        from_geojson(to_geojson(found), (20, 30), NAMES)  # it touches the border
    flat = torch.tensor([[3.0, 20, 9, 20], [0, 0, 0, 0]])  # without area, on the border: nothing is cut off
    boxes = sl.Instances(SIZE, boxes=flat, labels=found.labels)
    assert torch.equal(from_geojson(to_geojson(boxes, UTM), SIZE, ["0", "1"], UTM).boxes, flat)


def test_columns_and_pandas(found: sl.Instances) -> None:
    columns = found.to_columns()
    assert list(columns) == ["image", "class", "label", "score", "x1", "y1", "x2", "y2", "mask_pixels"]
    assert (columns["class"], columns["x2"], columns["mask_pixels"]) == (["dog", "cat"], [14.0, 40.0], [88, 50])
    numbered = found.replace(keys=torch.tensor([4, 5]), tracks=torch.tensor([2, 1]), areas=torch.tensor([88.0, 50.0]))
    assert numbered.to_columns()["track"] == [2, 1]
    assert {*numbered.to_columns()} == {*columns, "track", "area"}  # keys are not for files
    labels = torch.tensor([[0, 0, 1], [1, 0, -1]])
    known = sl.ClassMap(labels, sl.Classes(["a", "b", "c"]), source="m.png")
    assert known.to_columns()["class"] == ["a", "b", "c", "ignored"]
    assert known.to_columns()["pixels"] == [3, 2, 0, 1]
    assert known.to_columns()["fraction"] == [0.5, 1 / 3, 0, 1 / 6]
    scores = sl.ClassScores(SIZE, 0, torch.tensor([0.2, 0.8]), sl.Classes(NAMES))
    assert scores.to_columns()["class"] == ["dog", "cat"]
    assert scores.to_columns()["target"] == [False, True]
    assert sl.ClassScores(SIZE, 1).to_columns()["class"] == ["class 1"]
    events = sl.Events(SIZE, torch.tensor([[0.0, 1.5]]), ("it falls",), 2.0, source="v.mp4")
    assert events.to_columns() == {"image": ["v.mp4"], "start": [0.0], "end": [1.5], "caption": ["it falls"]}
    pytest.importorskip("pandas")
    frame = to_pandas([found, scores])
    assert frame["image"].tolist() == ["a.png", "a.png", "image 1", "image 1"]
    assert frame["score"].tolist() == pytest.approx([0.75, 0.5, 0.8, 0.2])
    assert frame["x1"].isna().tolist() == [False, False, True, True]
    assert list(found[:0].to_pandas().columns) == list(columns)
    assert known.to_pandas().set_index("class")["pixels"]["ignored"] == 1
    with pytest.raises(InputError, match="item 1 is a str, which is no result of a model"):
        to_pandas([found, "x"])  # type: ignore[list-item]


def test_missing_packages(found: sl.Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.runtime.optional.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs pandas, which is not installed: pip install 'sightline\[pandas\]'"):
        found.to_pandas()
    with pytest.raises(InputError, match=r"to_supervision needs supervision, .*: pip install supervision"):
        to_supervision(found)


def test_labels_that_are_no_whole_numbers_are_refused() -> None:
    """They were cut to the class below."""
    boxes = [[1.0, 1.0, 5.0, 5.0]]
    with pytest.raises(InputError, match="labels must be whole numbers, not"):
        from_torchvision({"boxes": boxes, "labels": [1.5999999]}, (10, 10))
    with pytest.raises(InputError, match="labels must be whole numbers"):
        from_huggingface({"boxes": boxes, "labels": [1.5]}, (10, 10))


@pytest.mark.parametrize("coordinates", [None, "abc", [[1, 2, 3]], [[]], 5])
def test_broken_coordinates_are_named(coordinates: object) -> None:
    geometry = {"type": "Polygon", "coordinates": coordinates}
    feature = {"type": "Feature", "geometry": geometry, "properties": {"class": "a"}}
    with pytest.raises(InputError, match="feature 0 has coordinates that are no rings of positions"):
        from_geojson({"type": "FeatureCollection", "features": [feature]}, (10, 10))
