"""Pascal VOC: layouts of several tools, everything the format holds, and what can be wrong with a file."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sightline.data.formats import convert, open_dataset
from sightline.data.formats.voc_lists import colour
from sightline.errors import InputError

from .helpers import everything, picture, rows, text, voc


def official(root: Path, lists: dict[str, list[str]], labels: dict[str, list], suffix: str = ".jpg") -> Path:
    """Annotations, JPEGImages and ImageSets/Main."""
    for name in dict.fromkeys(name for names in lists.values() for name in names):
        picture(root / "JPEGImages" / f"{name}{suffix}")
    for name, objects in labels.items():
        voc(root / "Annotations" / f"{name}.xml", f"{name}{suffix}", objects)
    for split, names in lists.items():
        text(root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(names) + "\n")
    return root


class TestLayouts:
    def test_official(self, tmp_path: Path):
        lists = {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"], "test": ["d"]}
        labels = {"a": [("dog", 1, 2, 3.5, 4)], "c": [("cat", 5, 6, 7, 8), ("dog", 0, 0, 64, 48)]}
        data = open_dataset(official(tmp_path, lists, labels))
        assert data.format == "voc"
        assert data.splits == ("train", "val", "test")
        assert tuple(data.classes) == ("cat", "dog")
        assert everything(data) == {
            ("train", "a.jpg"): labels["a"],
            ("train", "b.jpg"): [],
            ("val", "c.jpg"): labels["c"],
            ("test", "d.jpg"): [],
        }
        assert data.name(0) == "JPEGImages/a.jpg"
        assert data.label_path(0) == tmp_path / "Annotations" / "a.xml"
        assert data.label_path(1) is None
        assert data.target(2).names() == ["cat", "dog"]
        assert data.target(2).source == "JPEGImages/c.jpg"

    def test_lists_of_single_classes_are_left_out(self, tmp_path: Path):
        official(tmp_path, {"train": ["a"], "val": ["b"]}, {})
        text(tmp_path / "ImageSets/Main/dog_train.txt", "a 1\n")
        text(tmp_path / "ImageSets/Main/dog_val.txt", "b -1\n")
        text(tmp_path / "ImageSets/Main/bird_other.txt", "a  0\nb -1\n")
        assert open_dataset(tmp_path).splits == ("train", "val")

    def test_trainval_alone_is_all(self, tmp_path: Path):
        data = open_dataset(official(tmp_path, {"trainval": ["a", "b"]}, {"a": [("dog", 1, 2, 3, 4)]}))
        assert data.splits == ("all",)
        assert len(data) == 2

    def test_an_image_in_two_lists_is_in_both_splits(self, tmp_path: Path):
        data = open_dataset(official(tmp_path, {"train": ["a", "b"], "test": ["b"]}, {"b": [("dog", 1, 2, 3, 4)]}))
        assert [len(data["train"]), len(data["test"])] == [2, 1]
        assert data["test"].name(0) == "JPEGImages/b.jpg"

    def test_cvat(self, tmp_path: Path):
        """Subfolders in names, lists named after the subset, and a list of classes that fixes their order."""
        official(tmp_path, {"Train": ["Train/a"], "Validation": ["Validation/a"]}, {"Train/a": [("dog", 1, 2, 3, 4)]})
        text(
            tmp_path / "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\nfox::\nowl:1,2,3::\ndog:::\n",
        )
        data = open_dataset(tmp_path)
        assert data.splits == ("train", "val")
        assert tuple(data.classes) == ("fox::", "owl", "dog")
        assert data.name(0) == "JPEGImages/Train/a.jpg"
        assert rows(data, 0) == [("dog", 1, 2, 3, 4)]

    def test_labelimg_beside_images(self, tmp_path: Path):
        picture(tmp_path / "a.png")
        picture(tmp_path / "sub" / "b.jpeg")
        picture(tmp_path / "none.jpg")
        voc(tmp_path / "a.xml", "a.png", [("dog", 1, 2, 3, 4)])
        voc(tmp_path / "sub" / "b.xml", "b.jpeg", [("cat", 1, 2, 3, 4)])
        data = open_dataset(tmp_path)
        assert data.splits == ("all",)
        assert everything(data) == {
            ("all", "a.png"): [("dog", 1, 2, 3, 4)],
            ("all", "none.jpg"): [],
            ("all", "sub/b.jpeg"): [("cat", 1, 2, 3, 4)],
        }

    def test_labels_and_images_in_two_folders(self, tmp_path: Path):
        picture(tmp_path / "images" / "a.png")
        voc(tmp_path / "annotations" / "a.xml", "a.png", [("dog", 1, 2, 3, 4)])
        data = open_dataset(tmp_path)
        assert data.name(0) == "images/a.png"
        assert data.image_name(0) == "a.png"

    def test_roboflow(self, tmp_path: Path):
        for split in ("train", "valid", "test"):
            picture(tmp_path / split / "a.jpg")
            voc(tmp_path / split / "a.xml", "a.jpg", [(split, 1, 2, 3, 4)])
        data = open_dataset(tmp_path)
        assert data.splits == ("train", "val", "test")
        assert [data.image_name(i) for i in range(3)] == ["a.jpg"] * 3
        assert rows(data["val"], 0)[0][0] == "valid"

    def test_named_splits(self, tmp_path: Path):
        official(tmp_path, {"one": ["a"], "two": ["b", "c"]}, {})
        text(tmp_path / "mine.txt", "c.jpg\n\nb\n")
        data = open_dataset(tmp_path, train="mine.txt", val="ImageSets/Main/one.txt")
        assert data["train"].columns.names.texts() == ["JPEGImages/c.jpg", "JPEGImages/b.jpg"]
        assert len(data["val"]) == 1

    def test_the_name_inside_the_file(self, tmp_path: Path):
        """Where the label's own name fits no image, the image it names counts."""
        picture(tmp_path / "a.jpg")
        voc(tmp_path / "0001.xml", "a.jpg", [("dog", 1, 2, 3, 4)])
        data = open_dataset(tmp_path)
        assert everything(data) == {("all", "a.jpg"): [("dog", 1, 2, 3, 4)]}
        assert data.orphans == ()


class TestContent:
    def test_marks(self, tmp_path: Path):
        for name, extra in (("a", "<pose>Left</pose><truncated>1</truncated><occluded>1</occluded>"), ("b", "")):
            picture(tmp_path / f"{name}.jpg")
            voc(tmp_path / f"{name}.xml", f"{name}.jpg", [("dog", 1, 2, 3, 4)], extra=extra)
        voc(tmp_path / "b.xml", "b.jpg", [("dog", 1, 2, 3, 4)], extra="<truncated>0</truncated>")
        data = open_dataset(tmp_path)
        columns = data.columns
        assert columns.extra["truncated"].tolist() == [True, False]
        assert columns.extra["occluded"].tolist() == [True, False]
        assert columns.extra["pose"].texts() == ["Left", ""]
        assert data.with_fields("pose", "truncated").target(0).pose == ["Left"]
        path = tmp_path / "b.xml"
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
        assert open_dataset(tmp_path).target(1).difficult.tolist() == [True]

    def test_size_from_the_image_where_none_is_stated(self, tmp_path: Path):
        picture(tmp_path / "a.jpg", (20, 30))
        voc(tmp_path / "a.xml", "a.jpg", [("dog", 1, 2, 3, 4)], size=None)
        picture(tmp_path / "b.jpg", (20, 30))
        voc(tmp_path / "b.xml", "b.jpg", [("dog", 1, 2, 3, 4)], size=(0, 0))
        picture(tmp_path / "c.jpg", (20, 30))
        voc(tmp_path / "c.xml", "c.jpg", [], size=(200, 300))
        data = open_dataset(tmp_path)
        assert [data.image_size(i) for i in range(3)] == [(20, 30), (20, 30), (200, 300)]  # stated sizes stay

    def test_orphans(self, tmp_path: Path):
        official(tmp_path, {"train": ["a", "b"]}, {"a": [], "b": [("dog", 1, 2, 3, 4)]})
        (tmp_path / "JPEGImages/b.jpg").unlink()
        text(tmp_path / "ImageSets/Main/train.txt", "a\nb\nghost\n")
        data = open_dataset(tmp_path)
        assert len(data) == 1
        assert data.orphans == ("Annotations/b.xml", "ImageSets/Main/train.txt: ghost")

    def test_broken_boxes_stay_until_used(self, tmp_path: Path):
        boxes = [(5, 5, 5, 9), (9, 5, 2, 8), ("nan", 1, 2, 3)]
        for name, box in zip("abc", boxes, strict=True):
            picture(tmp_path / f"{name}.jpg")
            voc(tmp_path / f"{name}.xml", f"{name}.jpg", [("dog", *box)])
        data = open_dataset(tmp_path)
        assert data.target(0).boxes.tolist() == [[5, 5, 5, 9]]
        assert data.columns.boxes[1].tolist() == [9, 5, 2, 8]
        with pytest.raises(InputError, match=r"b\.jpg: box 0 is \[9.0, 5.0, 2.0, 8.0\]"):
            data.target(1)
        with pytest.raises(InputError, match=r"c\.jpg: box 0 is \[nan, 1.0, 2.0, 3.0\]"):
            data.target(2)

    def test_given_classes(self, tmp_path: Path):
        official(tmp_path, {"train": ["a"]}, {"a": [("dog", 1, 2, 3, 4), ("cat", 1, 2, 3, 4)]})
        assert open_dataset(tmp_path, classes=["dog", "cat", "eel"]).columns.labels.tolist() == [0, 1]
        with pytest.raises(
            InputError, match=r"a\.xml: object 1 has class 'cat', .* among the classes \(dog\); correct"
        ):
            open_dataset(tmp_path, classes=["dog"])

    def test_no_objects_at_all(self, tmp_path: Path):
        data = open_dataset(official(tmp_path, {"train": ["a"]}, {"a": []}))
        assert len(data.classes) == 0
        assert len(data.target(0)) == 0

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("<annotation><size><object>", r"a\.xml is not valid XML \(.*\); repair or remove it"),
            ("<annotation><size/><object><name>x</name></object></annotation>", r"a\.xml: object 0 \(x\) has the box"),
            (
                "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>b</ymin><xmax>2</xmax><ymax>3</ymax>"
                "</bndbox></object></annotation>",
                r"a\.xml: object 0 \(x\) has the box \['1', 'b', '2', '3'\], but <bndbox> must contain xmin",
            ),
            ("<annotation><size/><object><bndbox/></object></annotation>", r"a\.xml: object 0 has no <name>"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, content: str, words: str):
        picture(tmp_path / "a.jpg")
        text(tmp_path / "a.xml", content)
        with pytest.raises(InputError, match=words):
            open_dataset(tmp_path)

    def test_no_image_is_there(self, tmp_path: Path):
        voc(tmp_path / "labels" / "a.xml", "a.jpg", [("dog", 1, 2, 3, 4)])
        with pytest.raises(
            InputError, match=r"contains 1 labels but none of their images: labels/a\.xml has none .*images=…"
        ):
            open_dataset(tmp_path / "labels")
        picture(tmp_path / "photos" / "a.jpg")
        data = open_dataset(tmp_path / "labels", images=tmp_path / "photos")
        assert data.name(0) == "photos/a.jpg"
        assert data.label_path(0) == tmp_path / "labels" / "a.xml"


class TestWriting:
    def test_what_is_written(self, tmp_path: Path):
        lists = {"train": ["a"], "test": ["sub/b"]}
        official(tmp_path / "in", lists, {"a": [("R & B", 1, 2.25, 3.123456789, 4), ("dog", 0, 0, 1, 1)]})
        text(tmp_path / "in" / "labelmap.txt", "zebra:0,0,0::\ndog:::\nR & B:::\n")
        data = open_dataset(tmp_path / "in")
        assert not convert(data, tmp_path / "out", "voc").lost
        assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
            "Annotations/a.xml",
            "Annotations/sub/b.xml",
            "ImageSets/Main/test.txt",
            "ImageSets/Main/train.txt",
            "JPEGImages/a.jpg",
            "JPEGImages/sub/b.jpg",
            "labelmap.txt",
        ]
        root = ElementTree.parse(tmp_path / "out/Annotations/a.xml").getroot()
        assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["64", "48", "3"]
        box = root.find("object/bndbox")
        assert [element.text for element in box] == ["1", "2.25", "3.123457", "4"]
        assert root.findtext("object/name") == "R & B"
        assert (tmp_path / "out/ImageSets/Main/test.txt").read_text() == "sub/b\n"
        again = open_dataset(tmp_path / "out")
        assert tuple(again.classes) == ("zebra", "dog", "R & B")
        assert everything(again).keys() == everything(data).keys()
        assert np.allclose(again.columns.boxes, data.columns.boxes, atol=1e-6)

    def test_colours_are_vocs(self):
        """As CVAT writes them, and as VOC's own palette has them."""
        assert [colour(k) for k in range(1, 9)] == [
            (128, 0, 0),
            (0, 128, 0),
            (128, 128, 0),
            (0, 0, 128),
            (128, 0, 128),
            (0, 128, 128),
            (128, 128, 128),
            (64, 0, 0),
        ]


class TestReal:
    def test_bccd_against_a_plain_reading(self, shared: Path):
        folder = shared / "data" / "bccd"
        data = open_dataset(folder)
        assert [len(data[split]) for split in ("train", "val", "test")] == [205, 87, 72]
        assert tuple(data.classes) == ("Platelets", "RBC", "WBC")
        assert np.bincount(data.columns.labels).tolist() == [361, 4155, 372]
        i = 0
        for split in ("train", "val", "test"):
            for name in (folder / "ImageSets/Main" / f"{split}.txt").read_text().split():
                assert data.name(i) == f"JPEGImages/{name}.jpg"
                expected = [
                    (o.findtext("name"), *(float(o.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")))
                    for o in ElementTree.parse(folder / "Annotations" / f"{name}.xml").iter("object")
                ]
                assert rows(data, i) == expected
                i += 1
        sides = data.columns.boxes[:, 2:] - data.columns.boxes[:, :2]
        flat = np.flatnonzero((sides == 0).all(1))
        assert len(flat) == 2  # its two known boxes without area are kept
        assert len(data.target(int(data.columns.image_of[flat[0]]))) > 1
        image, target = data["test"][0]
        assert image.shape == (3, 480, 640)
        assert target.image_size == (480, 640)

    def test_labelimg_and_cvat(self, shared: Path):
        folder = shared / "data" / "formats" / "four_images"
        data = open_dataset(folder / "labelImg", images=folder / "images")
        assert len(data) == 4
        assert ("rectangle", 42, 43, 233, 189) in rows(data, data.columns.names.texts().index("images/shapes.jpg"))
        cvat = open_dataset(folder / "voc1.1", images=folder / "images")
        assert tuple(cvat.classes)[:3] == ("rectangle", "triangle", "circle")
        shapes = cvat.columns.names.texts().index("images/shapes.jpg")
        assert rows(cvat, shapes) == [("rectangle", 45.8, 45.8, 230.61, 186.32)]
        assert cvat.columns.names.texts().index("images/birds.jpg") == 0
