"""YOLO: layouts of several tools, everything the format holds, and what can be wrong with a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError
from sightline.structures import Instances

from .helpers import everything, picture, rows, text

LINE = "1 0.5 0.5 0.25 0.5\n"  # on 48×64: 24 to 40, 12 to 36
BOX = (24, 12, 40, 36)


def folder(
    root: Path, images: list[str], labels: list[str], config: str | None = None, names: str | None = None
) -> Path:
    for name in images:
        picture(root / name)
    for name in labels:
        text(root / name, LINE)
    if config is not None:
        text(root / "data.yaml", config)
    if names is not None:
        text(root / "classes.txt", names)
    return root


def test_classes_that_no_file_names_are_noted(tmp_path: Path):
    data = open_dataset(folder(tmp_path, ["images/a.jpg"], ["labels/a.txt"]))
    (note,) = data.notes
    assert note == "no file names the classes, so they are called 0 to 1; a classes.txt names them, one per line"
    assert open_dataset(tmp_path, classes=["a", "b"]).notes == ()
    assert open_dataset(folder(tmp_path, [], [], names="a\nb\n")).notes == ()


class TestLayouts:
    def test_ultralytics(self, tmp_path: Path):
        folder(
            tmp_path,
            ["images/train/a.jpg", "images/train/deep/b.png", "images/val/c.jpg"],
            ["labels/train/a.txt", "labels/train/deep/b.txt"],
            "train: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n",
        )
        data = open_dataset(tmp_path)
        assert data.format == "yolo"
        assert tuple(data.classes) == ("cat", "dog")
        assert everything(data) == {
            ("train", "a.jpg"): [("dog", *BOX)],
            ("train", "deep/b.png"): [("dog", *BOX)],
            ("val", "c.jpg"): [],
        }
        assert data.target(0).image_size == (48, 64)
        assert data.label_path(1) == tmp_path / "labels/train/deep/b.txt"
        assert data.label_path(2) is None
        assert everything(open_dataset(tmp_path / "data.yaml")) == everything(data)

    @pytest.mark.parametrize(
        ("config", "place"),
        [
            ("train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['cat', 'dog']\n", ""),
            ("path: .\ntrain: train/images\nval: valid/images\nnames: [cat, dog]\n", ""),
            ("path: /home/me/birds\ntrain: train/images\nval: valid/images\nnames: [cat, dog]\n", ""),
            ("train: /home/me/birds/train/images\nval: [valid/images]\nnames: [cat, dog]\n", ""),
            ("path: ..\ntrain: train/images\nval: valid/images\nnames: [cat, dog]\n", "configs"),
        ],
    )
    def test_roboflow_and_moved_folders(self, tmp_path: Path, config: str, place: str):
        folder(tmp_path, ["train/images/a.jpg", "valid/images/b.jpg"], ["train/labels/a.txt", "valid/labels/b.txt"])
        file = text(tmp_path / place / "data.yaml", config)
        data = open_dataset(file)
        assert data.splits == ("train", "val")
        assert everything(data) == {("train", "a.jpg"): [("dog", *BOX)], ("val", "b.jpg"): [("dog", *BOX)]}

    def test_lists_of_images(self, tmp_path: Path):
        folder(
            tmp_path,
            ["images/a.jpg", "images/b.jpg"],
            ["labels/a.txt", "labels/b.txt", "labels/ghost.txt"],
            "train: train.txt\nval: lists/val.txt\nnames: [cat, dog]\n",
        )
        text(tmp_path / "train.txt", "./images/a.jpg\nimages/ghost.jpg\n")
        text(tmp_path / "lists/val.txt", "/elsewhere/set/images/b.jpg\n\n")
        data = open_dataset(tmp_path)
        assert everything(data) == {("train", "a.jpg"): [("dog", *BOX)], ("val", "b.jpg"): [("dog", *BOX)]}
        assert data.orphans == ("labels/ghost.txt",)

    def test_darknet(self, tmp_path: Path):
        folder(tmp_path, ["obj_train_data/a.jpg", "obj_train_data/b.jpg"], ["obj_train_data/a.txt"])
        text(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
        text(tmp_path / "obj.names", "cat\ndog\n")
        text(tmp_path / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
        data = open_dataset(tmp_path)
        assert data.splits == ("all",)
        assert everything(data) == {("all", "a.jpg"): [("dog", *BOX)], ("all", "b.jpg"): []}
        text(tmp_path / "obj.data", "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n")
        text(tmp_path / "valid.txt", "data/obj_train_data/b.jpg\n")
        assert open_dataset(tmp_path / "obj.data").splits == ("train", "val")
        (tmp_path / "valid.txt").unlink()
        with pytest.raises(InputError, match=r"obj\.data: data/valid\.txt, which it names for valid, does not exist"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize(
        ("images", "labels", "splits"),
        [
            (["images/train/a.jpg", "images/val/b.jpg"], ["labels/train/a.txt", "labels/val/b.txt"], ["train", "val"]),
            (
                ["train/images/a.jpg", "test/images/b.jpg"],
                ["train/labels/a.txt", "test/labels/b.txt"],
                ["train", "test"],
            ),
            (["train/a.jpg", "valid/b.jpg"], ["train/a.txt", "valid/b.txt"], ["train", "val"]),
            (["images/a.jpg", "images/b.jpg"], ["labels/a.txt", "labels/b.txt"], ["all", "all"]),  # Label Studio
            (["a.jpg", "b.jpg"], ["a.txt", "b.txt"], ["all", "all"]),  # LabelImg
        ],
    )
    def test_folders_alone(self, tmp_path: Path, images: list[str], labels: list[str], splits: list[str]):
        folder(tmp_path, images, labels, names="cat\ndog\n")
        data = open_dataset(tmp_path)
        assert everything(data) == {(s, n): [("dog", *BOX)] for s, n in zip(splits, ["a.jpg", "b.jpg"], strict=True)}
        assert data.orphans == ()
        (tmp_path / "classes.txt").unlink()
        data = open_dataset(tmp_path)
        assert tuple(data.classes) == ("0", "1")
        assert tuple(open_dataset(tmp_path, classes=["x", "y", "z"]).classes) == ("x", "y", "z")

    def test_named_splits(self, tmp_path: Path):
        folder(tmp_path, ["images/x/a.jpg", "images/y/b.jpg"], ["labels/x/a.txt", "labels/y/b.txt"], names="cat\ndog\n")
        text(tmp_path / "some.txt", "images/y/b.jpg\n")
        data = open_dataset(tmp_path, train="images/x", test="some.txt")
        assert everything(data) == {("train", "a.jpg"): [("dog", *BOX)], ("test", "b.jpg"): [("dog", *BOX)]}

    def test_labels_that_are_all_empty(self, tmp_path: Path):
        folder(tmp_path, ["a.jpg"], [])
        text(tmp_path / "a.txt", "")
        assert len(open_dataset(tmp_path).target(0)) == 0
        folder(tmp_path / "two", ["images/a.jpg"], [])
        text(tmp_path / "two" / "labels" / "a.txt", "")
        assert len(open_dataset(tmp_path / "two").target(0)) == 0

    def test_several_descriptions(self, tmp_path: Path):
        config = "train: images/train\nnames: [cat, dog]\n"
        folder(tmp_path, ["images/train/a.jpg"], ["labels/train/a.txt"])
        text(tmp_path / "one.yaml", config)
        text(tmp_path / "two.yaml", config)
        text(tmp_path / "other.yaml", "epochs: 3\n")
        with pytest.raises(
            InputError, match=r"several descriptions of YOLO data \(one\.yaml, two\.yaml\); give the path"
        ):
            open_dataset(tmp_path)
        assert len(open_dataset(tmp_path / "two.yaml")) == 1
        (tmp_path / "two.yaml").unlink()
        assert tuple(open_dataset(tmp_path).classes) == ("cat", "dog")  # one of any name is the one
        text(tmp_path / "data.yaml", config.replace("dog", "fox"))
        assert tuple(open_dataset(tmp_path).classes) == ("cat", "fox")  # of two, the one of the usual name


class TestContent:
    def one(self, tmp_path: Path, label: str, names: str = "cat\ndog\n") -> Path:
        folder(tmp_path, ["a.jpg"], [], names=names)
        text(tmp_path / "a.txt", label)
        return tmp_path

    def test_polygons(self, tmp_path: Path):
        data = open_dataset(self.one(tmp_path, "0 0.25 0.5 0.5 0.75 0.25 1\n1 0 0 0.5 0 0.5 0.5 0 0.5\n"))
        assert rows(data, 0) == [("cat", 16, 24, 32, 48), ("dog", 0, 0, 32, 24)]
        assert data.columns.segmentations[0] == b"[[16.0,24.0,32.0,36.0,16.0,48.0]]"
        assert data.with_fields("masks").target(0).masks[1, :24, :32].all()

    def test_names_with_gaps(self, tmp_path: Path):
        folder(tmp_path, ["images/a.jpg"], ["labels/a.txt"], "train: images\nnames: {1: person, 13: stop sign}\n")
        data = open_dataset(tmp_path)
        assert tuple(data.classes) == ("person", "stop sign")
        assert rows(data, 0)[0][0] == "person"
        text(tmp_path / "labels/a.txt", "13 0.5 0.5 0.1 0.1\n")
        assert rows(open_dataset(tmp_path), 0)[0][0] == "stop sign"
        text(tmp_path / "labels/a.txt", "2 0.5 0.5 0.1 0.1\n")
        with pytest.raises(InputError, match=r"a\.txt: line 1 has class id 2, .*classes \(1 person, 13 stop sign\)"):
            open_dataset(tmp_path)

    def test_given_classes(self, tmp_path: Path):
        self.one(tmp_path, LINE)
        assert open_dataset(tmp_path, classes=["dog", "eel"]).columns.labels.tolist() == [0]
        with pytest.raises(InputError, match=r"a\.txt: line 1 has class 'dog', which is not among the classes \(cat\)"):
            open_dataset(tmp_path, classes=["cat"])

    @pytest.mark.parametrize(
        "line", ["0 0.5 0.5 0.1", "x 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 0.1 1.5", "-1 0 0 1 1", "1.5 0 0 1 1"]
    )
    def test_broken_lines(self, tmp_path: Path, line: str):
        self.one(tmp_path, LINE + "\n" + line + "\n")
        with pytest.raises(
            InputError, match=rf"a\.txt: line 3 is '{line}', but a line must be a class id and the box's"
        ):
            open_dataset(tmp_path)

    @pytest.mark.parametrize("tail", ["0.87", "1", "0", "12", "0.87 12"])
    def test_confidences_and_track_numbers_of_predictions(self, tmp_path: Path, tail: str):
        data = open_dataset(self.one(tmp_path, f"{LINE}{LINE.strip()} {tail}\n"))
        assert rows(data, 0) == [("dog", *BOX)] * 2
        assert [note for note in data.notes if "confidence" in note] == [
            "1 line of the label files ends in a confidence or a track number, as predictions do; it is not used, and "
            "all objects count as true"
        ]

    def test_seven_numbers_that_may_be_a_triangle_are_one(self, tmp_path: Path):
        data = open_dataset(self.one(tmp_path, "1 0.25 0.25 0.75 0.25 0.75 1\n"))
        assert data.format == "yolo-seg"
        assert rows(data, 0) == [("dog", 16, 12, 48, 48)]
        with pytest.raises(InputError, match="nothing but a confidence or a track number after a box"):
            open_dataset(self.one(tmp_path, "1 0.25 0.25 0.75 0.25 0.75 1 0.9\n"))

    def test_unknown_id(self, tmp_path: Path):
        with pytest.raises(
            InputError, match=r"a\.txt: line 1 has class id 5, .*\(0 cat, 1 dog\); correct it or add it"
        ):
            open_dataset(self.one(tmp_path, "5 0.5 0.5 0.1 0.1\n"))

    def test_broken_boxes_stay_until_used(self, tmp_path: Path):
        data = open_dataset(self.one(tmp_path, "0 0.5 0.5 0 0\n"))
        assert data.target(0).boxes.tolist() == [[32, 24, 32, 24]]
        data = open_dataset(self.one(tmp_path, "0 0.5 0.5 0.5 0.5\n0 0.5 0.5 -0.5 0.25\n"))
        assert data.columns.boxes[1].tolist() == [48, 18, 16, 30]
        with pytest.raises(InputError, match=r"a\.jpg: box 1 is \[48.0, 18.0, 16.0, 30.0\]"):
            data.target(0)
        data = open_dataset(self.one(tmp_path, "0 nan 0.5 0.5 0.5\n"))
        with pytest.raises(InputError, match=r"a\.jpg: box 0 is \[nan"):
            data.target(0)

    def test_unreadable_image(self, tmp_path: Path):
        self.one(tmp_path, LINE)
        (tmp_path / "a.jpg").write_bytes(b"nothing")
        data = open_dataset(tmp_path)
        for use in (data.target, data.image):
            with pytest.raises(InputError, match=r"cannot read the image .*a\.jpg: its format is unknown"):
                use(0)

    def test_orphans_and_readmes(self, tmp_path: Path):
        folder(tmp_path, ["a.jpg"], ["a.txt", "ghost.txt"], names="cat\ndog\n")
        text(tmp_path / "README.txt", "Birds of the garden")
        data = open_dataset(tmp_path)
        assert data.orphans == ("ghost.txt",)
        (tmp_path / "a.jpg").unlink()
        with pytest.raises(InputError, match="contains 2 labels but none of their images"):
            open_dataset(tmp_path)

    def test_no_objects_at_all(self, tmp_path: Path):
        folder(tmp_path, ["images/train/a.jpg"], [], "train: images/train\nnames: [cat]\n")
        data = open_dataset(tmp_path)
        assert len(data.target(0)) == 0

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ("train: [", r"data\.yaml is not valid YAML: .*line \d"),
            ("train: images/train\n", r'data\.yaml does not describe YOLO data: it needs "names"'),
            ("train: images\nnames: cat\n", r"data\.yaml: \"names\" must be a list of names"),
            ("train: images\nnames: [cat, cat]\n", r"data\.yaml: class 'cat' occurs twice"),
            ("train: pictures\nval: more\nnames: [cat, dog]\n",
             r"none of its splits exists \(data\.yaml: train: pictures; data\.yaml: val: more\); correct the paths"),
        ],
    )  # fmt: skip
    def test_mistakes_in_the_description(self, tmp_path: Path, config: str, words: str):
        folder(tmp_path, ["images/a.jpg"], ["labels/a.txt"], config)
        with pytest.raises(InputError, match=words):
            open_dataset(tmp_path / "data.yaml")

    def test_a_split_that_is_not_there_is_remembered(self, tmp_path: Path):
        folder(tmp_path, ["images/a.jpg"], ["labels/a.txt"], "train: images\ntest: gone\nnames: [cat, dog]\n")
        data = open_dataset(tmp_path)
        assert data.splits == ("train",)
        assert dict(data.missing_splits) == {"test": "data.yaml: test: gone"}
        with pytest.raises(InputError, match=r"the split 'test' is missing: data\.yaml: test: gone does not exist"):
            data["test"]
        assert [(p.level, p.what) for p in sl.check(data, progress=False).of_rule("split-missing")] == [
            ("warning", "test does not exist (data.yaml: test: gone)")
        ]


class TestWriting:
    def test_what_is_written(self, tmp_path: Path):
        folder(
            tmp_path / "in",
            ["images/train/a.jpg", "images/val/b.jpg"],
            ["labels/train/a.txt"],
            "train: images/train\nval: images/val\nnames: [cat, dog, 'a: b']\n",
        )
        data = open_dataset(tmp_path / "in")
        convert(data, tmp_path / "out", "yolo")
        config = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
        assert config == {"train": "images/train", "val": "images/val", "names": {0: "cat", 1: "dog", 2: "a: b"}}
        assert (tmp_path / "out/labels/train/a.txt").read_text() == LINE
        assert (tmp_path / "out/labels/val/b.txt").read_text() == ""
        assert everything(open_dataset(tmp_path / "out")) == everything(data)

    def test_without_splits(self, tmp_path: Path):
        data = open_dataset(folder(tmp_path / "in", ["a.jpg"], ["a.txt"], names="cat\ndog\n"))
        convert(data, tmp_path / "out", "yolo")
        assert (tmp_path / "out/classes.txt").read_text() == "cat\ndog\n"
        again = open_dataset(tmp_path / "out")
        assert again.splits == ("all",)
        assert everything(again) == everything(data)

    @pytest.mark.parametrize(
        ("splits", "entries", "note"),
        [
            (
                ["all"] * 3,
                {"train": "images", "val": "images", "all": "images"},
                "train (the images of all) and val (the",
            ),
            (
                ["test"] * 3,
                {"train": "images/test", "val": "images/test", "test": "images/test"},
                "val (the images of te",
            ),
            (["train"] * 3, {"train": "images/train", "val": "images/train"}, "val (the images of train)"),
            (
                ["train", "test", "train"],
                {"train": "images/train", "val": "images/test", "test": "images/test"},
                "names val (the images of test)",
            ),
            (
                ["val", "val", "odd"],
                {"train": "images/val", "val": "images/val", "odd": "images/odd"},
                "names train (the",
            ),
            (["train", "val", "test"], {name: f"images/{name}" for name in ("train", "val", "test")}, ""),
        ],
    )
    def test_other_tools_find_train_and_val(self, splits: list[str], entries: dict, note: str, tmp_path: Path):
        images = [torch.full((3, 8, 8), 40 * k, dtype=torch.uint8) for k in range(3)]
        targets = [Instances((8, 8), boxes=[[1, 1, 5, 7]], labels=[k % 2]) for k in range(3)]
        data = Dataset.from_instances(images, targets, ["cat", "dog"], splits=splits)
        for to in ("yolo", "yolo-seg"):
            done = str(convert(data, tmp_path / to, to))
            assert note in done
            assert ("data.yaml also names" in done) == bool(note)
            config = yaml.safe_load((tmp_path / to / "data.yaml").read_text())
            stated = config.pop("stand_ins", {})
            assert config.pop("names") == {0: "cat", 1: "dog"}
            assert config == entries
            assert list(config)[:2] == ["train", "val"]
            for name in ("train", "val"):
                assert any((tmp_path / to / config[name]).rglob("*.png")), name
            again = open_dataset(tmp_path / to)
            assert sorted(again.splits) == sorted(set(splits)) == sorted(set(entries) - set(stated))
            assert len(again) == 3

    def test_an_entry_that_no_longer_repeats_another_is_a_split(self, tmp_path: Path):
        root = folder(tmp_path, ["images/train/a.jpg", "images/val/b.jpg"], [], "train: images/train\nnames: [cat]\n")
        stated = "train: images/train\nval: images/{}\nnames: [cat]\nstand_ins: {{val: train}}\n"
        for place, splits in (("train", ("train",)), ("val", ("train", "val"))):
            text(root / "data.yaml", stated.format(place))
            assert open_dataset(root).splits == splits


class TestReal:
    def test_coco128_against_a_plain_reading(self, shared: Path):
        root = shared / "data" / "formats" / "coco128_yolo"
        data = open_dataset(root / "object_detection.yaml")
        assert [len(data["train"]), len(data["val"])] == [24, 12]
        assert len(data.classes) == 80
        for i in range(len(data)):
            height, width = data.image(i).shape[1:]
            values = np.loadtxt(data.label_path(i), ndmin=2)
            centres, sides = values[:, 1:3] * (width, height), values[:, 3:] * (width, height)
            expected = np.hstack([centres - sides / 2, centres + sides / 2])
            assert np.allclose([row[1:] for row in rows(data, i)], expected)
            assert [data.classes.id(row[0]) for row in rows(data, i)] == values[:, 0].tolist()
        # the same images in COCO's own annotations: boxes agree to the digits of the text files
        with pytest.raises(InputError, match="several descriptions"):
            open_dataset(root)

    def test_labelimg_and_darknet(self, shared: Path):
        root = shared / "data" / "formats" / "four_images"
        data = open_dataset(root / "yolo", images=root / "images")
        assert data.columns.objects == 25
        voc = open_dataset(root / "labelImg", images=root / "images", classes=list(data.classes))
        shapes = data.columns.names.texts().index("images/shapes.jpg")
        mine, others = sorted(rows(data, shapes)), sorted(rows(voc, shapes))
        assert [row[0] for row in mine] == [row[0] for row in others]
        apart = np.array([row[1:] for row in mine]) - np.array([row[1:] for row in others])
        assert np.abs(apart).max() < 12  # the boxes were drawn twice, by hand
        darknet = open_dataset(root / "yolo1.1", images=root / "images")
        assert darknet.columns.objects == 18
        assert darknet.classes[0] == "rectangle"
