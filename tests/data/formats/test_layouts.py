"""What readers of all formats do alike: missing splits, folders beside splits, letter case, folders of labels alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sightline as sl
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import Instances

from .helpers import coco, coco_image, coco_object, picture, text, voc, write_json

LINE = "0 0.5 0.5 0.25 0.5\n"


class TestMissingSplits:
    @pytest.mark.parametrize(
        ("config", "missing"),
        [
            ("train: images\nval: /mnt/other/holdout/images\n", {"val"}),
            ("train: images\nval: ../valid/images\n", {"val"}),
            ("train: images\nval: valid.txt\n", {"val"}),
            ("train: images/train\nval: images\n", {"train"}),
            ("train: /home/me/set/images\nval: /home/you/images\n", {"train", "val"}),
            ("train: /home/me/set/images\n", set()),  # the whole set has moved
        ],
    )
    def test_no_other_folder_takes_their_place(self, tmp_path: Path, config: str, missing: set[str]):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        text(tmp_path / "data.yaml", config + "names: [a]\n")
        if missing == {"train", "val"}:
            with pytest.raises(InputError, match="none of its splits exists"):
                open_dataset(tmp_path)
            return
        data = open_dataset(tmp_path)
        assert set(data.missing_splits) == missing
        assert set(data.splits) == {"train", "val"} - missing if missing else {"train"}
        for split in missing:
            with pytest.raises(InputError, match=f"the split '{split}' is missing"):
                data[split]
            (problem,) = sl.check(data, progress=False).of_rule("split-missing")
            assert problem.level == "error"

    def test_training_does_not_take_other_images(self, tmp_path: Path):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        text(tmp_path / "data.yaml", "train: images\nval: elsewhere/images\nnames: [a]\n")
        model = sl.create_model("ssdlite320_mobilenet_v3_large", classes=["a"])
        with pytest.raises(InputError, match="the split 'val' is missing"):
            sl.train(model, tmp_path)

    def test_of_a_list_no_line_takes_the_image_of_another(self, tmp_path: Path):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        text(tmp_path / "train.txt", "images/a.png\n")
        text(tmp_path / "val.txt", "/mnt/holdout/images/a.png\n")
        text(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [a]\n")
        data = open_dataset(tmp_path)
        assert [len(data), data.splits, data.orphans] == [1, ("train",), ("val.txt: /mnt/holdout/images/a.png",)]

    def test_splits_of_the_same_images_are_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        text(tmp_path / "data.yaml", "train: images\nval: images\nnames: [a]\n")
        data = open_dataset(tmp_path)
        assert "train and val are the same 1 image" in caplog.text
        (problem,) = sl.check(data, progress=False, full=False).of_rule("splits-share-images")
        assert problem.what == "train and val are the same 1 image"


class TestFoldersOfSplits:
    def test_other_folders_are_named(self, tmp_path: Path):
        for name in ("train/a", "val/b", "batch2/c", "d"):
            picture(tmp_path / f"images/{name}.png")
            text(tmp_path / f"labels/{name}.txt", LINE)
        data = open_dataset(tmp_path)
        assert [data.splits, len(data)] == [("train", "val"), 2]
        assert data.orphans == (
            "images/batch2: 1 image in no split",
            "images: 1 image in no split",
        )
        assert len(sl.check(data, progress=False).of_rule("image-left-out")) == 2

    def test_labels_that_no_image_of_a_split_has_are_named(self, tmp_path: Path):
        for name in ("train/a", "val/b"):
            picture(tmp_path / f"images/{name}.png")
        text(tmp_path / "labels/a.txt", LINE)
        assert open_dataset(tmp_path).orphans == ("labels/a.txt",)
        text(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: [a]\n")
        assert open_dataset(tmp_path).orphans == ("labels/a.txt",)

    def test_of_coco_images_that_no_file_lists_are_named(self, tmp_path: Path):
        for split in ("train", "valid", "extra"):
            picture(tmp_path / split / "1.jpg")
        for split in ("train", "valid"):
            write_json(tmp_path / split / "_annotations.coco.json", coco([coco_image(1, "1.jpg")], [], {1: "a"}))
        data = open_dataset(tmp_path)
        assert [data.splits, data.orphans] == [("train", "val"), ("extra: 1 image in no split",)]

    def test_of_voc_images_that_no_list_names_are_named(self, tmp_path: Path):
        for name in "ab":
            picture(tmp_path / f"JPEGImages/{name}.jpg")
            voc(tmp_path / f"Annotations/{name}.xml", f"{name}.jpg", [("cup", 1, 2, 3, 4)])
        text(tmp_path / "ImageSets/Main/train.txt", "a\n")
        assert open_dataset(tmp_path).orphans == ("JPEGImages: 1 image in no split",)

    def test_two_folders_for_one_split(self, tmp_path: Path):
        for name in ("train/a", "val/b", "valid/c"):
            picture(tmp_path / f"{name}.png")
            text(tmp_path / f"{name}.txt", LINE)
        assert {data: len(open_dataset(tmp_path)[data]) for data in open_dataset(tmp_path).splits} == {
            "train": 1,
            "val": 1,
            "valid": 1,
        }

    @pytest.mark.parametrize("to", ["coco", "voc", "yolo", "yolo-seg", "via", "labelme", "cvat", "masks", "semantic"])
    @pytest.mark.parametrize(
        ("names", "splits"),
        [
            (["train/1.png", "batch2/2.png", "3.png"], None),
            (["train/1.png", "val/2.png", "test/deep/3.png"], None),
            (["images/1.png", "labels/2.png", "annotations/3.png"], None),
            (["val/1.png", "train/2.png", "3.png"], ["train", "val", "train"]),
            (["train/1.png", "train/2.png", "train/3.png"], ["train", "val", "test"]),
        ],
    )
    def test_written_and_read_again(self, tmp_path: Path, to: str, names: list[str], splits: list[str] | None):
        pictures = [torch.full((3, 8, 8), 40 * k, dtype=torch.uint8) for k in range(3)]
        masks = torch.zeros(1, 8, 8, dtype=torch.bool)
        masks[0, 1:5, 1:4] = True
        targets = [Instances((8, 8), boxes=[[1, 1, 4, 5]], labels=[0], masks=masks) for _ in range(3)]
        data = sl.Dataset.from_instances(pictures, targets, ["x", "y"], names=names, splits=splits)
        convert(data, tmp_path / "out", to)
        again = open_dataset(tmp_path / "out")
        assert len(again) == 3
        assert {again.split_of(i) for i in range(3)} == set(splits or ["all"])


class TestLetterCase:
    @pytest.mark.parametrize("ending", [".TXT", ".txt"])
    @pytest.mark.parametrize("folders", [("images", "labels"), ("Images", "Labels"), ("IMAGES", "LABELS")])
    def test_yolo(self, tmp_path: Path, folders: tuple[str, str], ending: str):
        picture(tmp_path / folders[0] / "a.JPG")
        text(tmp_path / folders[1] / f"a{ending}", LINE)
        data = open_dataset(tmp_path)
        assert [len(data), data.columns.objects, data.orphans] == [1, 1, ()]

    @pytest.mark.parametrize("folder", ["Annotations", "annotations", "ANNOTATIONS"])
    def test_voc(self, tmp_path: Path, folder: str):
        picture(tmp_path / "jpegimages/a.JPG")
        voc(tmp_path / folder / "a.XML", "a.JPG", [("cup", 1, 2, 3, 4)])
        data = open_dataset(tmp_path)
        assert [len(data), data.columns.objects, data.orphans] == [1, 1, ()]

    def test_coco(self, tmp_path: Path):
        picture(tmp_path / "IMAGES/a.JPG")
        content = coco([coco_image(1, "a.JPG")], [coco_object(1, 1, 1, [1, 2, 3, 4])], {1: "cup"})
        write_json(tmp_path / "ANNOTATIONS/x.JSON", content)
        data = open_dataset(tmp_path)
        assert data.path(0) == tmp_path / "IMAGES/a.JPG"
        assert data.image(0).shape == (3, 48, 64)

    def test_labelme(self, tmp_path: Path):
        picture(tmp_path / "IMAGES/a.PNG")
        shape = {"label": "cup", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}
        content = {"imagePath": "a.PNG", "imageHeight": 48, "imageWidth": 64, "shapes": [shape]}
        text(tmp_path / "Labels/a.JSON", json.dumps(content))
        data = open_dataset(tmp_path)
        assert [len(data), data.columns.objects, data.path(0)] == [1, 1, tmp_path / "IMAGES/a.PNG"]


class TestSameStem:
    def test_voc_goes_by_the_name_in_the_file(self, tmp_path: Path):
        for name in ("a.jpg", "a.png"):
            picture(tmp_path / "JPEGImages" / name)
        voc(tmp_path / "Annotations/a.xml", "a.jpg", [("cup", 1, 2, 3, 4)])
        data = open_dataset(tmp_path)
        assert {data.image_name(i): len(data.target(i)) for i in range(2)} == {"a.jpg": 1, "a.png": 0}
        text(tmp_path / "ImageSets/Main/train.txt", "a\n")
        listed = open_dataset(tmp_path)
        assert [listed.image_name(i) for i in range(len(listed))] == ["a.jpg"]

    def test_yolo_gives_the_label_to_both(self, tmp_path: Path):
        for name in ("a.jpg", "a.png"):
            picture(tmp_path / "images" / name)
        text(tmp_path / "labels/a.txt", LINE)
        data = open_dataset(tmp_path)
        assert [len(data.target(i)) for i in range(2)] == [1, 1]


class TestNames:
    def test_of_data_yaml_are_the_text_in_the_file(self, tmp_path: Path):
        picture(tmp_path / "images/a.png")
        names = ["on", "off", "0123", "12:30", "1.10", "null", "~", "0x1F", "1e3", "2020-01-01", "yes"]
        text(tmp_path / "data.yaml", "train: images\nnames:\n" + "".join(f"  - {name}\n" for name in names))
        assert list(open_dataset(tmp_path).classes) == names

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_in_other_encodings(self, tmp_path: Path, encoding: str, end: str):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        (tmp_path / "classes.txt").write_bytes(f"猫{end} 狗 {end}cup{end}".encode(encoding))
        assert list(open_dataset(tmp_path).classes) == ["猫", "狗", "cup"]

    def test_a_data_yaml_that_cannot_be_read_is_the_cause(self, tmp_path: Path):
        picture(tmp_path / "images/a.png")
        (tmp_path / "data.yaml").write_bytes("train: images\nnames: [狗]\n".encode("gbk"))
        with pytest.raises(InputError, match=r"data\.yaml is not UTF-8 \(line 2\)"):
            open_dataset(tmp_path)

    def test_an_empty_line_among_them_is_refused(self, tmp_path: Path):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        text(tmp_path / "classes.txt", "cat\n\ndog\n\n")
        with pytest.raises(InputError, match=r"classes\.txt: line 2 is empty, so the ids of the names after it are"):
            open_dataset(tmp_path)

    def test_in_latin_1(self, tmp_path: Path):
        picture(tmp_path / "images/a.png")
        text(tmp_path / "labels/a.txt", LINE)
        (tmp_path / "classes.txt").write_bytes("Löwe\nélan\n".encode("latin-1"))
        assert list(open_dataset(tmp_path).classes) == ["Löwe", "élan"]

    @pytest.mark.parametrize("to", ["coco", "voc", "yolo", "via", "labelme", "cvat"])
    def test_spaces_around_them_do_not_count(self, tmp_path: Path, to: str):
        picture(tmp_path / "in/a.png")
        objects = [coco_object(1, 1, 2, [10, 10, 20, 20])]
        write_json(tmp_path / "in/a.json", coco([coco_image(1, "a.png")], objects, {1: "bus", 2: " dog "}))
        convert(tmp_path / "in", tmp_path / "out", to)
        data = open_dataset(tmp_path / "out")
        assert list(data.classes) == ["bus", "dog"]
        assert data.target(0).names() == ["dog"]

    def test_that_differ_in_spaces_alone_are_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        picture(tmp_path / "a.png")
        write_json(tmp_path / "a.json", coco([coco_image(1, "a.png")], [], {1: "dog", 2: " dog "}))
        data = open_dataset(tmp_path)
        assert list(data.classes) == ["dog"]
        assert "categories 1, 2 all have the name 'dog'" in caplog.text
        assert len(sl.check(data, progress=False).of_rule("reading-note")) == 1


class TestFoldersOfLabels:
    def test_coco_annotations_alone(self, tmp_path: Path):
        picture(tmp_path / "train/a.png")
        content = coco([coco_image(1, "a.png")], [coco_object(1, 1, 1, [1, 2, 3, 4])], {1: "cup"})
        write_json(tmp_path / "annotations/instances_train.json", content)
        for given in ("annotations", "annotations/instances_train.json", ""):
            data = open_dataset(tmp_path / given)
            assert data.path(0) == tmp_path / "train/a.png"
            assert data.image(0).shape == (3, 48, 64)

    def test_voc_and_yolo(self, tmp_path: Path):
        picture(tmp_path / "voc/JPEGImages/a.png")
        voc(tmp_path / "voc/Annotations/a.xml", "a.png", [("cup", 1, 2, 3, 4)])
        assert len(open_dataset(tmp_path / "voc/Annotations").target(0)) == 1
        picture(tmp_path / "yolo/images/a.png")
        text(tmp_path / "yolo/labels/a.txt", LINE)
        assert len(open_dataset(tmp_path / "yolo/labels").target(0)) == 1
