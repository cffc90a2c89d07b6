"""CreateML: centre-based boxes, files a split and files an image, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .helpers import everything, picture, rows, text, voc, write_json


def entry(name: str, *objects: tuple[str, float, float, float, float]) -> dict[str, Any]:
    sides = ("x", "y", "width", "height")
    drawn = [{"label": label, "coordinates": dict(zip(sides, box, strict=True))} for label, *box in objects]
    return {"image": name, "annotations": drawn}


def test_coordinates_are_the_centre(tmp_path: Path):
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "images" / name)
    write_json(
        tmp_path / "labels.json", [entry("a.jpg", ("dog", 20, 30, 10, 8), ("cat", 5.5, 5, 1, 2)), entry("b.jpg")]
    )
    data = open_dataset(tmp_path)
    assert data.format == "createml"
    assert everything(data) == {
        ("all", "a.jpg"): [("dog", 15, 26, 25, 34), ("cat", 5, 4, 6, 6)],
        ("all", "b.jpg"): [],
    }
    assert tuple(data.classes) == ("cat", "dog")


def test_a_file_a_split_and_a_file_an_image(tmp_path: Path):
    for split in ("train", "valid"):
        picture(tmp_path / "r" / split / "a.jpg")
        write_json(tmp_path / "r" / split / "_annotations.createml.json", [entry("a.jpg", (split, 2, 2, 2, 2))])
    data = open_dataset(tmp_path / "r")
    assert everything(data) == {("train", "a.jpg"): [("train", 1, 1, 3, 3)], ("val", "a.jpg"): [("valid", 1, 1, 3, 3)]}
    for name in ("test", "train", "crack"):  # names of images, not of splits
        picture(tmp_path / "o" / f"{name}.jpg")
        write_json(tmp_path / "o" / f"{name}.json", [entry(f"{name}.jpg", ("x", 2, 2, 2, 2))])
    assert open_dataset(tmp_path / "o").splits == ("all",)


def test_a_description_without_objects_is_no_second_format(tmp_path: Path):
    picture(tmp_path / "a.jpg")
    voc(tmp_path / "a.xml", "a.jpg", [])
    write_json(tmp_path / "a.json", [entry("a.jpg", ("dog", 20, 30, 10, 8))])
    assert open_dataset(tmp_path).format == "createml"
    voc(tmp_path / "a.xml", "a.jpg", [("cat", 1, 2, 3, 4)])
    with pytest.raises(InputError, match=r"more than one format: voc \(a.xml\) and createml \(a.json\)"):
        open_dataset(tmp_path)


def test_written(tmp_path: Path):
    voc(tmp_path / "in" / "a.xml", "a.jpg", [("dog", 1, 2, 4, 8)])
    picture(tmp_path / "in" / "a.jpg")
    done = convert(tmp_path / "in", tmp_path / "out", "createml")
    assert '{"x": 2.5, "y": 5, "width": 3, "height": 6}' in (done.folder / "_annotations.createml.json").read_text()
    assert rows(open_dataset(done.folder), 0) == [("dog", 1, 2, 4, 8)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1, "y": 2, "width": 3}}]}]',
         r'a\.jpg: object 0 has no "coordinates" with x, y, width and height'),
        ('[{"image": "a.jpg", "annotations": [{"coordinates": {"x": 1, "y": 2, "width": 3, "height": 4}}]}]',
         'object 0 has no "label"'),
        ('[{"annotations": [], "coordinates": 0, "filename": ""}]', 'entry 0 names no "image"'),
        ('[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1', "is not valid JSON"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, content: str, sentence: str):
    picture(tmp_path / "a.jpg")
    text(tmp_path / "l.json", content)
    with pytest.raises(InputError, match=sentence):
        open_dataset(tmp_path)
