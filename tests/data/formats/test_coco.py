"""COCO: layouts of several tools, everything the format holds, and what can be wrong with a file."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sightline.data.check import check
from sightline.data.dataset import Dataset
from sightline.data.formats import coco as coco_reader
from sightline.data.formats import coco_write, convert, open_dataset
from sightline.data.images import read_map
from sightline.errors import InputError
from sightline.structures import Instances

from .helpers import coco, coco_image, coco_object, everything, picture, rows, write_json

NAMES = {3: "cat", 7: "dog", 90: "owl"}
POLYGON = [[1, 2, 5, 2, 5, 8.5]]
RLE = {"size": [48, 64], "counts": [100, 7, 48 * 64 - 107]}


def two_images() -> dict[str, Any]:
    """Annotations out of order, one of an image that is not listed; an image without any."""
    return coco(
        [coco_image(12, "b.jpg"), coco_image(5, "a.jpg") | {"license": 4}, coco_image(6, "c.jpg")],
        [
            coco_object(1, 5, 7, [1.5, 2, 10.25, 20], segmentation=POLYGON),
            coco_object(2, 12, 3, [0, 0, 64, 48], iscrowd=1, segmentation=RLE, area=7),
            coco_object(3, 5, 90, [3, 4, 5, 6], segmentation=[], attributes={"occluded": True}),
            coco_object(4, 99, 3, [3, 4, 5, 6]),
        ],
        NAMES,
    )


class TestReading:
    def test_everything_is_kept(self, tmp_path: Path):
        data = open_dataset(write_json(tmp_path / "instances_default.json", two_images()))
        assert data.splits == ("all",)
        assert tuple(data.classes) == ("cat", "dog", "owl")
        assert everything(data) == {
            ("all", "b.jpg"): [("cat", 0, 0, 64, 48)],
            ("all", "a.jpg"): [("dog", 1.5, 2, 11.75, 22), ("owl", 3, 4, 8, 10)],
            ("all", "c.jpg"): [],
        }
        columns = data.columns
        assert columns.ids.tolist() == [2, 1, 3]
        assert columns.image_ids.tolist() == [12, 5, 6]
        assert columns.crowd.tolist() == [True, False, False]
        assert columns.areas.tolist() == [7, 205, 30]
        assert [json.loads(s) if s else None for s in columns.segmentations] == [RLE, POLYGON, None]
        assert data.image_extra(1) == {"license": 4}
        assert data.orphans == ("instances_default.json: annotation 4 of image 99",)
        assert data.label_path(0) == tmp_path / "instances_default.json"
        target = data.target(1)
        assert target.image_size == (48, 64)
        assert target.labels.tolist() == [1, 2]
        assert target.source == "a.jpg"

    def test_masks(self, tmp_path: Path):
        data = open_dataset(write_json(tmp_path / "x.json", two_images())).with_fields("masks")
        first = torch.zeros(64, 48, dtype=torch.bool)
        first.view(-1)[100:107] = True  # runs go down the columns
        assert torch.equal(data.target(0).masks[0], first.T)
        assert data.target(1).masks[0].sum() > 5
        assert not data.target(1).masks[1].any()
        wrong = two_images()
        wrong["annotations"][1]["segmentation"] = {"size": [4, 4], "counts": [16]}
        data = open_dataset(write_json(tmp_path / "x.json", wrong)).with_fields("masks")
        with pytest.raises(
            InputError, match=r"b\.jpg: segmentation 0 has a mask of 4 × 4 pixels, but the image is 64 × 48; correct"
        ):
            data.target(0)

    def test_object_without_box_gets_its_polygons(self, tmp_path: Path):
        content = two_images()
        del content["annotations"][0]["bbox"]
        data = open_dataset(write_json(tmp_path / "x.json", content))
        assert rows(data, 1)[0] == ("dog", 1, 2, 5, 8.5)

    def test_keypoints_captions_and_other_keys(self, tmp_path: Path):
        objects = [
            coco_object(1, 5, 7, [1, 2, 3, 4], keypoints=[1, 2, 2, 0, 0, 0], num_keypoints=1, score=0.5, pose=[1, 2]),
            coco_object(2, 5, 7, [1, 2, 3, 4], caption="a dog", score=1, pose=[3, 4]),
        ]
        data = open_dataset(write_json(tmp_path / "x.json", coco([coco_image(5, "a.jpg")], objects, NAMES)))
        target = data.with_fields("keypoints", "captions", "score", "pose").target(0)
        assert target.keypoints.tolist() == [[[1, 2, 2], [0, 0, 0]], [[0, 0, 0]] * 2]
        assert target.captions == ["", "a dog"]
        assert target.score.tolist() == [0.5, 1]
        assert target.pose.tolist() == [[1, 2], [3, 4]]

    def test_given_classes_order_and_refuse(self, tmp_path: Path):
        path = write_json(tmp_path / "x.json", two_images())
        data = open_dataset(path, classes=["owl", "dog", "cat", "eel"])
        assert data.target(1).labels.tolist() == [1, 0]
        with pytest.raises(InputError, match=r"x\.json: annotation 3 has category 'owl', .*classes \(cat, dog\)"):
            open_dataset(path, classes=["cat", "dog"])

    def test_broken_boxes_stay_until_used(self, tmp_path: Path):
        objects = [
            coco_object(k, k, 3, box) for k, box in enumerate([[5, 5, 0, 4], [9, 9, -4, 3], [float("nan"), 1, 2, 3]])
        ]
        images = [coco_image(k, f"{k}.jpg") for k in range(3)]
        data = open_dataset(write_json(tmp_path / "x.json", coco(images, objects, NAMES)))
        assert data.target(0).boxes.tolist() == [[5, 5, 5, 9]]
        assert data.columns.boxes[1].tolist() == [9, 9, 5, 12]
        with pytest.raises(InputError, match=r"1\.jpg: box 0 is \[9.0, 9.0, 5.0, 12.0\], but a box must be finite"):
            data.target(1)
        with pytest.raises(InputError, match=r"2\.jpg: box 0 is \[nan, 1.0, nan, 4.0\]"):
            data.target(2)

    def test_no_objects_at_all(self, tmp_path: Path):
        data = open_dataset(write_json(tmp_path / "x.json", coco([coco_image(1, "a.jpg")], [], NAMES)))
        assert len(data.target(0)) == 0
        assert data.columns.objects == 0

    def test_size_from_the_image_where_none_is_stated(self, tmp_path: Path):
        picture(tmp_path / "a.jpg", (20, 30))
        image = {"id": 1, "file_name": "a.jpg"}
        data = open_dataset(write_json(tmp_path / "x.json", coco([image], [], NAMES)))
        assert data.target(0).image_size == (20, 30)


class TestLayouts:
    def many(self, tmp_path: Path, files: dict[str, str]) -> None:
        """One image and one object a file, and the image where `files` says, by the path of its JSON."""
        for number, (file, image) in enumerate(files.items()):
            name = Path(image).name
            objects = [coco_object(1, 1, 3, [number, 0, 1, 1])]
            write_json(tmp_path / file, coco([coco_image(1, name)], objects, NAMES))
            picture(tmp_path / image)

    @pytest.mark.parametrize(
        ("files", "splits"),
        [
            (  # COCO itself
                {
                    "annotations/instances_val2017.json": "val2017/b.jpg",
                    "annotations/instances_train2017.json": "train2017/a.jpg",
                },
                {"train": "train2017/a.jpg", "val": "val2017/b.jpg"},
            ),
            (  # CVAT, one subset or several
                {"annotations/instances_default.json": "images/a.jpg"},
                {"all": "images/a.jpg"},
            ),
            (
                {
                    "annotations/instances_Train.json": "images/Train/a.jpg",
                    "annotations/instances_Validation.json": "images/Validation/a.jpg",
                },
                {"train": "images/Train/a.jpg", "val": "images/Validation/a.jpg"},
            ),
            (  # Roboflow
                {
                    "train/_annotations.coco.json": "train/a.jpg",
                    "valid/_annotations.coco.json": "valid/b.jpg",
                    "test/_annotations.coco.json": "test/c.jpg",
                },
                {"train": "train/a.jpg", "val": "valid/b.jpg", "test": "test/c.jpg"},
            ),
            (  # years that would otherwise be one split
                {
                    "annotations/instances_train2014.json": "train2014/a.jpg",
                    "annotations/instances_train2017.json": "train2017/a.jpg",
                },
                {"train2014": "train2014/a.jpg", "train2017": "train2017/a.jpg"},
            ),
            ({"labels.json": "data/a.jpg"}, {"all": "data/a.jpg"}),  # FiftyOne
            (
                {"bees_train.json": "images/a.jpg", "bees_val.json": "images/b.jpg"},
                {"train": "images/a.jpg", "val": "images/b.jpg"},
            ),
            ({"annotations/train.json": "a.jpg"}, {"train": "a.jpg"}),
        ],
    )  # fmt: skip
    def test_tools(self, tmp_path: Path, files: dict[str, str], splits: dict[str, str]):
        self.many(tmp_path, files)
        data = open_dataset(tmp_path)
        assert data.format == "coco"
        assert data.splits == tuple(splits)
        for i, name in enumerate(splits.values()):
            assert data.name(i) == name
            assert data.path(i).is_file()
            assert data.image_name(i) in ("a.jpg", "b.jpg", "c.jpg")
            assert data.label_path(i).is_file()

    def test_named_splits(self, tmp_path: Path):
        self.many(tmp_path, {"one.json": "x/a.jpg", "annotations/instances_b.json": "b/a.jpg", "three.json": "y/b.jpg"})
        data = open_dataset(tmp_path, train="annotations/instances_b.json", test=tmp_path / "three.json")
        assert data.splits == ("train", "test")
        assert data.path(0).is_file()
        with pytest.raises(InputError, match=r"there is no none\.json in .*; correct the path of the split"):
            open_dataset(tmp_path, train="none.json")

    def test_images_elsewhere(self, tmp_path: Path):
        self.many(tmp_path, {"labels/x.json": "photos/a.jpg"})
        data = open_dataset(tmp_path / "labels" / "x.json", images=tmp_path / "photos")
        assert data.path(0).is_file()
        assert data.name(0) == "photos/a.jpg"
        assert data.root == tmp_path
        with pytest.raises(InputError, match=r"there is no folder .*nowhere for the images"):
            open_dataset(tmp_path / "labels", images=tmp_path / "nowhere")

    def test_classes_of_all_files(self, tmp_path: Path):
        for split, names in (("train", {1: "cat", 5: "owl"}), ("val", {1: "cat", 3: "dog"})):
            objects = [coco_object(k, 1, k, [0, 0, 1, 1]) for k in names]
            write_json(tmp_path / f"annotations/instances_{split}.json", coco([coco_image(1, "a.jpg")], objects, names))
        data = open_dataset(tmp_path)
        assert tuple(data.classes) == ("cat", "dog", "owl")
        assert [rows(data, i)[-1][0] for i in range(2)] == ["owl", "dog"]
        # ids that do not agree: names count
        content = coco([coco_image(1, "a.jpg")], [coco_object(1, 1, 5, [0, 0, 1, 1])], {5: "cat", 1: "eel"})
        write_json(tmp_path / "annotations/instances_val.json", content)
        data = open_dataset(tmp_path)
        assert tuple(data.classes) == ("cat", "owl", "eel")
        assert rows(data, 1)[0][0] == "cat"

    def test_categories_of_one_name_are_one_class(self, tmp_path: Path):
        """As Roboflow writes them: a first one that stands for all."""
        objects = [coco_object(1, 1, 1, [0, 0, 1, 1]), coco_object(2, 1, 0, [0, 0, 1, 1])]
        path = write_json(
            tmp_path / "x.json", coco([coco_image(1, "a.jpg")], objects, {0: "cell", 1: "cell", 2: "dot"})
        )
        data = open_dataset(path)
        assert tuple(data.classes) == ("cell", "dot")
        assert data.columns.labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][0].update(category_id=8),
         r"x\.json: annotation 1 has category_id 8, which is not among the classes \(3 cat, 7 dog, 90 owl\)"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]),
         r"x\.json: annotation 2 has bbox \[1, 2, 3\], but a box is four numbers \[x, y, width, height\]"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, "3", None]), r"annotation 2 has bbox \[1, 2, '3', None\]"),
        (lambda c: c["annotations"][1].update(bbox=None, segmentation={"size": [4]}), "annotation 2 has bbox None"),
        (lambda c: c["annotations"][0].pop("image_id"), r'x\.json has an annotation without "image_id"'),
        (lambda c: c["annotations"][0].pop("category_id"), r'x\.json: annotation 1 has no "category_id"'),
        (lambda c: c["annotations"][0].update(area="big"), r"x\.json: annotation 1's area is 'big', but must"),
        (lambda c: c["annotations"][0].update(image_id=5.5), "image_id is 5.5, but must be a whole number"),
        (lambda c: c["annotations"][0].update(keypoints=[1, 2]), "annotation 1 has keypoints .1, 2., but each"),
        (lambda c: c["images"].append(coco_image(5, "d.jpg")), "contains two images with id 5, but ids must be unique"),
        (lambda c: c["images"].append({"id": 1}), r'has an image without "id" or "file_name": \{\'id\': 1\}'),
        (lambda c: c.update(categories=["cat"]), '"categories" must be a list of objects with "id" and "name"'),
        (lambda c: c.update(images=[], annotations=[]), r"x\.json contains no images"),
        (lambda c: c.update(annotations={}), '"annotations" must be a list of objects, not dict'),
    ],
)  # fmt: skip
def test_mistakes_in_a_file(tmp_path: Path, change: Any, words: str):
    content = two_images()
    change(content)
    path = write_json(tmp_path / "x.json", content)
    with pytest.raises(InputError, match=words):
        open_dataset(path)


ODD: list[Any] = [None, True, -1, 0.5, 10**25, float("nan"), float("inf"), "", "x", "12", [], [[]], [1, "a"], [None]]
ODD += [[[1, 2, 3]], [1, [2]], {}, {"a": 1}, {"size": [48, 64]}, {"size": [48, 64], "counts": "0"}]


@pytest.mark.parametrize("seed", range(4))
def test_any_value_anywhere_is_read_or_named(tmp_path: Path, seed: int):
    """One value of a file replaced by an odd one: an error that names the file, or a dataset that works."""
    generator = random.Random(seed)
    path = tmp_path / "x.json"
    for _ in range(80):
        content = copy.deepcopy(two_images())
        content["annotations"][0] |= {"keypoints": [1, 2, 2], "caption": "x"}
        at: Any = content
        while True:
            key = generator.choice(sorted(at) if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], dict | list) or not at[key] or generator.random() < 0.2:
                break
            at = at[key]
        at[key] = generator.choice(ODD)
        write_json(path, content)
        dataset = None
        with contextlib.suppress(InputError):
            dataset = open_dataset(path, format="coco")
        if dataset is None:
            with pytest.raises(InputError, match=r"x\.json"):
                open_dataset(path, format="coco")
            continue
        if any(dataset.columns.segmentations):
            dataset = dataset.with_fields("masks")
        for i in range(len(dataset)):
            with contextlib.suppress(InputError):
                dataset.target(i)
        with contextlib.suppress(InputError):
            convert(dataset, tmp_path / "out", "coco")


def test_files_that_are_not_whole(tmp_path: Path):
    whole = json.dumps(two_images())
    path = tmp_path / "annotations" / "instances_train.json"
    path.parent.mkdir()
    path.write_text(whole[: whole.index('"annotations"') + 200])
    for given in (tmp_path, path):
        with pytest.raises(InputError, match=r'instances_train\.json is truncated: it ends in "annotations" after'):
            open_dataset(given)
    other = write_json(tmp_path / "other.json", {"shapes": [], "version": "5"})
    with pytest.raises(InputError, match=r"other\.json looks like LabelMe, but lacks 'imagePath'"):
        open_dataset(other)


class TestWriting:
    def test_round_trip_keeps_everything(self, tmp_path: Path):
        content = two_images()
        content["annotations"] = content["annotations"][:3]
        content["annotations"][0] |= {"keypoints": [1.5, 2, 2] * 3, "num_keypoints": 3, "score": 0.5}
        content["categories"][1] |= {"keypoints": ["a", "b", "c"], "skeleton": [[1, 2]]}
        for name in "abc":
            picture(tmp_path / "in" / f"{name}.jpg")
        data = open_dataset(write_json(tmp_path / "in" / "x.json", content))
        done = convert(data, tmp_path / "out", "coco")
        assert not done.lost
        assert str(done) == f"3 images with 3 objects written to {tmp_path / 'out'} as coco"
        written = json.loads((tmp_path / "out/annotations/instances_default.json").read_text())
        assert written["categories"] == content["categories"]
        assert written["images"] == content["images"]
        assert written["info"] == content["info"]
        by_id = {entry["id"]: entry for entry in written["annotations"]}
        for entry in content["annotations"]:
            assert by_id[entry["id"]] == entry
        again = open_dataset(tmp_path / "out")
        assert everything(again) == everything(data)
        assert (tmp_path / "out/images/a.jpg").read_bytes() == (tmp_path / "in/a.jpg").read_bytes()

    def test_captions_are_written_beside(self, tmp_path: Path):
        image = np.zeros((3, 4, 5), np.uint8)
        targets = [Instances((4, 5), boxes=[[0, 0, 2, 2]], labels=[0], cuboids=torch.rand(1, 9, dtype=torch.float64))]
        data = Dataset.from_instances(
            [image], targets, ["x"], splits=["train"], image_extra=[{"captions": ["ä", "b"], "f": 2}]
        )
        convert(data, tmp_path / "out", "coco")
        again = open_dataset(tmp_path / "out")
        assert again.captions(0) == []
        assert again.with_fields("captions").captions(0) == ["ä", "b"]
        assert again.image_extra(0) == {"f": 2}
        assert torch.allclose(again.with_fields("cuboids").target(0).cuboids, targets[0].cuboids.float())
        assert torch.equal(again.image(0), torch.from_numpy(image))


def test_what_is_said_of_absent_keypoints_does_not_count(tmp_path: Path):
    nan = float("nan")
    content = coco(
        [coco_image(1, "a.jpg")],
        [
            coco_object(1, 1, 1, [1, 2, 3, 4], keypoints=[5, 6, 2, nan, nan, 0, 7, 8, nan]),
            coco_object(2, 1, 1, [1, 2, 3, 4], keypoints=[5, 6, 0]),  # fewer points: the others are absent
        ],
        {1: "cat"},
    )
    data = open_dataset(write_json(tmp_path / "x.json", content)).with_fields("keypoints")
    assert data.target(0).keypoints.tolist() == [
        [[5, 6, 2], [0, 0, 0], [0, 0, 0]],
        [[5, 6, 0], [0, 0, 0], [0, 0, 0]],
    ]


class TestReal:
    def test_coco_mini_against_pycocotools(self, shared: Path):
        from pycocotools.coco import COCO

        folder = shared / "data" / "coco_mini"
        data = open_dataset(folder)
        assert [len(data[split]) for split in ("train", "val")] == [80, 79]
        assert data.columns.objects == 739 + 624
        assert int(data.columns.crowd.sum()) == 13
        full = data.with_fields("masks", "keypoints", "captions")["val"]
        oracle = COCO(folder / "annotations/instances_val2017.json")
        points = COCO(folder / "annotations/person_keypoints_val2017.json")
        captions = COCO(folder / "annotations/captions_val2017.json")
        names = {c["id"]: c["name"] for c in oracle.loadCats(oracle.getCatIds())}
        assert tuple(data.classes) == tuple(names[k] for k in sorted(names))
        for i, id in enumerate(full.columns.image_ids.tolist()):
            target, expected = full.target(i), oracle.loadAnns(oracle.getAnnIds(id))
            assert target.names() == [names[e["category_id"]] for e in expected]
            assert target.crowd.tolist() == [bool(e["iscrowd"]) for e in expected]
            xywh = torch.tensor([e["bbox"] for e in expected]).reshape(-1, 4)
            assert torch.allclose(target.boxes, torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1), atol=1e-3)
            for e, mask, keypoints in zip(expected, target.masks, target.keypoints, strict=True):
                assert np.array_equal(mask.numpy(), oracle.annToMask(e).astype(bool))
                known = points.anns.get(e["id"], {}).get("keypoints", [0] * 51)
                assert keypoints.reshape(-1).tolist() == known
            assert full.captions(i) == [e["caption"] for e in captions.loadAnns(captions.getAnnIds(id))]

    def test_nuclei(self, shared: Path):
        data = open_dataset(shared / "data" / "nuclei").with_fields("masks")
        assert [len(data["train"]), len(data["val"]), data.columns.objects] == [164, 52, 7223 + 1911]
        image, target = data["val"][3]
        assert image.shape[1:] == target.image_size
        ids = read_map(shared / "data/nuclei/instance_ids/val" / data["val"].image_name(3))
        assert torch.equal(target.masks.any(0), ids > 0)
        assert [int(m.sum()) for m in target.masks] == [int((ids == k + 1).sum()) for k in range(len(target))]

    def test_cvat_and_mmpose(self, shared: Path):
        folder = shared / "data" / "formats"
        data = open_dataset(folder / "four_images/coco1.0", images=folder / "four_images/images")
        assert len(data.classes) == 8
        assert all(data.path(i).is_file() for i in range(4))
        poses = open_dataset(folder / "mmpose_coco").with_fields("keypoints")
        assert len(poses) == 4
        assert poses.columns.keypoints.shape == (14, 17, 3)
        assert len(poses[0][1]) > 0


@pytest.mark.parametrize("kind", ["captions", "person_keypoints"])
def test_a_file_that_stands_alone_is_not_read_a_second_time(kind: str, tmp_path: Path) -> None:
    """Captions and keypoints are looked for beside the instances; where theirs is the only file, it is all there is."""
    content = coco([coco_image(1, "a.jpg")], [coco_object(7, 1, 3, [1, 2, 3, 4], keypoints=[1, 2, 2])], {3: "person"})
    if kind == "captions":
        content["annotations"] = [{"id": 7, "image_id": 1, "caption": "a grey card"}]
    (tmp_path / "annotations").mkdir()
    write_json(tmp_path / "annotations" / f"{kind}_train.json", content)
    data = open_dataset(tmp_path)
    assert not data.source.later
    if kind == "captions":
        assert data.with_fields("captions").captions(0) == ["a grey card"]
    else:
        assert data.with_fields("keypoints").target(0).keypoints.tolist() == [[[1, 2, 2]]]


def test_ids_that_repeat_are_numbered_anew_from_one() -> None:
    assert coco_write._unique(np.array([7, 3, 7])).tolist() == [1, 2, 3]
    assert coco_write._unique(np.array([7, 3, 9])).tolist() == [7, 3, 9]


def test_images_in_no_split_beside_folders_of_splits(tmp_path: Path) -> None:
    """The splits' folders lie in one folder: what else of images is in there is in none of them."""
    for name in ("photos/train/a.jpg", "photos/val/b.jpg", "photos/odd/c.jpg", "elsewhere/d.jpg"):
        picture(tmp_path / name)
    for number, (split, name) in enumerate((("train", "train/a.jpg"), ("val", "val/b.jpg"))):
        content = coco([coco_image(number + 1, f"photos/{name}")], [], NAMES)
        write_json(tmp_path / "annotations" / f"instances_{split}.json", content)
    columns = open_dataset(tmp_path).columns
    found = {
        folders: coco_reader._in_no_split(tmp_path, folders, columns)
        for folders in (("photos/train", "photos/val"), ("photos/train",), ("photos", "photos/train"), ("photos/odd",))
    }
    odd = ["photos/odd: 1 image in no split"]
    assert [*found.values()][:3] == [odd, [], odd]
    assert found[("photos/odd",)] == odd


def test_ids_that_are_texts_or_missing_are_numbered_beyond_the_others(tmp_path: Path) -> None:
    """Of images 7 and "x" and "y" the texts are 8 and 9; annotations without ids are counted from 1 in the file."""
    images = [coco_image(7, "a.jpg"), coco_image("x", "b.jpg"), coco_image("y", "c.jpg")]  # type: ignore[arg-type]
    for image in images:
        picture(tmp_path / image["file_name"])
    annotations = [coco_object(None, image, 3, [1, 2, 3, 4]) for image in (7, "x", "y")]  # type: ignore[arg-type]
    write_json(tmp_path / "labels.json", coco(images, annotations, NAMES))
    data = open_dataset(tmp_path)
    assert data.columns.image_ids.tolist() == [7, 8, 9]
    assert [data.image_extra(i).get("id") for i in range(3)] == [None, "x", "y"]
    assert data.columns.ids.tolist() == [1, 2, 3]
    assert [len(rows(data, i)) for i in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("stated", "ids"),
    [
        ([3, 7], [3, 7]),
        ([7, 3], [1, 2]),  # they must rise as the classes do
        ([3, 3], [1, 2]),
        ([3, None], [1, 2]),
        (["x", "y"], ["x", "y"]),
        (["y", "x"], ["y", "x"]),  # texts have no order
        (["x", "x"], [1, 2]),
        (["x", None], [1, 2]),
        ([None, None], [1, 2]),
    ],
)
def test_ids_of_categories_that_are_kept(stated: list[Any], ids: list[Any]) -> None:
    categories = [{"name": n} if id is None else {"name": n, "id": id} for n, id in zip("ab", stated, strict=True)]
    source = SimpleNamespace(meta={"categories": categories}, columns=SimpleNamespace(keypoints=None))
    data = SimpleNamespace(source=source, classes=("a", "b"))
    assert [category["id"] for category in coco_write._categories(data)] == ids  # type: ignore[arg-type]


def test_a_file_of_captions_without_images_is_refused_in_a_sentence(tmp_path: Path) -> None:
    sentence = {"id": 1, "image_id": 7, "caption": "a grey card"}
    write_json(tmp_path / "captions.json", {"images": [], "annotations": [sentence], "categories": []})
    with pytest.raises(InputError, match='under "images"'):
        open_dataset(tmp_path / "captions.json")


@pytest.mark.parametrize(
    ("stated", "place"),
    [
        ("C:\\Users\\me\\set\\images\\{}.png", "images/{}.png"),
        ("/home/me/set/north/{}.png", "images/north/{}.png"),
        ("../../media/upload/{}%20b.png", "{} b.png"),
        ("{}%20b.png", "images/{} b.png"),
    ],
)
def test_images_with_the_paths_of_another_computer(tmp_path: Path, stated: str, place: str):
    """They are found by the longest end of their paths, as those of YOLO are, and a note says so."""
    for name in "ab":
        picture(tmp_path / "set" / place.format(name))
    entries = [coco_image(k, stated.format(name)) for k, name in enumerate("ab")]
    content = coco(entries, [coco_object(1, 1, 1, [1, 2, 3, 4])], {1: "cat"})
    data = open_dataset(write_json(tmp_path / "set" / "x.json", content).parent)
    assert [data.name(i) for i in range(2)] == [place.format(name) for name in "ab"]
    assert [len(target) for _, target in data] == [0, 1]
    (note,) = data.notes
    assert note.startswith("x.json: images are found by the end of their paths, such as ")


def test_ends_of_paths_that_are_not_distinct_find_no_images(tmp_path: Path):
    picture(tmp_path / "images" / "a.png")
    entries = [coco_image(k, f"/home/me/{k}/a.png") for k in range(2)]
    data = open_dataset(write_json(tmp_path / "x.json", coco(entries, [], {1: "cat"})).parent)
    missing = [problem for problem in check(data, progress=False).problems if problem.rule == "image-missing"]
    assert len(missing) == 2


def test_an_image_that_is_listed_twice_with_different_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """As in two files that were joined: each entry lacks the objects of the other."""
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    images = [coco_image(k, name) for k, name in enumerate(("a.png", "b.png", "a.png", "b.png"))]
    same = [coco_object(k, k, 1, [1, 2, 3, 4]) for k in (1, 3)]
    write_json(tmp_path / "x.json", coco(images, [*same, coco_object(9, 2, 1, [5, 2, 3, 4])], {1: "cat"}))
    open_dataset(tmp_path)
    (record,) = caplog.records
    assert "1 image of all is listed more than once with different objects, such as a.png: an object" in record.message
    caplog.clear()
    write_json(tmp_path / "x.json", coco(images, same, {1: "cat"}))
    open_dataset(tmp_path)
    assert not caplog.records
