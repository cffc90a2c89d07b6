"""One minimal file for each format: it is read as that format, and by no other one; and near misses by none."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightline.data.formats import FORMATS

from .helpers import picture, text

VOC = "<annotation><filename>a.jpg</filename><object><name>x</name><bndbox></bndbox></object></annotation>"
CVAT = '<annotations><version>1.1</version><image id="0" name="a.jpg" width="64" height="48"></image></annotations>'
FILES = {
    "coco": ("l.json", '{"images": [], "annotations": [], "categories": []}'),
    "via": ("l.json", '{"a.jpg1": {"filename": "a.jpg", "size": 1, "file_attributes": {}, "regions": []}}'),
    "labelme": ("a.json", '{"version": "5", "shapes": [], "imagePath": "a.jpg", "imageHeight": 48, "imageWidth": 64}'),
    "cvat": ("l.xml", CVAT),
    "voc": ("a.xml", VOC),
    "createml": ("l.json", '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1}}]}]'),
    "label-studio": ("l.json", '[{"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"result": []}]}]'),
    "datumaro": ("l.json", '{"categories": {"label": {"labels": []}}, "items": []}'),
    "panoptic": ("l.json", '{"annotations": [{"segments_info": []}], "images": [], "categories": []}'),
    "csv": ("l.csv", "filename,xmin,ymin,xmax,ymax,class\na.jpg,1,2,3,4,x\n"),
    "csv-labels": ("l.csv", "filename,class\na.jpg,x\n"),
    "huggingface": ("metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": [], "categories": []}}\n'),
}
ALSO = {"panoptic": {"panoptic-instances"}}
"""Other forms of the same files."""


def recognised(root: Path) -> set[str]:
    return {name for name, module in FORMATS.items() if module.recognise(root) is not None}


@pytest.mark.parametrize("format", FILES)
def test_a_file_is_of_its_format_alone(tmp_path: Path, format: str) -> None:
    name, content = FILES[format]
    picture(tmp_path / "a.jpg")
    file = text(tmp_path / name, content)
    found = recognised(tmp_path)
    assert found - ALSO.get(format, set()) == {format}
    if format not in ("voc",):  # which is a folder
        assert format in recognised(file)
    with_mark = text(tmp_path / name, "\ufeff" + content)
    assert with_mark == file
    assert format in recognised(tmp_path)


NEAR = [
    ("l.json", "{}"),
    ("l.json", "[]"),
    ("l.json", '{"images": []}'),
    ("l.json", '[{"images": [], "annotations": [], "categories": []}]'),
    ("l.json", '{"data": {"image": "a.jpg"}, "annotations": [{"result": []}]}'),
    ("l.json", '[{"data": {"image": "a.jpg"}}]'),
    ("l.json", '[{"annotations": [{"result": []}]}]'),
    ("l.json", '[{"image": "a.jpg"}]'),
    ("l.json", '[{"coordinates": {"x": 1}}]'),
    ("l.json", '{"filename": "a.jpg"}'),
    ("a.json", '{"imagePath": "a.jpg"}'),
    ("l.xml", "<other/>"),
    ("l.csv", "name,age\na,1\n"),
    ("l.csv", "filename,xmin,ymin\na.jpg,1,2\n"),
    ("metadata.jsonl", '{"file_name": "a.jpg"}\n'),
    ("metadata.jsonl", '{"objects": {}}\n'),
    ("metadata.csv", "file_name,text\na.jpg,b\n"),
    ("l.txt", "hello\n"),
    ("meta.json", '{"classes": [{"title": "x"}]}'),
]


@pytest.mark.parametrize(("name", "content"), NEAR)
def test_what_is_nearly_a_format_is_none(tmp_path: Path, name: str, content: str) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / name, content)
    assert recognised(tmp_path) == set()


def test_folders_of_pictures(tmp_path: Path) -> None:
    """What lies where decides: masks of objects, class maps, and splits of them."""
    for name in ("ids/images/a.png", "ids/instance_ids/a.png"):
        picture(tmp_path / name)
    for name in ("maps/images/a.png", "maps/masks/a.png"):
        picture(tmp_path / name)
    for name in ("split/train/a.png", "split/train_masks/a.png"):
        picture(tmp_path / name)
    for name in ("dsb/one/images/a.png", "dsb/one/masks/b.png"):
        picture(tmp_path / name)
    for name in ("several/one/images/a.png", "several/one/images/b.png", "several/one/masks/b.png"):
        picture(tmp_path / name)
    for name in ("plain/images/a.png", "plain/other/a.png"):
        picture(tmp_path / name)
    found = {folder.name: recognised(folder) for folder in sorted(tmp_path.iterdir())}
    assert found == {
        "dsb": {"masks"},
        "ids": {"masks"},
        "maps": {"semantic"},
        "plain": set(),
        "several": set(),
        "split": {"semantic"},
    }
