"""Opening what is no dataset, and converting between formats: nothing that the formats can hold is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.data.formats import Conversion, convert, open_dataset
from sightline.data.images import read_image
from sightline.errors import InputError
from sightline.structures import Instances

from .helpers import OF_OBJECTS, coco, coco_image, everything, picture, text, voc, write_json

ALL_WAYS = [["coco", "voc", "yolo", "coco"], ["yolo", "voc", "coco", "yolo"], ["voc", "coco", "yolo", "voc"]]
ALL_WAYS += [
    ["csv", "createml", "coco", "csv", "createml"],
    ["via", "coco", "labelme", "cvat"],
    ["cvat", "via", "voc", "labelme", "via"],
]


def equal(first: Dataset, second: Dataset, tolerance: float) -> None:
    """Splits, names, order, classes and boxes agree."""
    assert first.splits == second.splits
    assert tuple(first.classes) == tuple(second.classes)
    mine, theirs = everything(first), everything(second)
    assert mine.keys() == theirs.keys()
    for key, rows in mine.items():
        assert [row[0] for row in rows] == [row[0] for row in theirs[key]]
        boxes, others = (np.array([row[1:] for row in side]).reshape(-1, 4) for side in (rows, theirs[key]))
        assert np.abs(boxes - others).max(initial=0) <= tolerance


class TestOpening:
    def test_no_such_path(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"there is no .*nowhere; give the path of a dataset's folder"):
            open_dataset(tmp_path / "nowhere")

    def test_empty_folder(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"the folder .* is empty; give a folder that contains a dataset"):
            open_dataset(tmp_path)

    def test_no_format_says_what_is_there_and_what_is_missing(self, tmp_path: Path):
        text(tmp_path / "notes.md", "hello")
        picture(tmp_path / "a.jpg")
        with pytest.raises(InputError) as error:
            open_dataset(tmp_path)
        assert str(error.value) == (
            f"{tmp_path} contains 1 image, 1 .md, but it is not a dataset in a known format. Its images have no "
            "labels: add them, such as a COCO .json or a YOLO .txt for each image; docs/formats.md lists the formats"
        )

    def test_a_dataset_inside_the_folder(self, tmp_path: Path):
        picture(tmp_path / "my data" / "a.jpg")
        voc(tmp_path / "my data" / "a.xml", "a.jpg", [("dog", 1, 2, 3, 4)])
        with pytest.raises(InputError, match=r"Its folder my data \(voc\) is a dataset: give that path"):
            open_dataset(tmp_path)
        picture(tmp_path / "more" / "b.jpg")
        voc(tmp_path / "more" / "b.xml", "b.jpg", [("dog", 1, 2, 3, 4)])
        with pytest.raises(InputError, match=r"Its folders more \(voc\), my data \(voc\) are datasets: give"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "tool"),
        [
            ("a.xml", "<annotation><imagesize><nrows>3</nrows></imagesize></annotation>", "LabelMe XML"),
            ("via.json", '{"project": {"pid": "1", "vid_list": ["1"]}, "metadata": {}}', "VIA 3"),
        ],
    )  # fmt: skip
    def test_formats_that_are_seen_but_not_read(self, tmp_path: Path, name: str, content: str, tool: str):
        text(tmp_path / name, content)
        with pytest.raises(InputError, match=f"{name} looks like {tool}, which is not supported: export the data as"):
            open_dataset(tmp_path)

    def test_two_formats_in_one_folder(self, tmp_path: Path):
        picture(tmp_path / "a.jpg")
        voc(tmp_path / "a.xml", "a.jpg", [("dog", 1, 2, 3, 4)])
        write_json(tmp_path / "x.json", coco([coco_image(1, "a.jpg")], [], {1: "dog"}))
        words = (
            r"more than one format: coco \(x\.json\) and voc \(a\.xml\); choose one with --format coco or --format voc"
        )
        with pytest.raises(InputError, match=words):
            open_dataset(tmp_path)
        assert open_dataset(tmp_path, format="voc").format == "voc"
        assert open_dataset(tmp_path / "x.json").format == "coco"
        with pytest.raises(InputError, match="there is no format 'excel'; available: coco, voc, yolo, yolo-seg"):
            open_dataset(tmp_path, format="excel")

    def test_classes_must_be_names(self, tmp_path: Path):
        path = write_json(tmp_path / "x.json", coco([coco_image(1, "a.jpg")], [], {1: "dog"}))
        with pytest.raises(InputError, match="class 'a' occurs twice"):
            open_dataset(path, classes=["a", "a"])


characters = st.characters(codec="utf-8", exclude_characters='\x7f/\\:*?"<>|', exclude_categories=["C", "Z"])
names = st.text(characters, min_size=1, max_size=6)
coordinates = st.floats(0, 60, width=32)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    """Images in memory with boxes anywhere, classes with any names, some of each without the other."""
    classes = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    count = draw(st.integers(1, 5))
    images, targets = [], []
    for _ in range(count):
        size = (draw(st.integers(1, 60)), draw(st.integers(1, 60)))
        corners = draw(st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=4))
        boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
        labels = [draw(st.integers(0, len(classes) - 1)) for _ in boxes]
        images.append(torch.zeros(3, *size, dtype=torch.uint8))
        targets.append(Instances(size, boxes=boxes, labels=labels))
    splits = draw(st.none() | st.lists(st.sampled_from(["train", "val", "test"]), min_size=count, max_size=count))
    if splits is not None:  # as the formats list them
        order = sorted(range(count), key=lambda i: ["train", "val", "test"].index(splits[i]))
        images, targets, splits = [[values[i] for i in order] for values in (images, targets, splits)]
    return Dataset.from_instances(images, targets, classes, splits=splits)


class TestConverting:
    @settings(max_examples=25, deadline=None)
    @given(data=datasets(), way=st.sampled_from(ALL_WAYS))
    def test_round_trips(self, tmp_path_factory: pytest.TempPathFactory, data: Dataset, way: list[str]):
        folder = tmp_path_factory.mktemp("round")
        current = data
        for step, to in enumerate(way):
            done = convert(current, folder / str(step), to)
            assert (done.images, done.objects) == (len(data), data.columns.objects)
            current = open_dataset(done.folder)
            assert current.format == to
            equal(data, current, 1e-4)
            assert [current.image_size(i) for i in range(len(data))] == [data.image_size(i) for i in range(len(data))]

    @pytest.mark.parametrize("to", [name for name in OF_OBJECTS if name not in ("masks", "semantic", "yolo-pose")])
    def test_a_class_named_as_a_comment(self, tmp_path: Path, to: str):
        target = Instances((4, 4), boxes=[[0, 0, 2, 2]], labels=[1])
        data = Dataset.from_instances([torch.zeros(3, 4, 4, dtype=torch.uint8)], [target], ["#", "# x: 1,2"])
        assert tuple(open_dataset(convert(data, tmp_path / "out", to).folder).classes) == ("#", "# x: 1,2")

    def test_names_in_two_splits(self, tmp_path: Path):
        """img0.jpg in train and in val, as CVAT's subsets have them."""
        images = [torch.full((3, 4, 4), k, dtype=torch.uint8) for k in range(3)]
        targets = [Instances((4, 4), boxes=[[0, 0, k + 1, 1]], labels=[0]) for k in range(3)]
        data = Dataset.from_instances(
            images, targets, ["x"], names=["t/0.png", "t/1.png", "v/0.png"], splits=["train", "train", "val"]
        )
        convert(data, tmp_path / "0", "coco")
        folder = tmp_path / "0"
        for old, new in (("train/t", "train/"), ("val/v", "val/")):
            for file in (folder / old).iterdir():
                file.rename(folder / new / file.name)
            split = old.split("/")[0]
            json = folder / f"annotations/instances_{split}.json"
            json.write_text(json.read_text().replace(f"{old.split('/')[1]}/", ""))
        start = open_dataset(folder)
        assert list(everything(start)) == [("train", "0.png"), ("train", "1.png"), ("val", "0.png")]
        current = start
        for step, to in enumerate(["voc", "yolo", "coco"], 1):
            current = open_dataset(convert(current, tmp_path / str(step), to).folder)
            equal(start, current, 1e-6)
            assert [int(current.image(i)[0, 0, 0]) for i in range(3)] == [0, 1, 2]

    def test_two_images_that_would_share_a_label(self, tmp_path: Path):
        images = [torch.zeros(3, 4, 4, dtype=torch.uint8)] * 2
        data = Dataset.from_instances(images, [Instances((4, 4))] * 2, ["x"], names=["a.png", "a.npy"])
        for to in ("voc", "yolo"):
            with pytest.raises(
                InputError, match=r"images a\.png and a\.npy would share a label file in .*; rename one"
            ):
                convert(data, tmp_path / "out", to)
        assert not (tmp_path / "out").exists()
        assert len(open_dataset(convert(data, tmp_path / "out", "coco").folder)) == 2

    def test_what_is_lost_is_said(self, tmp_path: Path):
        target = Instances(
            (4, 4),
            boxes=[[0, 0, 2, 2], [1, 1, 3, 3]],
            labels=[0, 0],
            crowd=[True, False],
            difficult=[False, True],
            masks=torch.ones(2, 4, 4, dtype=torch.bool),
            keypoints=torch.ones(2, 3, 3),
            cuboids=torch.tensor([[0.0, 0, 5, 1, 1, 1, 0, 0, 0]]).repeat(2, 1),
        )
        data = Dataset.from_instances([torch.zeros(3, 4, 4, dtype=torch.uint8)], [target], ["x"])
        done = convert(data, tmp_path / "yolo", "yolo")
        assert done.lost == {"segmentations": 2, "keypoints": 2, "cuboids": 2, "crowd marks": 1, "difficult marks": 1}
        assert "yolo cannot store 2 segmentations, 2 keypoints" in str(done)
        assert convert(data, tmp_path / "voc", "voc").lost == {"segmentations": 2, "keypoints": 2, "cuboids": 2}
        again = open_dataset(tmp_path / "voc")
        assert again.columns.crowd.tolist() == [True, False]
        assert again.columns.difficult.tolist() == [False, True]
        assert convert(data, tmp_path / "coco", "coco").lost == {}
        again = open_dataset(tmp_path / "coco").with_fields("masks", "keypoints", "cuboids")
        for name, value in again.target(0).fields.items():
            if name in target:
                assert torch.equal(value, target.fields[name]), name

    def test_images_that_png_cannot_hold(self, tmp_path: Path):
        images = [torch.rand(5, 6, 7), torch.randint(0, 256, (1, 6, 7), dtype=torch.uint8)]
        data = Dataset.from_instances(images, [Instances((6, 7))] * 2, ["x"])
        convert(data, tmp_path / "out", "coco")
        again = open_dataset(tmp_path / "out").with_channels(None)
        assert [again.image_name(i) for i in range(2)] == ["000000.npy", "000001.png"]
        assert torch.equal(again.image(0), images[0])
        assert torch.equal(again.image(1), images[1])

    def test_links(self, tmp_path: Path):
        picture(tmp_path / "in" / "a.jpg")
        voc(tmp_path / "in" / "a.xml", "a.jpg", [("dog", 1, 2, 3, 4)])
        convert(tmp_path / "in", tmp_path / "out", "yolo", symlink=True)
        link = tmp_path / "out/images/a.jpg"
        assert link.is_symlink()
        assert link.resolve() == (tmp_path / "in" / "a.jpg").resolve()
        assert len(open_dataset(tmp_path / "out")[0][1]) == 1


class TestRefusing:
    @pytest.fixture
    def data(self) -> Dataset:
        target = Instances((4, 4), boxes=[[0, 0, 2, 2]], labels=[0])
        return Dataset.from_instances([torch.zeros(3, 4, 4, dtype=torch.uint8)] * 3, [target] * 3, ["x"])

    def test_existing_folder(self, data: Dataset, tmp_path: Path):
        text(tmp_path / "out" / "precious.txt", "mine")
        with pytest.raises(InputError, match=r"out already exists, nothing was overwritten; choose a new folder"):
            convert(data, tmp_path / "out", "coco")
        assert (tmp_path / "out" / "precious.txt").read_text() == "mine"
        assert os.listdir(tmp_path) == ["out"]
        (tmp_path / "empty").mkdir()
        assert convert(data, tmp_path / "empty", "coco").images == 3

    def test_unwritable(self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        text(tmp_path / "file", "")
        with pytest.raises(InputError, match=r"cannot write .*file/out: Not a directory .*; choose another folder"):
            convert(data, tmp_path / "file" / "out", "coco")

        def refuse(self: Path, *args: object, **more: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(InputError, match=r"cannot write .*out: Permission denied"):
            convert(data, tmp_path / "out", "coco")

    @pytest.mark.parametrize("to", [name for name in OF_OBJECTS if name not in ("semantic", "yolo-pose")])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
    def test_an_interruption_leaves_nothing(
        self, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, error: type | OSError
    ):
        from sightline.data.formats import files

        save, count = files._save, []

        def fail_at_the_second(*args: object) -> None:
            count.append(1)
            if len(count) == 2:
                raise error
            save(*args)

        monkeypatch.setattr(files, "_save", fail_at_the_second)
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else InputError) as caught:
            convert(data, tmp_path / "out", to)
        if error is not KeyboardInterrupt:
            assert "out: No space left on device" in str(caught.value)
        assert os.listdir(tmp_path) == []

    def test_missing_image(self, tmp_path: Path):
        path = write_json(tmp_path / "x.json", coco([coco_image(1, "gone.jpg")], [], {1: "dog"}))
        with pytest.raises(InputError, match=r"the image .*gone\.jpg does not exist; add it, or remove its label"):
            convert(path, tmp_path / "out", "yolo")
        assert not (tmp_path / "out").exists()

    def test_unknown_format_and_kind(self, data: Dataset, tmp_path: Path):
        with pytest.raises(InputError, match="'tfrecord' is not a format; write one of coco, voc, yolo"):
            convert(data, tmp_path / "out", "tfrecord")
        labels = Dataset.from_labels([torch.zeros(3, 4, 4, dtype=torch.uint8)], [0], ["x"])
        with pytest.raises(InputError, match="a dataset of image classes cannot be written as coco"):
            convert(labels, tmp_path / "out", "coco")


class TestReal:
    @pytest.mark.parametrize(  # the third has the steps of the second
        "way", [pytest.param(way, marks=pytest.mark.slow) if way == ALL_WAYS[2] else way for way in ALL_WAYS]
    )
    def test_coco_mini(self, shared: Path, tmp_path: Path, way: list[str]):
        outlines = {"via", "cvat"} & {*way}
        start = current = open_dataset(shared / "data" / "coco_mini")[:: 8 if outlines else 1]
        for step, to in enumerate(way):
            current = open_dataset(convert(current, tmp_path / str(step), to, symlink=True).folder)
            assert current.format in (to, f"{to}-seg")
            # Outlines have their own boxes: COCO's round theirs, and those of its crowds end a pixel early.
            equal(start, current, 1.01 if outlines else 1e-4)
        assert sum(not rows for rows in everything(current).values()) == sum(
            not rows for rows in everything(start).values()
        )

    def test_bccd(self, shared: Path, tmp_path: Path):
        start = current = open_dataset(shared / "data" / "bccd")
        for step, to in enumerate(["yolo", "coco", "voc"]):
            current = open_dataset(convert(current, tmp_path / str(step), to, symlink=True).folder)
            equal(start, current, 1e-6)


def test_a_million_boxes_in_small(tmp_path: Path):
    """The benchmark of memory, a hundredth of its size: a fresh process, and two workers of its."""
    import importlib.util
    import sys

    if not sys.platform.startswith("linux"):
        pytest.skip("memory is measured through /proc")
    spec = importlib.util.spec_from_file_location("bench_data", Path(__file__).parents[3] / "benchmarks" / "data.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    # What a process holds is what the system says of it: a busy machine adds to it, but never takes away. So the least
    # of up to three counts, and nothing here is a time.
    for _ in range(3):
        (result,) = benchmark.run(images=1000, boxes=10_000, polygons=True)
        assert result["objects"] == 10_000
        assert result["columns"] < 2
        held, added = result["held"], result["worker"] - result["plain"]
        if held < 25 and added < 8:
            break
    assert held < 25  # megabytes, of which the columns are 1.2
    assert added < 8


def test_zero_is_written_without_a_sign(tmp_path: Path):
    target = Instances((20, 30), boxes=[[-1e-9, -0.0, 5, 6]], labels=[0])
    data = Dataset.from_instances([np.zeros((3, 20, 30), np.uint8)], [target], ["a"])
    written = "".join(file.read_text() for file in convert(data, tmp_path / "out", "coco").folder.rglob("*.json"))
    assert '"bbox"' in written
    assert "-0" not in written


ENDINGS = [(1, ".png"), (2, ".npy"), (3, ".png"), (4, ".png"), (5, ".npy"), (8, ".npy")]


@pytest.mark.parametrize(("channels", "ending"), ENDINGS)
def test_pictures_in_memory_are_png_where_it_can_hold_them(tmp_path: Path, channels: int, ending: str):
    picture = np.full((channels, 20, 30), 7, np.uint8)
    picture[:, 3, 4] = range(channels)
    target = Instances((20, 30), boxes=[[1, 2, 5, 6]], labels=[0])
    folder = convert(Dataset.from_instances([picture], [target], ["a"]), tmp_path / "out", "coco").folder
    (file,) = [file for file in folder.rglob("*") if file.suffix in (".png", ".npy")]
    assert file.suffix == ending
    assert np.array_equal(read_image(file, channels=None).numpy(), picture)


def test_boxes_written_as_outlines_and_values_that_are_lost_are_named(tmp_path):
    data = sl.scenes(2, 32, fields=("masks",))
    assert "without an outline" not in str(convert(data, tmp_path / "outlines", "yolo-seg"))
    voc = convert(data, tmp_path / "voc", "voc").folder
    said = str(convert(voc, tmp_path / "rectangles", "yolo-seg"))
    assert f"\n{data.columns.objects} objects without an outline: written as the outline of the box" in said
    assert str(Conversion(tmp_path, "yolo", 1, 1, {"truncated": 3, "captions": 2})) == (
        f"1 image with 1 object written to {tmp_path} as yolo; yolo cannot store 3 values of 'truncated', 2 captions"
    )
