"""Label Studio's JSON: percent, turned rectangles, brushes, addresses of images, annotations that count."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.data.formats import open_dataset
from sightline.data.formats.label_studio_brush import decode_brush
from sightline.errors import InputError
from sightline.ops.masks import rle_to_mask

from .drawn import masks
from .helpers import everything, picture, rows, write_json

SIZE = {"original_width": 64, "original_height": 48, "image_rotation": 0}


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {**SIZE, "type": kind, "from_name": "l", "to_name": "image", "value": {**value, kind: [label]}}


def task(*results: dict[str, Any], image: str = "/data/upload/1/a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(results), **more}], "predictions": []}


def encoded(mask: np.ndarray) -> list[int]:
    """A mask as an RGBA picture in Label Studio's code, bit by bit: single values and repeated ones."""
    values = np.repeat(mask.astype(np.uint8)[..., None] * 255, 4, 2).ravel().tolist()
    bits = f"{len(values):032b}" + f"{7:05b}" + f"{2:04b}{7:04b}{11:04b}{15:04b}"
    at = 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 4096:
            end += 1
        run = end - at
        choice, length = (0, 3) if run <= 8 else (1, 8) if run <= 256 else (2, 12)
        if run == 1 and at % 3:  # a run of different values, of one
            bits += f"0{0:02b}{0:03b}{values[at]:08b}"
        else:
            bits += f"1{choice:02b}{run - 1:0{length}b}{values[at]:08b}"
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_shapes_in_percent(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    results = [
        region("rectanglelabels", "dog", x=25, y=50, width=12.5, height=25, rotation=0),
        region("polygonlabels", "cat", points=[[0, 0], [50, 0], [50, 100]]),
        region("ellipselabels", "dog", x=50, y=50, radiusX=12.5, radiusY=25, rotation=0),
        region("keypointlabels", "nose", x=75, y=25, width=0.5),
    ]
    data = open_dataset(write_json(tmp_path / "e.json", [task(*results)]).parent)
    assert data.format == "label-studio"
    assert rows(data, 0) == [
        ("dog", 16, 24, 24, 36),
        ("cat", 0, 0, 32, 48),
        ("dog", 24, 12, 40, 36),
        ("nose", 48, 12, 48, 12),
    ]
    assert data.columns.segmentations.texts()[:2] == ["", "[[0,0,32,0,32,48]]"]


@pytest.mark.parametrize(
    ("angle", "corners"),
    [
        (90, [(32, 24), (32, 32), (20, 32), (20, 24)]),  # to the right of the top-left corner becomes below it
        (30, None),
    ],
)
def test_a_rectangle_turns_around_its_top_left_corner(tmp_path: Path, angle: float, corners: list[Any] | None):
    picture(tmp_path / "a.jpg")
    one = region("rectanglelabels", "x", x=50, y=50, width=12.5, height=25, rotation=angle)  # 32, 24, 8 × 12
    data = open_dataset(write_json(tmp_path / "e.json", [task(one)]).parent)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = [(32 + u * cos - v * sin, 24 + u * sin + v * cos) for u, v in ((0, 0), (8, 0), (8, 12), (0, 12))]
    if corners is not None:
        np.testing.assert_allclose(turned, corners, atol=1e-9)
    (polygon,) = np.array(eval(data.columns.segmentations.text(0)))
    np.testing.assert_allclose(polygon.reshape(4, 2), turned, atol=1e-3)
    xs, ys = zip(*turned, strict=True)
    np.testing.assert_allclose(data.columns.boxes[0], [min(xs), min(ys), max(xs), max(ys)], atol=1e-3)


def test_a_brush_is_exact(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    mask = np.random.default_rng(0).random((48, 64)) < 0.3
    mask[20:40, 10:50] = True
    data = open_dataset(
        write_json(tmp_path / "e.json", [task(region("brushlabels", "x", format="rle", rle=encoded(mask)))]).parent
    )
    assert np.array_equal(masks(data)["all", "a.jpg"][0], mask)
    assert data.columns.areas.tolist() == [mask.sum()]


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/1b2c3d4e-my%20cat.jpg",
        "/data/local-files/?d=photos/my%20cat.jpg",
        "s3://bucket/deep/my cat.jpg",
        "https://host/x/my%20cat.jpg?token=a.png",
        "C:\\photos\\my cat.jpg",
    ],
)
def test_addresses_of_images(tmp_path: Path, address: str):
    picture(tmp_path / "my cat.jpg")
    write_json(tmp_path / "e.json", [task(image=address)])
    assert everything(open_dataset(tmp_path)) == {("all", "my cat.jpg"): []}


def test_annotations_that_count(tmp_path: Path):
    for name in "abcd":
        picture(tmp_path / f"{name}.jpg")
    box = {"x": 0, "y": 0, "width": 50, "height": 50}
    several = task(region("rectanglelabels", "old", **box), created_at="2024-01-01")
    several["annotations"] += [
        {"result": [region("rectanglelabels", "new", **box)], "created_at": "2024-02-01"},
        {"result": [], "was_cancelled": True, "created_at": "2024-03-01"},
    ]
    content = [several, task(image="b.jpg"), task(image="c.jpg") | {"annotations": []}]
    content.append(task(image="d.jpg", was_cancelled=True))
    data = open_dataset(write_json(tmp_path / "e.json", content).parent)
    assert everything(data) == {("all", "a.jpg"): [("new", 0, 0, 32, 24)], ("all", "b.jpg"): []}
    assert data.notes[0] == "e.json: 2 tasks without annotations are left out"


def test_choices_and_several_labels(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    choice = {"type": "choices", "from_name": "weather", "value": {"choices": ["rain"]}}
    one = region("rectanglelabels", "x", x=0, y=0, width=50, height=50)
    one["value"]["rectanglelabels"].append("y")
    data = open_dataset(write_json(tmp_path / "e.json", [task(choice, one)]).parent)
    assert data.image_extra(0) == {"weather": ["rain"]}
    assert data.columns.extra["other"].text(0) == '{"labels":["x","y"]}'


def test_the_short_form(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    drawn = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["x"]}
    entry = {"image": "/data/upload/1/12345678-a.jpg", "id": 4, "annotator": 1, "label": [drawn | SIZE]}
    write_json(tmp_path / "e.json", [entry])
    assert everything(open_dataset(tmp_path)) == {("all", "a.jpg"): [("x", 0, 0, 32, 24)]}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"type": "rectanglelabels"}, 'result 0 has no "value"'),
        ({**SIZE, "type": "rectangle", "value": {"x": 1, "y": 1, "width": 1, "height": 1}}, "result 0 has no label"),
        (region("rectanglelabels", "x", x="a", y=1, width=1, height=1), "result 0 has the coordinates"),
        (region("brushlabels", "x", rle=[0, 0, 48, 0, 1]), "is a brush whose code is damaged"),
        (region("rectanglelabels", "x", x=1, y=1, width=1, height=1) | {"image_rotation": 90}, "rotated by 90 degrees"),
    ],
)
def test_mistakes(tmp_path: Path, result: dict[str, Any], sentence: str):
    picture(tmp_path / "a.jpg")
    write_json(tmp_path / "e.json", [task(result)])
    with pytest.raises(InputError, match=sentence):
        open_dataset(tmp_path)


def test_a_brush_bit_by_bit(tmp_path: Path):
    """A code by hand for one row of three pixels: 12 values of 8 bits; the opacities are 127, 128 and 255."""

    def code(count: int, word: int, runs: str) -> list[int]:
        bits = f"{count:032b}{word - 1:05b}{0:04b}{1:04b}{2:04b}{3:04b}{runs}"  # lengths of 1, 2, 3 and 4 bits
        bits += "0" * (-len(bits) % 8)
        return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]

    runs = f"0{1:02b}{2:02b}" + f"{9:08b}{8:08b}{7:08b}"  # 3 different values
    runs += f"0{3:02b}{4:04b}" + f"{127:08b}{1:08b}{2:08b}{3:08b}{128:08b}"  # 5 different values
    runs += f"1{2:02b}{3:03b}{255:08b}"  # 4 times the same
    sound = code(12, 8, runs)
    assert rle_to_mask(decode_brush(sound, (1, 3), "here")).tolist() == [[False, True, True]]
    with pytest.raises(InputError, match="it has 12 values, but 1 × 4 pixels have 16"):
        decode_brush(sound, (1, 4), "here")
    with pytest.raises(InputError, match="ends too soon"):
        decode_brush(sound[:-2], (1, 3), "here")
    with pytest.raises(InputError, match="a run extends beyond the image"):
        decode_brush(code(4, 8, f"1{3:02b}{4:04b}{1:08b}"), (1, 1), "here")
    assert rle_to_mask(decode_brush(code(4, 8, f"1{3:02b}{3:04b}{200:08b}"), (1, 1), "here")).tolist() == [[True]]
    with pytest.raises(InputError, match="its values have 4 bits, not 8"):
        decode_brush(code(4, 4, "0" * 20), (1, 1), "here")
    for size in ((0, 3), (1, 2**15), (1, None)):
        with pytest.raises(InputError, match="without original_width"):
            decode_brush(sound, size, "here")
