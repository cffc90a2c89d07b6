"""Variants of layouts and files that other tools write: every image and label is read, or named."""

from __future__ import annotations

import base64
import io
import os
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.data.check import check
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import Instances

from .helpers import OF_OBJECTS, coco, coco_image, coco_object, everything, picture, rows, text, voc, write_json
from .test_supervisely import RECTANGLE, project

BOX = [("a", 10.0, 10.0, 30.0, 30.0)]


def yolo(root: Path, *names: str, description: str | None = None) -> Path:
    """Images of 64 × 48, each with the box of a quarter of its sides in the middle."""
    for name in names:
        picture(root / "images" / f"{name}.png")
        text(root / "labels" / f"{name}.txt", "0 .5 .5 .25 .25\n")
    if description is None:
        text(root / "classes.txt", "a\n")
    else:
        text(root / "data.yaml", description + "names: [a]\n")
    return root


@pytest.mark.parametrize("to", ["coco", "csv", "createml", "labelme", "via", "voc", "yolo"])
def test_a_split_of_any_name_comes_back(tmp_path: Path, to: str):
    splits = ("train", "val", "holdout")
    description = "".join(f"{split}: images/{split}\n" for split in splits)
    yolo(tmp_path / "in", "train/1", "val/2", "holdout/train/3", description=description)
    convert(tmp_path / "in", tmp_path / "out", to)
    again = open_dataset(tmp_path / "out")
    assert set(again.splits) == set(splits)
    assert {split: len(again[split]) for split in splits} == dict.fromkeys(splits, 1)
    assert not again.orphans


def test_images_of_a_folder_beside_splits_are_named(tmp_path: Path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "a.png")
        text(tmp_path / split / "_annotations.csv", "filename,xmin,ymin,xmax,ymax,class\na.png,10,10,30,30,a\n")
    picture(tmp_path / "unsure" / "b.png")
    notes = open_dataset(tmp_path).notes
    assert "images in no label file, which are left out: 1, the first unsure/b.png" in notes


def test_a_dataset_in_a_folder_that_is_called_labels(tmp_path: Path):
    yolo(tmp_path / "labels", "train/1", "val/2", description="train: images/train\nval: images/val\n")
    yolo(tmp_path / "train", "3")
    assert set(everything(open_dataset(tmp_path / "labels"))) == {("train", "1.png"), ("val", "2.png")}


@pytest.mark.parametrize("to", ["voc", "coco", "yolo"])
def test_an_ending_inside_a_name(tmp_path: Path, to: str):
    yolo(tmp_path / "in", "a.JPG", "a b.c", "x.png")
    convert(tmp_path / "in", tmp_path / "out", to)
    again = open_dataset(tmp_path / "out")
    assert {again.image_name(i) for i in range(len(again))} == {"a.JPG.png", "a b.c.png", "x.png.png"}
    assert [len(again.target(i)) for i in range(3)] == [1, 1, 1]


def test_lists_of_voc_may_hold_whole_names(tmp_path: Path):
    picture(tmp_path / "JPEGImages/a.jpg")
    voc(tmp_path / "Annotations/a.xml", "a.jpg", BOX)
    text(tmp_path / "ImageSets/Main/train.txt", "a.jpg\n")
    assert everything(open_dataset(tmp_path)) == {("train", "a.jpg"): BOX}


def test_a_namespace_in_xml(tmp_path: Path):
    picture(tmp_path / "JPEGImages/a.png")
    voc(tmp_path / "Annotations/a.xml", "a.png", BOX)
    file = tmp_path / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<annotation>", '<annotation xmlns="http://example.org/voc">'))
    assert rows(open_dataset(tmp_path), 0) == BOX
    picture(tmp_path / "cvat/images/a.png")
    image = (
        '<image id="0" name="a.png" width="64" height="48"><box label="a" xtl="10" ytl="10" xbr="30" ybr="30"/></image>'
    )
    text(tmp_path / "cvat/annotations.xml", f'<annotations xmlns="http://example.org/cvat">{image}</annotations>')
    assert rows(open_dataset(tmp_path / "cvat"), 0) == BOX


def test_ids_of_coco_with_more_than_61_bits(tmp_path: Path):
    picture(tmp_path / "a.png")
    big = 2**63 + 5
    content = coco([coco_image(big, "a.png")], [coco_object(big + 1, big, 2**62, [10, 10, 20, 20])], {2**62: "a"})
    write_json(tmp_path / "x.json", content)
    data = open_dataset(tmp_path / "x.json")
    assert rows(data, 0) == BOX
    convert(data, tmp_path / "out", "coco")
    written = (tmp_path / "out/annotations/instances_default.json").read_text()
    for ids in (f'"image_id": {big}', f'"id": {big + 1}', f'"category_id": {2**62}'):
        assert ids in written


def test_sizes_of_coco_as_texts_and_what_is_named(tmp_path: Path):
    picture(tmp_path / "a.png")
    image = coco_image(1, "a.png") | {"height": "48", "width": "64"}
    boxes = [coco_object(1, 1, 1, [10, 10, 20, 20]), coco_object(7, 1, 1, [1, 1, 2, 2]) | {"area": "wide"}]
    write_json(tmp_path / "x.json", coco([image], boxes, {1: "a"}))
    with pytest.raises(InputError, match="annotation 7's area is 'wide', but must be a number"):
        open_dataset(tmp_path)
    data = open_dataset(tmp_path, lenient=True)
    assert data.image_size(0) == (48, 64)
    assert rows(data, 0) == BOX


def test_keypoints_that_change_places_stay_known_through_coco(tmp_path: Path):
    keypoints = np.array([[[20, 20, 2], [30, 20, 2], [25, 30, 2]]], np.float32)
    target = Instances((48, 64), boxes=[[10, 10, 40, 40]], labels=[0], keypoints=keypoints)
    image = np.zeros((3, 48, 64), np.uint8)
    data = Dataset.from_instances([image], [target], ["face"], keypoint_swap=(1, 0, 2)).with_fields("keypoints")
    for step, to in enumerate(("yolo-pose", "coco", "yolo-pose", "coco")):
        convert(data, tmp_path / str(step), to)
        data = open_dataset(tmp_path / str(step)).with_fields("keypoints")
        assert data.keypoint_swap == (1, 0, 2)
        assert data.target(0).keypoints.numpy() == pytest.approx(keypoints, abs=1e-3)


def test_an_image_that_cannot_be_read_is_one_problem(tmp_path: Path):
    yolo(tmp_path, "a", "b")
    (tmp_path / "images/b.png").write_bytes(b"<html>404</html>")
    errors = [problem for problem in check(open_dataset(tmp_path), progress=False).problems if problem.level == "error"]
    assert [(problem.rule, problem.file) for problem in errors] == [("image-unreadable", "images/b.png")]


def test_an_archive_inside_a_folder_is_pointed_at(tmp_path: Path):
    yolo(tmp_path / "in", "a")
    (tmp_path / "given").mkdir()
    with zipfile.ZipFile(tmp_path / "given/data.zip", "w") as packed:
        for file in (tmp_path / "in").rglob("*.*"):
            packed.write(file, file.relative_to(tmp_path / "in"))
    with pytest.raises(InputError, match=r"may be in data\.zip: give the path of that file"):
        open_dataset(tmp_path / "given")
    assert len(open_dataset(tmp_path / "given/data.zip")) == 1


def test_datasets_of_supervisely_inside_each_other(tmp_path: Path):
    project(tmp_path, RECTANGLE, dataset="site/datasets/day")
    project(tmp_path, RECTANGLE, dataset="site/datasets/night", name="b.jpg")
    assert len(open_dataset(tmp_path)) == 2


def test_datasets_of_supervisely_beside_splits_keep_their_names(tmp_path: Path):
    for number, name in enumerate(("train", "val", "holdout")):
        project(tmp_path, RECTANGLE, dataset=name, name=f"{number}.jpg")
    data = open_dataset(tmp_path)
    assert {split: len(data[split]) for split in data.splits} == {"train": 1, "val": 1, "holdout": 1}


def test_masks_that_cannot_be_read_are_named(tmp_path: Path):
    picture(tmp_path / "images/default/a.png")
    mask = {"id": 0, "type": "mask", "label_id": 0, "rle": {"counts": "PPY14", "size": [48, 64]}}
    items = [{"id": "a", "annotations": [mask], "image": {"path": "a.png", "size": [48, 64]}}]
    labels = {"label": {"labels": [{"name": "a", "parent": "", "attributes": []}]}}
    write_json(tmp_path / "annotations/default.json", {"info": {}, "categories": labels, "items": items})
    with pytest.raises(InputError, match=r"a\.png: annotation 0: the counts of an RLE"):
        open_dataset(tmp_path)
    shape = {"label": "a", "points": [[10, 10], [30, 30]], "shape_type": "mask", "flags": {}}
    picture(tmp_path / "labelme/a.png")
    content = {"shapes": [shape], "imagePath": "a.png", "imageData": None, "imageHeight": 48, "imageWidth": 64}
    write_json(tmp_path / "labelme/a.json", content)
    with pytest.raises(InputError, match="shape 0 is a mask without an image"):
        open_dataset(tmp_path / "labelme")


@pytest.mark.parametrize("place", ["labels", "labels/train", "images"])
def test_names_of_classes_among_the_labels(tmp_path: Path, place: str):
    yolo(tmp_path, "train/1", "val/2")
    (tmp_path / "classes.txt").unlink()
    text(tmp_path / place / "classes.txt", "zebra\nlion\n")
    text(tmp_path / "labels/val/classes.txt", "zebra\n")
    data = open_dataset(tmp_path)
    assert (tuple(data.classes), data.splits, data.orphans) == (("zebra", "lion"), ("train", "val"), ())


def test_names_that_differ_between_folders_are_refused(tmp_path: Path):
    yolo(tmp_path, "train/1", "val/2")
    text(tmp_path / "labels/train/classes.txt", "zebra\nlion\n")
    text(tmp_path / "labels/val/classes.txt", "lion\nzebra\n")
    assert tuple(open_dataset(tmp_path).classes) == ("a",)  # the list of the dataset's own folder decides
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(
        InputError, match=r"val/classes\.txt names class 0 'lion', but .*train/classes\.txt names it 'z"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("to", sorted(set(OF_OBJECTS) - {"yolo-pose", "yolo-seg"}))
def test_more_images_do_not_need_more_looks_into_folders(
    tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    for number, images in enumerate((4, 16)):
        home = tmp_path / str(number)
        for k in range(images):
            picture(home / "in/images" / f"{k}.png")
            text(home / "in/labels" / f"{k}.txt", "0 .2 .2 .7 .2 .7 .7\n")
        convert(home / "in", home / "out", to)
        looks.append(0)

        def counted(*args: Any, look: Any) -> Any:
            looks[-1] += 1
            return look(*args)

        with monkeypatch.context() as patched:
            for name in ("listdir", "scandir"):
                patched.setattr(os, name, partial(counted, look=getattr(os, name)))
            assert len(open_dataset(home / "out")) == images
    assert looks[0] == looks[1]


def test_voc_of_folders_of_splits_inside_those_of_images_and_labels(tmp_path: Path):
    for split in ("train", "valid"):
        picture(tmp_path / "images" / split / "a.png")
        voc(tmp_path / "annotations" / split / "a.xml", "a.png", BOX)
    voc(tmp_path / "annotations/train/b.xml", "b.png", BOX)
    voc(tmp_path / "annotations/train/b.xml", "b.png", BOX)
    data = open_dataset(tmp_path)
    assert everything(data) == {("train", "a.png"): BOX, ("val", "a.png"): BOX}
    assert data.orphans == ("annotations/train/b.xml",)
    picture(tmp_path / "images" / "c.png")  # belongs to no split: then the folders are no splits
    assert open_dataset(tmp_path).splits == ("all",)


def labelme(path: Path) -> None:
    shape = {"label": "a", "points": [[10, 10], [30, 30]], "shape_type": "rectangle", "flags": {}}
    content = {"shapes": [shape], "imagePath": "a.png", "imageData": None, "imageHeight": 48, "imageWidth": 64}
    write_json(path, content)


def createml(path: Path) -> None:
    box = {"label": "a", "coordinates": {"x": 20, "y": 20, "width": 20, "height": 20}}
    write_json(path, [{"image": "a.png", "annotations": [box]}])


def via(path: Path) -> None:
    shape = {"name": "rect", "x": 10, "y": 10, "width": 20, "height": 20}
    region = {"shape_attributes": shape, "region_attributes": {"class": "a"}}
    write_json(path, {"a.png1": {"filename": "a.png", "size": 1, "regions": [region], "file_attributes": {}}})


@pytest.mark.parametrize(
    ("write", "image", "label"),
    [
        (labelme, "images/{}/a.png", "labels/{}/a.json"),
        (createml, "{}/images/a.png", "{}/labels/a.json"),
        (via, "images/{}/a.png", "annotations/{}.json"),
        (via, "images/{}/a.png", "{}.json"),
    ],
)
def test_splits_by_folders_of_images_and_labels(tmp_path: Path, write: Any, image: str, label: str):
    for split in ("train", "valid"):
        picture(tmp_path / image.format(split))
        write(tmp_path / label.format(split))
    data = open_dataset(tmp_path)
    assert {split: rows(data[split], 0) for split in data.splits} == {"train": BOX, "val": BOX}
    assert data.orphans == ()


def test_folders_like_splits_that_are_none_are_said(tmp_path: Path):
    for place in ("images/north/train/1", "images/south/test/2"):
        picture(tmp_path / f"{place}.png")
        text(tmp_path / f"{place.replace('images', 'labels')}.txt", "0 .5 .5 .25 .25\n")
    text(tmp_path / "classes.txt", "a\n")
    data = open_dataset(tmp_path)
    assert data.splits == ("all",)
    assert data.notes[0].startswith("images are in folders named test and train, but this layout has no splits")


def test_images_in_inner_folders_that_no_file_lists_are_named(tmp_path: Path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "more/b.png")
    text(tmp_path / "boxes.csv", "filename,xmin,ymin,xmax,ymax,class\na.png,10,10,30,30,a\n")
    assert "images in no label file, which are left out: 1, the first more/b.png" in open_dataset(tmp_path).notes


def test_createml_in_utf_16(tmp_path: Path):
    picture(tmp_path / "a.png")
    createml(tmp_path / "a.json")
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text(), encoding="utf-16")
    assert rows(open_dataset(tmp_path), 0) == BOX


def test_label_studio_says_what_does_not_count(tmp_path: Path):
    picture(tmp_path / "a.png", (80, 100))

    def annotation(at: str, *labels: str) -> dict[str, Any]:
        value = {"x": 10, "y": 12.5, "width": 20, "height": 25, "rotation": 0, "rectanglelabels": list(labels)}
        one = {"type": "rectanglelabels", "original_width": 100, "original_height": 80, "value": value}
        return {"created_at": at, "result": [one]}

    annotations = [annotation("2024-02-01", "a", "b"), annotation("2024-01-01", "c")]
    write_json(tmp_path / "x.json", [{"id": 1, "data": {"image": "a.png"}, "annotations": annotations}])
    data = open_dataset(tmp_path)
    assert rows(data, 0) == BOX
    assert "x.json: tasks with several annotations, of which the newest is used: 1" in data.notes
    assert "x.json: regions with several labels, of which the first is the class: 1" in data.notes


def test_keys_of_data_yaml_in_upper_case(tmp_path: Path):
    yolo(tmp_path, "train/1")
    text(tmp_path / "DATA.YAML", "TRAIN: images/train\nNAMES: [zebra]\n")
    data = open_dataset(tmp_path)
    assert (data.splits, tuple(data.classes)) == (("train",), ("zebra",))


def test_a_mask_that_claims_to_be_gigantic_is_named(tmp_path: Path):
    content = io.BytesIO()
    Image.new("1", (8, 8)).save(content, "PNG")
    data = bytearray(content.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    picture(tmp_path / "a.png")
    mask = base64.b64encode(data).decode()
    shape = {"label": "a", "points": [[1, 1], [8, 8]], "shape_type": "mask", "mask": mask, "flags": {}}
    content_of = {"shapes": [shape], "imagePath": "a.png", "imageData": None, "imageHeight": 48, "imageWidth": 64}
    write_json(tmp_path / "a.json", content_of)
    with pytest.raises(InputError, match="shape 0 is a mask whose image cannot be read"):
        open_dataset(tmp_path)
