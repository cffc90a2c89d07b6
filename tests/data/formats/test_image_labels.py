"""Labels of whole images: folders of classes, CSV lists, COCO categories; each written and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.data.formats.image_labels import in_class_order
from sightline.errors import InputError
from sightline.structures import ClassScores
from sightline.words import counted

from .helpers import coco, coco_image, picture, text, write_json


def labels(data: Dataset) -> dict[tuple[str, str], str]:
    """The class of each image by split and path."""
    assert data.kind == "class_scores"
    found = {}
    for i in range(len(data)):
        target = data.target(i)
        assert isinstance(target, ClassScores)
        assert target.label is not None
        found[data.split_of(i), data.name(i)] = data.classes[target.label]
    return found


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


FLOWERS = ("train/rose/a.jpg", "train/rose/deep/b.jpg", "train/tulip/a.jpg", "valid/rose/c.jpg", "valid/tulip/d.jpg")


class TestFolders:
    @pytest.mark.parametrize("further", ["montage.jpg", "tulip/deep/b.jpg"])
    def test_the_refusal_of_folders_that_may_be_classes_says_how_to_read_them(
        self, tmp_path: Path, further: str
    ) -> None:
        """An image beside the folders, or a folder with images only in its subfolders."""
        names = ("rose/a.jpg", "rose/b.jpg", "tulip/more/a.jpg" if "deep" in further else "tulip/a.jpg", further)
        with pytest.raises(InputError, match=r"if its folders \(rose, tulip\) are the classes .* add --format folders"):
            open_dataset(pictures(tmp_path, *names))
        data = open_dataset(tmp_path, format="folders")
        assert list(data.classes) == ["rose", "tulip"]

    @pytest.mark.parametrize("folder", ["__MACOSX", "@eaDir", ".thumbnails"])
    def test_folders_of_systems_are_no_classes(self, tmp_path: Path, folder: str) -> None:
        names = ("tulip/a.jpg", "rose/a.jpg", f"{folder}/b.jpg", f"{folder}/rose/b.jpg", f"rose/{folder}/b.jpg")
        data = open_dataset(pictures(tmp_path, *names))
        assert list(data.classes) == ["rose", "tulip"]
        assert [data.name(i) for i in range(len(data))] == ["rose/a.jpg", "tulip/a.jpg"]
        renamed = data.with_class_mapping({"rose": folder})
        with pytest.raises(InputError, match="cannot be the name of a folder"):
            convert(renamed, tmp_path / "out", "folders")

    def test_a_folder_a_class(self, tmp_path: Path) -> None:
        data = open_dataset(pictures(tmp_path, "tulip/a.jpg", "rose/a.jpg", "rose/b.png"))
        assert data.format == "folders"
        expected = {("all", "rose/a.jpg"): "rose", ("all", "rose/b.png"): "rose", ("all", "tulip/a.jpg"): "tulip"}
        assert labels(data) == expected
        assert list(data.classes) == ["rose", "tulip"]
        image, target = data[0]
        assert image.shape == (3, 48, 64)
        assert target.image_size == (48, 64)

    def test_splits_and_deeper_folders(self, tmp_path: Path) -> None:
        data = open_dataset(pictures(tmp_path, *FLOWERS))
        assert data.splits == ("train", "val")
        by_name = {name: label for (_, name), label in labels(data).items()}
        assert by_name == {name: name.split("/")[1] for name in FLOWERS}
        assert data.image_name(1) == "rose/deep/b.jpg"

    def test_what_is_beside_is_said(self, tmp_path: Path) -> None:
        pictures(tmp_path, *FLOWERS, "train/stray.jpg", "new/x.jpg", "cover.jpg")
        (tmp_path / "train" / "lily").mkdir()
        data = open_dataset(tmp_path)
        assert list(data.classes) == ["lily", "rose", "tulip"]
        assert data.notes == ("class 'lily' has no images",)
        assert data.orphans == (
            "train/stray.jpg: 1 image in no class's folder",
            ".: 1 image in no split",
            "new: 1 image in no split",
        )

    def test_order_of_classes(self, tmp_path: Path) -> None:
        pictures(tmp_path, *(f"{k}/a.jpg" for k in (10, 9, 1)))
        assert list(open_dataset(tmp_path).classes) == ["1", "9", "10"]
        text(tmp_path / "classes.txt", "9\n10\n1\n0\n")
        assert list(open_dataset(tmp_path).classes) == ["9", "10", "1", "0"]
        assert list(open_dataset(tmp_path, classes=["10", "9", "1"]).classes) == ["10", "9", "1"]
        text(tmp_path / "classes.txt", "9\n10\n")  # not all of them
        assert list(open_dataset(tmp_path).classes) == ["1", "9", "10"]
        assert in_class_order(["10", "9", "x"]) == ["10", "9", "x"]

    def test_a_folder_of_no_class_given(self, tmp_path: Path) -> None:
        pictures(tmp_path, "rose/a.jpg", "tulip/a.jpg")
        with pytest.raises(InputError, match=r"tulip has class 'tulip', which is not among the classes \(rose\)"):
            open_dataset(tmp_path, classes=["rose"])
        data = open_dataset(tmp_path, classes=["rose"], lenient=True)
        assert set(labels(data).values()) == {"rose"}
        assert len(data.malformed) == 1

    def test_splits_that_are_named(self, tmp_path: Path) -> None:
        pictures(tmp_path, "one/rose/a.jpg", "one/tulip/b.jpg", "two/rose/c.jpg")
        data = open_dataset(tmp_path, train="one", val="two", format="folders")
        assert [key[0] for key in labels(data)] == ["train", "train", "val"]
        pictures(tmp_path, "train/rose/d.jpg", "train/tulip/d.jpg", "val/rose/d.jpg")
        data = open_dataset(tmp_path, train="train", test="val")
        assert [key[0] for key in labels(data)] == ["train", "train", "test"]
        assert data.orphans == ()  # what was not named is not asked for

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        assert list(open_dataset(pictures(tmp_path, "train/a.jpg", "car/b.jpg")).classes) == ["car", "train"]

    @pytest.mark.parametrize(
        "names",
        [
            ("train/a.jpg", "val/b.jpg"),
            ("images/a.jpg", "masked/b.jpg"),
            ("rose/a.jpg",),
            ("rose/a.jpg", "tulip/b.jpg", "c.jpg"),
            ("train/a.jpg", "trainer/b.jpg"),
            ("train/rose/a.jpg", "val/rose/a.jpg"),
            ("here/pictures/a.jpg", "there/pictures/b.jpg"),
        ],
    )
    def test_what_is_no_folder_of_classes(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        with pytest.raises(InputError, match="it is not a dataset in a known format"):
            open_dataset(pictures(tmp_path, *names))

    @pytest.mark.parametrize("names", [("rose/a.jpg",), ("train/rose/a.jpg", "val/rose/b.jpg")])
    def test_a_folder_of_one_class_says_what_is_missing(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        (pictures(tmp_path, *names) / "tulip").mkdir()
        wanted = f"contains {counted(len(names))}, .* in folders named rose, and a classifier needs the folders of two"
        with pytest.raises(InputError, match=wanted):
            open_dataset(tmp_path)

    def test_folders_with_labels_of_their_own_are_no_classes(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a/1.jpg", "b/2.jpg")
        text(tmp_path / "a" / "1.json", "{}")
        with pytest.raises(InputError, match="not a dataset in a known format"):
            open_dataset(tmp_path)

    def test_flowers(self, shared: Path) -> None:
        data = open_dataset(shared / "data" / "flowers")
        assert {split: len(data[split]) for split in data.splits} == {"train": 1000, "val": 300}
        assert list(data.classes) == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
        assert all(label == name.split("/")[1] for (_, name), label in labels(data[::50]).items())


class TestCsv:
    @pytest.mark.parametrize(
        ("content", "how"),
        [
            ("filename,class\na.jpg,cat\nsub/b.jpg,dog\n", "image from filename; class from class"),
            ("label;path\ncat;images/a.jpg\ndog;images/sub/b.jpg\n", "image from path; class from label"),
            ("id\tbreed\na\tcat\nb\tdog\n", "image from id; class from breed"),
            ("file,index,wnid,name\na.jpg,1,n1,cat\nb.jpg,2,n2,dog\n", "image from file; class from name"),
            ("image,label,class_name\na.jpg,0,cat\nb.jpg,1,dog\n", "image from image; class from class_name"),
            ("a.jpg,cat\nb.jpg,dog\n", "columns by position: image from 1; class from 2"),
            ('"Image ID" , Label\n"a"," cat "\n\nb,dog\n', "image from Image ID; class from Label"),
            ("filename, Unlabeled, dog, cat\na.jpg, 0, 0, 1\nsub/b.jpg, 0, 1, 0\n",
             "image from filename; class from the 3 columns from Unlabeled to cat (1 marks the class)"),
            ("image;cat;dog\na.jpg;1.0;0.0\nb.jpg;;True\n", "class from the 2 columns from cat to dog"),
            ("filename,width,height,class\na.jpg,64,48,cat\nb.jpg,64,48,dog\n", "class from class"),
        ],
    )  # fmt: skip
    def test_columns(self, tmp_path: Path, content: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
        pictures(tmp_path, "images/a.jpg", "images/sub/b.jpg")
        text(tmp_path / "l.csv", content)
        data = open_dataset(tmp_path)
        assert data.format == "csv-labels"
        assert labels(data) == {("all", "images/a.jpg"): "cat", ("all", "images/sub/b.jpg"): "dog"}
        assert how in data.notes[0]
        caplog.clear()
        assert labels(open_dataset(tmp_path / "l.csv")) == labels(data)
        assert [m.startswith(f"{tmp_path / 'l.csv'}: columns") for m in caplog.messages] == [True]

    def test_splits_of_a_column_and_of_files(self, tmp_path: Path) -> None:
        pictures(tmp_path / "1", "a.jpg", "b.jpg")
        text(tmp_path / "1" / "l.csv", "file,label,split\na.jpg,x,training\nb.jpg,y,valid\n")
        assert labels(open_dataset(tmp_path / "1")) == {("train", "a.jpg"): "x", ("val", "b.jpg"): "y"}
        pictures(tmp_path / "2", "train/a.jpg", "val/b.jpg")
        text(tmp_path / "2" / "train.tsv", "file\tlabel\na.jpg\tx\n")
        text(tmp_path / "2" / "val.tsv", "file\tlabel\nb.jpg\ty\n")
        text(tmp_path / "2" / "sample_submission.csv", "id,label\na,x\n")
        data = open_dataset(tmp_path / "2")
        assert labels(data) == {("train", "train/a.jpg"): "x", ("val", "val/b.jpg"): "y"}
        assert list(data.classes) == ["x", "y"]

    def test_order_of_classes(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.jpg", "b.jpg")
        text(tmp_path / "l.csv", "file,label\na.jpg,10\nb.jpg,9\n")
        assert list(open_dataset(tmp_path).classes) == ["9", "10"]
        text(tmp_path / "classes.csv", "10,0\n8,1\n9,2\n")
        assert list(open_dataset(tmp_path).classes) == ["10", "8", "9"]
        (tmp_path / "classes.csv").unlink()
        text(tmp_path / "classes.txt", "9\n7\n10\n")
        assert list(open_dataset(tmp_path).classes) == ["9", "7", "10"]

    def test_images_without_row_and_rows_without_image(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.jpg", "b.jpg", "more.jpg")
        text(tmp_path / "l.csv", "file,label\nnone.jpg,cat\nb.jpg,dog\nb.jpg,dog\na.jpg,cat\n")
        data = open_dataset(tmp_path)
        assert labels(data) == {("all", "b.jpg"): "dog", ("all", "a.jpg"): "cat"}
        assert data.orphans == ("l.csv: none.jpg",)
        assert any("images in no label file, which are left out: 1, the first more.jpg" in note for note in data.notes)

    @pytest.mark.parametrize(
        ("rows", "sentence", "kept"),
        [
            ("a.jpg,cat\nb.jpg,\n", r"row 3 has no class for b\.jpg; write one", {"a.jpg": "cat"}),
            (",cat\na.jpg,cat\n", "row 2 has no image name", {"a.jpg": "cat"}),
            ("a.jpg,cat\na.jpg,dog\n", r"row 3 gives a\.jpg the class 'dog', but another row gives it 'cat', and an "
             "image has one class", {"a.jpg": "cat"}),
            ("a.jpg,cat,more\nb.jpg,dog\n", "row 2 has 3 fields, but there are 2 columns", {"b.jpg": "dog"}),
        ],
    )  # fmt: skip
    def test_mistakes(self, tmp_path: Path, rows: str, sentence: str, kept: dict[str, str]) -> None:
        pictures(tmp_path, "a.jpg", "b.jpg")
        text(tmp_path / "l.csv", f"file,label\n{rows}")
        with pytest.raises(InputError, match=sentence):
            open_dataset(tmp_path)
        data = open_dataset(tmp_path, lenient=True)
        assert {name: label for (_, name), label in labels(data).items()} == kept

    @pytest.mark.parametrize(
        ("row", "sentence"),
        [
            ("b.jpg,1,1,0", r"row 3 marks 2 classes \(cat, dog\), but an image has one class; keep one"),
            ("b.jpg,0,0,0", r"row 3 has no class for b\.jpg"),
            ("b.jpg,0,2,0", r"row 3 has '2' in the column dog, but columns of classes have 0 or 1"),
        ],
    )
    def test_mistakes_in_columns_of_classes(self, tmp_path: Path, row: str, sentence: str) -> None:
        pictures(tmp_path, "a.jpg", "b.jpg")
        text(tmp_path / "l.csv", f"file,cat,dog,eel\na.jpg,0,1,0\n{row}\n")
        with pytest.raises(InputError, match=sentence):
            open_dataset(tmp_path)
        assert labels(open_dataset(tmp_path, lenient=True)) == {("all", "a.jpg"): "dog"}

    def test_a_class_that_was_not_given(self, tmp_path: Path) -> None:
        pictures(tmp_path, "a.jpg", "b.jpg")
        text(tmp_path / "l.csv", "file,label\na.jpg,cat\nb.jpg,dog\n")
        with pytest.raises(InputError, match=r"row 3 has class 'dog', which is not among the classes \(cat\)"):
            open_dataset(tmp_path, classes=["cat"])
        data = open_dataset(tmp_path, classes=["cat"], lenient=True)
        assert labels(data) == {("all", "a.jpg"): "cat"}
        assert data.notes[-1] == "1 image without a class, left out; the first is b.jpg"

    @pytest.mark.parametrize(
        "content",
        [
            "image,caption\na.jpg,a cat\n",
            "ImageId,EncodedPixels\na.jpg,1 2 3\n",
            "filename,class,xmin,ymin\na.jpg,cat,1,2\n",  # a box that lacks two corners
            "id,name,age\n1,Ann,33\n",
            "file,smiling,width\na.jpg,1,64\n",
            "file,smiling\na.jpg,1\n",
            "id,smiling,young\n1,1,0\n",
        ],
    )
    def test_tables_of_something_else(self, tmp_path: Path, content: str) -> None:
        pictures(tmp_path, "a.jpg")
        text(tmp_path / "l.csv", content)
        with pytest.raises(InputError, match="not a dataset in a known format"):
            open_dataset(tmp_path)

    def test_imagenet50(self, shared: Path) -> None:
        data = open_dataset(shared / "data" / "imagenet50")
        assert len(data) == len(data.classes) == 50
        assert labels(data)["all", "images/n01530575.jpg"] == "brambling"


def of_images(*pairs: tuple[int, Any], **more: Any) -> dict[str, Any]:
    """A COCO file of three images with annotations (image, category)."""
    content = coco([coco_image(k, f"{name}.jpg") for k, name in enumerate("abc", 1)], [], {3: "cat", 5: "dog"})
    content["annotations"] = [{"id": k, "image_id": i, "category_id": c} for k, (i, c) in enumerate(pairs, 1)]
    return content | more


class TestCoco:
    def opened(self, root: Path, content: Any, **more: Any) -> Dataset:
        pictures(root, "a.jpg", "b.jpg", "c.jpg")
        write_json(root / "x.json", content)
        return open_dataset(root, **more)

    def test_categories_of_images(self, tmp_path: Path) -> None:
        data = self.opened(tmp_path, of_images((1, 3), (3, 5), (3, 5)))
        assert data.format == "coco"
        assert labels(data) == {("all", "a.jpg"): "cat", ("all", "c.jpg"): "dog"}
        assert data.notes == ("1 image without a class, left out; the first is b.jpg",)
        assert data.target(1).image_size == (48, 64)

    def test_empty_boxes_and_ids_that_are_texts(self, tmp_path: Path) -> None:
        content = of_images(("a", "k9"), (2, 3), (3, 3))
        content["images"][0]["id"] = "a"
        content["categories"].append({"id": "k9", "name": "fox"})
        for one in content["annotations"]:
            one |= {"bbox": [], "segmentation": [], "area": 0, "iscrowd": 0}
        assert [*labels(self.opened(tmp_path, content)).values()] == ["fox", "cat", "cat"]

    def test_splits_with_other_categories(self, tmp_path: Path) -> None:
        pictures(tmp_path, "train/a.jpg", "val/a.jpg")
        for split, names in (("train", {1: "cat", 2: "dog"}), ("val", {7: "dog"})):
            content = coco([coco_image(1, "a.jpg"), coco_image(2, "b.jpg")], [], names)
            content["annotations"] = [{"image_id": 1, "category_id": max(names)}]
            write_json(tmp_path / "annotations" / f"instances_{split}.json", content)
        data = open_dataset(tmp_path)
        assert labels(data) == {("train", "train/a.jpg"): "dog", ("val", "val/a.jpg"): "dog"}
        assert list(data.classes) == ["cat", "dog"]
        other = coco([coco_image(1, "a.jpg")], [], {1: "dog"})
        other["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]
        write_json(tmp_path / "annotations" / "instances_val.json", other)
        with pytest.raises(InputError, match=r"_train\.json contains image labels, but .*_val\.json contains boxes"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize(
        ("pairs", "sentence"),
        [
            (
                ((1, 3), (1, 5)),
                r"annotation 2 gives image a\.jpg the class 'dog', but another one gives it 'cat', and an image",
            ),
            (((1, 3), (2, 4)), r"annotation 2 has category_id 4, which is not among the classes \(3 cat, 5 dog\)"),
            (((1, 3), ([], 5)), r"annotation 2's image_id is \[\], but must be a"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, pairs: Any, sentence: str) -> None:
        with pytest.raises(InputError, match=sentence):
            self.opened(tmp_path, of_images(*pairs))
        assert labels(open_dataset(tmp_path, lenient=True)) == {("all", "a.jpg"): "cat"}

    def test_images_that_are_not_listed(self, tmp_path: Path) -> None:
        data = self.opened(tmp_path, of_images((1, 3), (9, 5)))
        assert data.orphans[0] == "x.json: annotation 2 of image 9"

    def test_among_boxes_a_missing_one_is_a_mistake(self, tmp_path: Path) -> None:
        content = of_images((1, 3), (2, 5))
        content["annotations"][1]["bbox"] = [1, 2, 3, 4]
        with pytest.raises(InputError, match="annotation 1 has bbox None, but a box is four numbers"):
            self.opened(tmp_path, content)
        content = of_images((1, 3), (2, 5), (3, 5))
        for position, box in ((0, [1, 2, 3, 4]), (2, [1])):
            content["annotations"][position]["bbox"] = box
        with pytest.raises(InputError, match=r"annotation 2 has bbox None.*; 1 more label cannot be read"):
            self.opened(tmp_path, content)
        assert open_dataset(tmp_path, lenient=True).kind == "instances"


class TestWriting:
    def test_round_trip(self, tmp_path: Path) -> None:
        pictures(tmp_path / "in", *FLOWERS)
        (tmp_path / "in" / "train" / "lily").mkdir()
        first = open_dataset(tmp_path / "in").with_classes(["tulip", "lily", "rose"])
        place: Dataset = first
        for to in ("folders", "csv", "csv", "folders"):
            done = convert(place, tmp_path / f"{to}{len(list(tmp_path.iterdir()))}", to)
            place = open_dataset(done.folder)
            assert place.format == done.format == ("csv-labels" if to == "csv" else "folders")
            assert list(place.classes) == ["tulip", "lily", "rose"]
            by_name = {(s, n.split("/", 1)[1]): label for (s, n), label in labels(place).items()}
            assert by_name == {(s, n.split("/", 1)[1]): label for (s, n), label in labels(first).items()}
            assert torch.equal(place[0][0], first[0][0])
        assert str(done).startswith("5 images with image classes written to")

    @pytest.mark.parametrize(
        ("names", "written"),
        [
            (["cat/a.jpg", "cat/b/c.jpg"], ["tom/a.jpg", "tom/b/c.jpg"]),
            (["x/y/a.jpg", "x/y/z/b.jpg"], ["tom/a.jpg", "tom/z/b.jpg"]),  # the folder that all are in
            (["x/a.jpg", "y/a.jpg"], ["tom/x_a.jpg", "tom/y_a.jpg"]),  # no image in the folder of its class
        ],
    )
    def test_classes_keep_images_of_their_own(self, tmp_path: Path, names: list[str], written: list[str]) -> None:
        rows = "".join(f"{name},cat\n" for name in names)
        text(pictures(tmp_path / "in", *names, "d.jpg") / "l.csv", f"filename,class\n{rows}d.jpg,dog\n")
        done = convert(open_dataset(tmp_path / "in", classes={"cat": "tom"}), tmp_path / "out", "folders")
        expected = {("all", name): "tom" for name in written} | {("all", "dog/d.jpg"): "dog"}
        assert labels(open_dataset(done.folder)) == expected

    def test_one_class(self, tmp_path: Path) -> None:
        pictures(tmp_path / "in", "cat/a.jpg", "dog/b.jpg")
        merged = open_dataset(tmp_path / "in", classes={"cat": "pet", "dog": "pet"})
        convert(merged, tmp_path / "out", "folders")
        assert set(labels(open_dataset(tmp_path / "out")).values()) == {"pet"}  # as classes.txt says
        text(tmp_path / "out" / "classes.txt", "other\n")
        with pytest.raises(InputError, match="not a dataset in a known format"):
            open_dataset(tmp_path / "out")

    @pytest.mark.parametrize(
        ("classes", "named"), [(["val", "train"], "val"), (["cat", "images"], "images"), (["train", "trains"], "train")]
    )
    def test_folders_that_would_be_read_as_something_else(self, tmp_path: Path, classes: list[str], named: str) -> None:
        data = Dataset.from_labels([torch.zeros(3, 4, 4, dtype=torch.uint8)] * 2, [0, 1], classes)
        with pytest.raises(InputError, match=f"class '{named}' would be read as part of another layout; rename"):
            convert(data, tmp_path / "x", "folders")
        convert(data, tmp_path / "y", "csv")
        assert [*labels(open_dataset(tmp_path / "y")).values()] == classes

    def test_from_memory_and_splits_of_any_name(self, tmp_path: Path) -> None:
        scenes = sl.scenes(3, 32, kind="class_scores")
        images = [scenes[i][0] for i in range(3)]
        data = Dataset.from_labels(images, [0, 1, 0], ["a,b", "c"], splits=["train", "day", "day"])
        convert(data, tmp_path / "csv", "csv")
        again = open_dataset(tmp_path / "csv")
        assert [*labels(again).items()] == [
            (("train", "train/000000.png"), "a,b"),
            (("day", "day/000001.png"), "c"),
            (("day", "day/000002.png"), "a,b"),
        ]
        with pytest.raises(InputError, match="the dataset has the splits train, day, but a folder with a name"):
            convert(data, tmp_path / "folders", "folders")

    def test_what_cannot_be_written(self, tmp_path: Path) -> None:
        images = [torch.zeros(3, 4, 4, dtype=torch.uint8)] * 2
        with pytest.raises(InputError, match="the class 'a/b' cannot be the name of a folder; rename it"):
            convert(Dataset.from_labels(images, [0, 1], ["a/b", "c"]), tmp_path / "x", "folders")
        clash = Dataset.from_labels(images, [0, 0], ["c"], names=["c/1.png", "1.png"])
        with pytest.raises(InputError, match=r"images c/1\.png and 1\.png would share a file"):
            convert(clash, tmp_path / "x", "folders")
        with pytest.raises(InputError, match="image classes cannot be written as coco, which holds objects"):
            convert(clash, tmp_path / "x", "coco")
        with pytest.raises(InputError, match="objects cannot be written as folders, which holds image classes"):
            convert(sl.scenes(1, 32), tmp_path / "x", "folders")
        assert not (tmp_path / "x").exists()


def test_labels_are_read_from_an_archive(tmp_path: Path) -> None:
    import zipfile

    pictures(tmp_path / "in" / "flowers", *FLOWERS)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as out:
        for file in (tmp_path / "in").rglob("*.jpg"):
            out.write(file, file.relative_to(tmp_path / "in"))
    assert len(open_dataset(tmp_path / "d.zip")) == len(FLOWERS)
    assert json.dumps(sorted(set(labels(open_dataset(tmp_path / "d.zip")).values()))) == '["rose", "tulip"]'


@pytest.mark.timeout(30)
def test_links_that_lead_in_circles_are_followed_once(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        (tmp_path / name).mkdir()
    for name in ("x", "y", "z"):
        for other in ("x", "y", "z"):
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other, target_is_directory=True)
    with pytest.raises(InputError, match="not a dataset in a known format"):
        open_dataset(tmp_path)
