"""The check finds what was broken on purpose, names file and annotation, and the repaired copy passes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sightline.data.blob import Blob
from sightline.data.check import RULES, check, exif, fix
from sightline.data.check import duplicates as copies
from sightline.data.check.checking import _class_problems as class_problems
from sightline.data.check.exif import drawn_on
from sightline.data.check.labels import anchor_fit, duplicate_boxes
from sightline.data.dataset import Dataset
from sightline.data.formats import coco, convert, open_dataset, voc
from sightline.data.orientation import STANDING
from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle, polygons_to_mask, rle_to_mask
from sightline.structures import Instances

CLASSES = ["cat", "dog"]


def scene(seed: int, size=(120, 160)) -> Image.Image:
    """A picture of a few coloured shapes on a shaded ground, unlike that of any other seed."""
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 255, (4, 5, 3)).astype(np.uint8)
    image = Image.fromarray(low).resize(size[::-1], Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = generator.integers(0, 120, 2).tolist()
        colour = tuple(generator.integers(0, 255, 3).tolist())
        draw.ellipse([x, y, x + 30, y + 25], fill=colour)
    return image


def write_coco(root: Path, splits: dict[str, list[tuple[str, list[list[float]]]]], sizes=None, **changes) -> Path:
    """A COCO folder: for each split, images by name with boxes [x, y, w, h, category]; pictures differ by name."""
    (root / "annotations").mkdir(parents=True)
    number = 0
    for split, content in splits.items():
        (root / split).mkdir()
        images, annotations = [], []
        for name, boxes in content:
            seed = int(hashlib.md5(f"{split}/{name}".encode()).hexdigest()[:6], 16)
            scene(seed).save(root / split / name)
            number += 1
            width, height = (sizes or {}).get(name, (160, 120))
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for x, y, w, h, category in boxes:
                annotations.append(
                    {
                        "id": 100 + len(annotations) + 1000 * number,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
        data = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(data | changes))
    return root


def healthy(count: int, start: int = 0) -> list[tuple[str, list[list[float]]]]:
    return [(f"{start + i:03d}.jpg", [[10, 10, 40, 30, 1], [60, 40, 50, 60, 2]]) for i in range(count)]


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_coco(tmp_path / "data", {"train": healthy(12), "val": healthy(3, 50)})


def rules(report) -> set[str]:
    return {problem.rule for problem in report.problems}


def quick(dataset, *args, **kwargs):
    return check(dataset, *args, progress=False, **kwargs)


def broken(dataset: Dataset, **columns) -> Dataset:
    return dataset.with_columns(dataset.columns.replace(**columns))


# --- what is in order ------------------------------------------------------------------------------------------------


def test_a_healthy_dataset_passes(folder):
    report = quick(coco.read(folder))
    assert report.ok
    assert report.problems == ()
    assert report.images == {"train": 12, "val": 3}
    assert report.counts == {"train": {"cat": 12, "dog": 12}, "val": {"cat": 3, "dog": 3}}
    text = str(report)
    assert "Training can start: no problems were found." in text
    assert "15 images (train 12, val 3), 30 objects, 2 classes" in text
    assert "The median object is 45 × 45 pixels" in text


def test_a_dataset_in_memory_passes():
    images = [torch.from_numpy(np.array(scene(i))).permute(2, 0, 1) for i in range(12)]
    boxes = torch.tensor([[5.0, 5, 50, 50], [60, 60, 100, 110]])
    targets = [Instances((120, 160), boxes=boxes, labels=torch.tensor([0, 1])) for _ in images]
    report = quick(Dataset.from_instances(images, targets, CLASSES))
    assert report.ok
    assert report.problems == ()


def test_progress_goes_to_the_error_stream(capfd):
    images = [torch.from_numpy(np.array(scene(i))).permute(2, 0, 1) for i in range(60)]
    report = check(Dataset.from_labels(images, [0, 1] * 30, CLASSES))
    assert report.ok
    assert capfd.readouterr().out == ""


# --- labels ----------------------------------------------------------------------------------------------------------


def test_every_broken_box_is_named_with_file_and_annotation(folder, tmp_path):
    boxes = [
        [10, 10, 40, 30, 1],
        [50, 10, -20, 30, 1],
        [5, 5, 0, 10, 2],
        [100, 60, 90, 20, 2],
        [float("nan"), 1, 5, 5, 1],
        [10, 10, 40, 30, 1],
        [10, 10, 40, 30, 2],
        [130, 100, 30.4, 20.3, 1],
    ]
    root = write_coco(tmp_path / "broken", {"train": [*healthy(10), ("bad.jpg", boxes)]})
    report = quick(coco.read(root))
    found = {(p.rule, p.level, p.file, p.annotation) for p in report.problems}
    assert found == {
        ("box-inverted", "error", "train/bad.jpg", 11121),
        ("box-not-finite", "error", "train/bad.jpg", 11124),
        ("box-zero-area", "warning", "train/bad.jpg", 11122),
        ("box-outside", "warning", "train/bad.jpg", 11123),
        ("box-duplicate", "warning", "train/bad.jpg", 11125),
    }
    assert not report.ok
    sentences = {p.rule: p.message for p in report.problems}
    assert sentences["box-inverted"] == (
        "train/bad.jpg: annotation 11121 (cat) has the box [50, 10, 30, 40], where x1 > x2 or y1 > y2; "
        "swap them back; --fix clip does that, --fix drop removes the object"
    )
    assert "[100, 60, 190, 80] in an image 160 wide and 120 high" in sentences["box-outside"]
    assert "0 × 10 pixels" in sentences["box-zero-area"]
    assert "[nan, 1, nan, 6]" in sentences["box-not-finite"]
    assert str(report).index("ERROR box-") < str(report).index("WARNING box-")
    assert "Training cannot start: 2 errors, 3 warnings." in str(report)


def test_voc_problems_name_the_label_file(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    for name in ("a", "b", "lost"):
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
        size = ElementTree.SubElement(root, "size")
        for key, value in (("width", 160), ("height", 120), ("depth", 3)):
            ElementTree.SubElement(size, key).text = str(value)
        for x1 in (10, 30):
            thing = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(thing, "name").text = "cat"
            box = ElementTree.SubElement(thing, "bndbox")
            for key, value in (("xmin", x1), ("ymin", 5), ("xmax", 30), ("ymax", 25)):
                ElementTree.SubElement(box, key).text = str(value)
        ElementTree.ElementTree(root).write(tmp_path / "Annotations" / f"{name}.xml")
    for seed, name in enumerate(("a", "b", "unlabelled")):
        scene(seed).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    report = quick(voc.read(tmp_path))
    assert [(p.file, p.annotation) for p in report.of_rule("box-zero-area")] == [
        ("Annotations/a.xml", 2),
        ("Annotations/b.xml", 2),
    ]
    assert [p.file for p in report.of_rule("label-without-image")] == ["Annotations/lost.xml"]
    assert [(p.file, p.value) for p in report.of_rule("image-without-label")] == [
        ("JPEGImages/unlabelled.jpg", "has no label")
    ]
    assert report.ok


def test_labels_of_unknown_classes_are_errors(folder):
    data = coco.read(folder)
    labels = data.columns.labels.copy()
    labels[3] = 7
    report = quick(broken(data, labels=labels))
    (problem,) = report.of_rule("unknown-class")
    assert problem.level == "error"
    assert problem.file == "train/001.jpg"
    assert "has class id 7, but valid ids are 0 to 1" in problem.message
    assert sum(report.counts["train"].values()) == 23


def test_a_label_without_a_listed_image_is_a_warning(tmp_path):
    root = write_coco(tmp_path / "data", {"train": healthy(10)})
    file = root / "annotations" / "instances_train.json"
    data = json.loads(file.read_text())
    data["annotations"].append({"id": 5, "image_id": 999, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25})
    data["images"].append({"id": 77, "file_name": "empty.jpg", "width": 160, "height": 120})
    file.write_text(json.dumps(data))
    scene(99).save(root / "train" / "empty.jpg")
    report = quick(coco.read(root))
    (orphan,) = report.of_rule("label-without-image")
    assert "annotation 5 of image 999" in orphan.message
    assert orphan.level == "warning"
    (empty,) = report.of_rule("image-without-label")
    assert (empty.file, empty.level) == ("train/empty.jpg", "note")
    assert report.ok


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_duplicate_boxes_equal_a_naive_search(seed):
    generator = np.random.default_rng(seed)
    targets = []
    for _ in range(4):
        low = generator.integers(0, 3, (6, 2)).astype(float)
        boxes = torch.from_numpy(np.concatenate([low, low + generator.integers(1, 3, (6, 2))], axis=1)).float()
        targets.append(Instances((9, 9), boxes=boxes, labels=torch.from_numpy(generator.integers(0, 2, 6))))
    columns = Dataset.from_instances([torch.zeros(3, 9, 9)] * 4, targets, CLASSES).columns
    expected = []
    for target in targets:
        seen = set()
        for box, label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
            expected.append((*box, label) in seen)
            seen.add((*box, label))
    assert duplicate_boxes(columns).tolist() == expected


# --- images ----------------------------------------------------------------------------------------------------------


def test_images_that_cannot_be_used_are_errors(folder):
    train = folder / "train"
    (train / "000.jpg").unlink()
    content = (train / "001.jpg").read_bytes()
    (train / "001.jpg").write_bytes(content[: len(content) // 2])
    (train / "002.jpg").write_bytes(b"this is no picture")
    (train / "003.jpg").write_bytes(b"")
    report = quick(coco.read(folder))
    found = {problem.file: (problem.rule, problem.level) for problem in report.problems}
    assert found == {
        "train/000.jpg": ("image-missing", "error"),
        "train/001.jpg": ("image-truncated", "error"),
        "train/002.jpg": ("image-unreadable", "error"),
        "train/003.jpg": ("image-unreadable", "error"),
    }
    assert "the file is empty" in report.of_rule("image-unreadable")[1].message
    assert str(folder) not in str(report)
    light = quick(coco.read(folder), full=False)
    assert rules(light) == {"image-missing", "image-unreadable"}  # the cut shows only when decoding
    assert "pixels were not decoded" in str(light)


def test_sizes_that_differ_are_errors_and_exif_turns_are_noted(tmp_path):
    content = [*healthy(10), ("wrong.jpg", [[5, 5, 20, 20, 1]]), ("turned.jpg", [[5, 5, 20, 20, 1]])]
    root = write_coco(tmp_path / "data", {"train": content}, sizes={"wrong.jpg": (320, 240)})
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(5).save(root / "train" / "turned.jpg", exif=exif)  # upright it is 120 wide and 160 high
    report = quick(coco.read(root))
    wrong, turned = sorted(report.of_rule("size-differs"), key=lambda problem: problem.file, reverse=True)
    assert "the label says 320 × 240, but the image is 160 × 120 pixels;" in wrong.message
    assert "the label says 160 × 120, but the image is 120 × 160 pixels, the size before" in turned.message
    assert (wrong.level, turned.level) == ("error", "error")
    (note,) = report.of_rule("exif-rotated")
    assert (note.file, note.level) == ("train/turned.jpg", "note")
    assert "orientation is 6" in note.message


def test_copies_are_found_within_and_across_splits(tmp_path):
    root = write_coco(tmp_path / "data", {"train": healthy(12), "val": healthy(4, 50)})
    train, val = root / "train", root / "val"
    (train / "001.jpg").write_bytes((train / "000.jpg").read_bytes())
    (val / "050.jpg").write_bytes((train / "002.jpg").read_bytes())
    Image.open(train / "003.jpg").save(train / "004.jpg", quality=40)
    near = Image.open(train / "005.jpg").resize((80, 60)).point(lambda v: min(255, int(v * 1.1))).resize((160, 120))
    near.save(val / "051.jpg")
    report = quick(coco.read(root))
    found = {problem.rule: (problem.file, problem.value, problem.level) for problem in report.problems}
    assert found == {
        "duplicate-images": ("train/000.jpg", "is the same as train/001.jpg", "note"),
        "duplicate-across-splits": ("train/002.jpg", "in train, is the same as val/050.jpg (val)", "warning"),
        "similar-images": ("train/003.jpg", "looks like train/004.jpg", "note"),
        "similar-across-splits": ("train/005.jpg", "in train, looks like val/051.jpg (val)", "warning"),
    }


def test_copies_with_other_objects_are_named(tmp_path):
    """The file is listed under two ids, each with half of its objects; and a copy with the same objects in turn."""
    boxes = [[5, 5, 20, 20, 1], [60, 60, 20, 20, 1]]
    content = [*healthy(8), ("half.jpg", boxes[:1]), ("other.jpg", boxes[1:]), ("a.jpg", boxes), ("b.jpg", boxes[::-1])]
    root = write_coco(tmp_path / "data", {"train": content})
    for copy, original in (("other.jpg", "half.jpg"), ("b.jpg", "a.jpg")):
        (root / "train" / copy).write_bytes((root / "train" / original).read_bytes())
    found = {(p.rule, p.file, p.value, p.level) for p in quick(coco.read(root)).problems if "duplicate" in p.rule}
    assert found == {
        ("duplicate-images", "train/half.jpg", "is the same as train/other.jpg", "note"),
        ("duplicate-in-objects", "train/half.jpg", "is the same as train/other.jpg", "warning"),
        ("duplicate-images", "train/a.jpg", "is the same as train/b.jpg", "note"),
    }


def test_plain_pictures_are_not_called_alike():
    images = [torch.full((3, 60, 60), value, dtype=torch.uint8) for value in range(0, 250, 10)]
    images += [image.clone() for image in images[:1]]
    target = Instances((60, 60), boxes=torch.tensor([[5.0, 5, 50, 50]]), labels=torch.tensor([0]))
    report = quick(Dataset.from_instances(images, [target] * len(images), ["plain"]))
    assert rules(report) == {"duplicate-images"}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), radius=st.integers(0, 9), count=st.integers(0, 60))
def test_close_pairs_equal_comparing_all_with_all(seed, radius, count):
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 2**63, max(1, count // 4), dtype=np.int64).astype(np.uint64)
    hashes = base[generator.integers(0, len(base), count)]
    for _ in range(5):  # flip up to five bits each
        flips = generator.integers(0, 64, count).astype(np.uint64)
        hashes = np.where(generator.random(count) < 0.6, hashes ^ (np.uint64(1) << flips), hashes)
    values = [int(h) for h in hashes]
    expected = [
        [i, j] for i in range(count) for j in range(i + 1, count) if (values[i] ^ values[j]).bit_count() <= radius
    ]
    assert copies.close_pairs(hashes, radius).tolist() == expected


def test_many_hashes_are_compared_in_blocks(monkeypatch):
    monkeypatch.setattr(copies, "_BLOCK", 50)
    hashes = np.zeros(40, dtype=np.uint64)
    assert len(copies.close_pairs(hashes, 2)) == 40 * 39 // 2


def test_bits_are_counted_without_numpy_2(monkeypatch):
    values = np.random.default_rng(0).integers(0, 2**63, 100, dtype=np.int64).astype(np.uint64)
    expected = [int(v).bit_count() for v in values]
    assert copies._popcount(values).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert copies._popcount(values).tolist() == expected


def test_hash_and_groups_by_hand():
    grey = np.zeros((8, 9))
    grey[0, 1] = 5  # brighter than its left neighbour: the first bit; its right neighbour is darker
    grey[7, 8] = 5  # the last bit
    assert copies.difference_hash(grey) == 1 | 1 << 63
    assert copies.groups(7, np.array([[0, 3], [5, 6], [3, 4]])) == [[0, 3, 4], [5, 6]]
    assert copies.groups(3, np.zeros((0, 2), dtype=np.int64)) == []


# --- classes and sizes -----------------------------------------------------------------------------------------------


def test_classes_missing_rare_and_unbalanced(tmp_path):
    cats = [(f"{i}.jpg", [[10 + k, 10, 40, 30, 1] for k in range(10)]) for i in range(11)]
    root = write_coco(tmp_path / "a", {"train": [*cats, ("dogs.jpg", [[1, 1, 50, 50, 2]] * 1)], "val": healthy(1)[:1]})
    file = root / "annotations" / "instances_val.json"
    data = json.loads(file.read_text())
    data["annotations"] = data["annotations"][:1]
    file.write_text(json.dumps(data))
    report = quick(coco.read(root))
    assert report.ok
    values = {problem.rule: problem.value for problem in report.problems}
    assert values == {
        "class-missing": "1 class has no objects in val and cannot be evaluated there: dog",
        "class-rare": "1 class has fewer than 10 objects in train: dog (1)",
        "class-imbalance": "cat is 110 times as frequent as dog in train (110 to 1)",
    }
    dogs = [(f"{i}.jpg", [[10, 10, 40, 30, 2]]) for i in range(3)]
    report = quick(coco.read(write_coco(tmp_path / "b", {"train": healthy(10), "val": dogs}), classes=["cat", "dog"]))
    assert "cat" in report.of_rule("class-missing")[0].value
    three = broken(coco.read(tmp_path / "b"))
    labels = np.zeros_like(three.columns.labels)
    assert "in any split: dog" in quick(broken(three, labels=labels)).of_rule("class-missing")[0].message


def test_nothing_to_learn_is_an_error(tmp_path):
    root = write_coco(tmp_path / "data", {"train": [("a.jpg", []), ("b.jpg", [])], "val": healthy(2)})
    report = quick(coco.read(root))
    assert [problem.value for problem in report.of_rule("no-objects")] == [
        "none of the 2 images of train has objects of a known class"
    ]
    assert not report.ok
    alone = quick(coco.read(root)["train"])
    assert alone.of_rule("no-objects")[0].value == "none of the 2 images has objects of a known class"
    assert not rules(alone) & {"split-empty", "class-missing"}
    nothing = quick(coco.read(root)[[]])
    assert rules(nothing) == {"no-images"}
    assert "Training cannot start: 1 error." in str(nothing)


def test_an_empty_split_is_an_error_for_training_and_a_warning_else(folder):
    data = coco.read(folder)
    for kept, missing, level in (("train", "val", "warning"), ("val", "train", "error")):
        one = data[kept]
        report = quick(one.with_columns(one.columns))  # a dataset of its own, that still knows both names
        (problem,) = report.of_rule("split-empty")
        assert (problem.value, problem.level) == (f"{missing} has no images", level)


def test_object_sizes_are_held_against_the_anchors(folder):
    data = coco.read(folder)  # boxes of 40 × 30 and 50 × 60
    fitting = quick(data, anchors=np.array([[40, 30], [50, 60]]))
    assert fitting.problems == ()
    assert fitting.sizes["anchors"] == {"misfit": 0.0, "median_iou": 1.0}
    assert "fit 100 % of them" in str(fitting)
    half = quick(data, anchors=torch.tensor([[40.0, 30.0]]))
    (problem,) = half.of_rule("anchors-misfit")
    assert problem.value.startswith("50 % (15) of the objects have an IoU below 0.5 with every anchor shape")
    assert "50 × 60 pixels, mostly dog" in problem.value
    tiny = quick(data, resized=lambda size: (size[0] // 10, size[1] // 10))
    assert tiny.of_rule("objects-tiny")[0].value == (
        "100 % (30) of the objects are smaller than 8 × 8 pixels at the model's input size"
    )
    with pytest.raises(InputError, match=r"anchors have shape \[4\]"):
        quick(data, anchors=[1, 2, 3, 4])

    class Model:
        target_fields = ()

        def resized(self, size):
            return size[0] // 10, size[1] // 10

        def anchor_shapes(self, size):  # of images of another size they fit nothing
            return torch.tensor([[40.0, 30.0]] if size == (120, 160) else [[4000.0, 1.0]])

    report = quick(data, Model())
    assert rules(report) == {"anchors-misfit", "objects-tiny"}
    value = report.of_rule("anchors-misfit")[0].value
    assert value.startswith("50 % (15) of the objects have an IoU below 0.5 with every anchor shape")


def test_anchor_fit_equals_a_loop():
    generator = np.random.default_rng(0)
    sizes = [(40, 60), (80, 60)]
    targets = []
    for size in sizes:
        low = generator.uniform(0, 20, (5, 2))
        boxes = torch.from_numpy(np.concatenate([low, low + generator.uniform(2, 20, (5, 2))], axis=1))
        targets.append(Instances(size, boxes=boxes, labels=torch.zeros(5, dtype=torch.int64)))
    columns = Dataset.from_instances([torch.zeros(3, *size) for size in sizes], targets, CLASSES).columns
    got = anchor_fit(columns, np.arange(10), np.array(sizes), lambda size: np.array([[8, 8], [size[0] / 8, 12]]))
    for row, value in enumerate(got):
        width, height = columns.boxes[row, 2:] - columns.boxes[row, :2]
        best = 0.0
        for w, h in ([8, 8], [sizes[row // 5][0] / 8, 12]):
            common = min(width, w) * min(height, h)
            best = max(best, common / (width * height + w * h - common))
        assert value == pytest.approx(best)


# --- other kinds -----------------------------------------------------------------------------------------------------


def test_class_maps_are_counted_by_pixels_and_broken_ones_reported(tmp_path):
    images, maps = [], []
    for i in range(3):
        images.append(tmp_path / f"{i}.jpg")
        maps.append(tmp_path / f"{i}.png")
        scene(i).save(images[-1])
        Image.fromarray(np.full((120, 160), i, dtype=np.uint8)).save(maps[-1])
    Image.fromarray(np.zeros((20, 20), dtype=np.uint8)).save(maps[0])
    report = quick(Dataset.from_class_maps(images, maps, CLASSES))
    assert report.unit == "pixels"
    assert report.counts == {"all": {"cat": 0, "dog": 120 * 160}}  # the broken maps are reported, not counted
    first, second = (problem.message for problem in report.of_rule("map-invalid"))
    assert "has 20 × 20 pixels, but its image 0.jpg has 160 × 120; use a mask of the size of the image" in first
    assert "contains values without a class: 2" in second
    assert not report.ok


def test_whole_image_labels_are_counted_by_images():
    images = [torch.from_numpy(np.array(scene(i))).permute(2, 0, 1) for i in range(20)]
    report = quick(Dataset.from_labels(images, [0] * 10 + [1] * 10, CLASSES))
    assert report.problems == ()
    assert (report.unit, report.counts) == ("images", {"all": {"cat": 10, "dog": 10}})


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_can_be_written_as_json_and_shortens_long_lists(tmp_path):
    boxes = [[10 + i, 10, 0, 30, 1] for i in range(9)]
    report = quick(coco.read(write_coco(tmp_path / "data", {"train": [*healthy(10), ("bad.jpg", boxes)]})))
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is True
    assert len(data["problems"]) == 9
    assert data["problems"][0]["message"] == report.problems[0].message
    assert data["counts"]["train"] == {"cat": 19, "dog": 10}
    text = str(report)
    assert "WARNING box-zero-area (9): boxes without area" in text
    assert "… and 6 more" in text
    assert text.count("training ignores them") == 1
    assert max(map(len, text.splitlines())) <= 110
    assert "… and" not in report.text(examples=20)


def test_a_long_table_of_classes_is_shortened():
    names = [f"class {i:02d}" for i in range(40)]
    images = [torch.from_numpy(np.array(scene(i))).permute(2, 0, 1) for i in range(40)]
    text = str(quick(Dataset.from_labels(images, list(range(40)), names)))
    assert "… 20 more" in text
    assert "40 classes have fewer than 10 images in all: class 00 (1)" in text.replace("\n    ", " ")


def test_every_rule_says_what_to_do():
    for name, rule in RULES.items():
        assert name == name.lower()
        assert rule.title
        assert rule.advice
        assert not rule.advice.endswith(".")


# --- fix -------------------------------------------------------------------------------------------------------------


def fingerprint(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


BROKEN = [
    [10, 10, 40, 30, 1],
    [50, 10, -20, 30, 1],  # inverted
    [5, 5, 0, 10, 2],  # no area
    [100, 60, 90, 20, 2],  # partly outside
    [float("nan"), 1, 5, 5, 1],
    [10, 10, 40, 30, 1],  # again
    [200, 10, 20, 20, 2],  # wholly outside
]


@pytest.fixture
def damaged(tmp_path) -> Path:
    train = [*healthy(10), ("bad.jpg", BROKEN), ("size.jpg", [[5, 5, 20, 20, 2]])]
    sizes = {"size.jpg": (320, 240)}
    root = write_coco(tmp_path / "data", {"train": train, "val": healthy(2, 50)}, sizes)
    content = (root / "train" / "000.jpg").read_bytes()
    (root / "train" / "000.jpg").write_bytes(content[: len(content) // 2])
    (root / "train" / "001.jpg").unlink()
    return root


@pytest.mark.parametrize("how", ["clip", "drop"])
def test_the_fixed_copy_passes_and_the_original_stays(damaged, tmp_path, how):
    before = fingerprint(damaged)
    data = coco.read(damaged)
    assert not quick(data).ok
    summary = fix(data, tmp_path / "fixed", how, progress=False)
    assert fingerprint(damaged) == before
    repaired = coco.read(tmp_path / "fixed")
    report = quick(repaired)
    assert report.ok
    assert not rules(report) & {rule for rule in RULES if rule.startswith(("box", "image", "size"))}
    assert repaired.splits == ("train", "val")
    assert summary.images == len(repaired) == 12
    names = [Path(repaired.name(i)).name for i in range(len(repaired))]
    boxes = repaired.target(names.index("bad.jpg")).boxes.tolist()
    common = {"image-missing": 1, "image-truncated": 1, "size-differs": 1, "box-not-finite": 1, "box-duplicate": 1}
    if how == "clip":
        assert boxes == [[10, 10, 50, 40], [30, 10, 50, 40], [100, 60, 160, 80]]
        assert summary.counts == common | {"box-zero-area": 2, "box-reordered": 1, "box-clipped": 1}
    else:
        assert boxes == [[10, 10, 50, 40]]
        assert summary.counts == common | {"box-zero-area": 1, "box-inverted": 1, "box-outside": 2}
    areas = repaired.target(names.index("bad.jpg")).areas.tolist()
    assert areas == [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    assert repaired.image_size(names.index("size.jpg")) == (120, 160)
    text = str(summary)
    assert "1 image left out (the image is truncated)" in text
    assert "without train/000.jpg" in text
    assert summary.objects == sum(len(repaired.target(i)) for i in range(len(repaired)))


@pytest.mark.parametrize("format", ["voc", "yolo"])
def test_every_format_is_repaired_in_its_own(damaged, tmp_path, format):
    data = coco.read(damaged)
    keep = [i for i in range(len(data)) if Path(data.name(i)).name not in ("000.jpg", "001.jpg", "size.jpg")]
    data = data[keep]
    data = data.with_columns(data.columns.take_objects(np.isfinite(data.columns.boxes).all(1)))
    convert(data, tmp_path / "broken", format)
    before = fingerprint(tmp_path / "broken")
    broken = open_dataset(tmp_path / "broken")
    assert broken.format == format
    report = quick(broken)
    assert {"box-outside", "box-zero-area", "box-duplicate"} <= rules(report)
    assert all(p.file.endswith((".xml", ".txt")) for p in report.problems if p.rule.startswith("box"))
    fix(broken, tmp_path / "fixed", progress=False)
    assert fingerprint(tmp_path / "broken") == before
    repaired = open_dataset(tmp_path / "fixed")
    assert repaired.format == format
    assert not any(rule.startswith("box") for rule in rules(quick(repaired)))
    index = next(i for i in range(len(repaired)) if repaired.name(i).endswith("bad.jpg"))
    boxes = sorted(repaired.target(index).boxes.round().tolist())
    assert boxes == [[10, 10, 50, 40], [30, 10, 50, 40], [100, 60, 160, 80]]


def turned_by_exif(folder: Path, box: list[float], orientation: int = 6) -> Dataset:
    """Four images of 160 × 120 pixels by their labels, one of them 120 × 160 upright."""
    root = write_coco(folder, {"train": [*healthy(3), ("turned.jpg", [box])]})
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene(5).save(root / "train" / "turned.jpg", exif=exif)
    return coco.read(root)


@pytest.mark.parametrize(
    ("box", "turned", "rule", "size", "expected"),
    [
        ([50, 100, 30, 50, 1], None, "exif-size", (160, 120), [50, 100, 80, 150]),  # too low for 160 × 120
        ([100, 30, 50, 40, 1], None, "exif-turned", (160, 120), [50, 100, 90, 150]),  # too far right for 120 × 160
        ([5, 10, 15, 30, 1], None, "exif-undecided", (120, 160), [5, 10, 20, 40]),
        ([5, 10, 15, 30, 1], "upright", "exif-size", (160, 120), [5, 10, 20, 40]),
        ([5, 10, 15, 30, 1], "stored", "exif-turned", (160, 120), [80, 5, 110, 20]),
    ],
)
def test_labels_decide_what_lies_where_an_image_is_turned_by_exif(tmp_path, box, turned, rule, size, expected):
    data = turned_by_exif(tmp_path / "data", box)
    (problem,) = quick(data).of_rule("size-differs")
    words = {"exif-size": "the size is wrong", "exif-turned": "must be rotated, too", "exif-undecided": "look at it"}
    assert turned or words[rule] in problem.message
    summary = fix(data, tmp_path / "out", progress=False, turned=turned)
    assert summary.counts == {rule: 1}
    assert summary.images == 4
    repaired = coco.read(tmp_path / "out")
    (i,) = [i for i in range(4) if repaired.name(i).endswith("turned.jpg")]
    assert repaired.image_size(i) == size
    assert repaired.target(i).boxes.tolist() == [expected]
    assert bool(quick(repaired).of_rule("size-differs")) == (rule == "exif-undecided")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turned_labels_stay_on_what_they_were_drawn_on(orientation):
    """Box, outline, mask and keypoint of a marked patch, turned with the picture, are still those of the patch."""
    stored = np.zeros((20, 30), np.uint8)
    stored[4:9, 17:29] = 1
    rle = mask_to_rle(torch.from_numpy(stored).bool())
    polygon = [[17.0, 4, 29, 4, 29, 9, 17, 9]]
    target = Instances(
        (20, 30), boxes=[[17, 4, 29, 9]] * 2, labels=[0, 0], keypoints=torch.tensor([[[18.5, 5.5, 2], [0, 0, 0]]] * 2)
    )
    data = Dataset.from_instances([np.zeros((3, 20, 30), np.uint8)], [target], ["a"]).with_fields("keypoints")
    columns = data.columns.replace(segmentations=Blob.of([json.dumps(rle), json.dumps(polygon)]))
    assert drawn_on(columns, 0, (30, 20)) == "stored"
    out = exif.rotate_upright(columns, 0, orientation, (20, 30), None)
    upright = STANDING[orientation](stored)
    y, x = np.nonzero(upright)
    box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert out.boxes.tolist() == [box, box]
    for entry in out.segmentations:
        known = json.loads(entry)
        mask = rle_to_mask(known) if isinstance(known, dict) else polygons_to_mask(known, (30, 20))
        assert np.array_equal(mask.numpy(), upright.astype(bool))
    one = np.zeros((20, 30), bool)
    one[5, 18] = True
    (row,), (column,) = np.nonzero(STANDING[orientation](one))
    assert out.keypoints[0].tolist() == [[column + 0.5, row + 0.5, 2], [0, 0, 0]]
    assert (int(out.heights[0]), int(out.widths[0])) == (30, 20)


def test_an_image_without_objects_is_given_its_upright_size(tmp_path):
    root = write_coco(tmp_path / "data", {"train": [*healthy(3), ("turned.jpg", [])]})
    exif = Image.Exif()
    exif[0x0112] = 8
    scene(5).save(root / "train" / "turned.jpg", exif=exif)
    assert fix(coco.read(root), tmp_path / "out", progress=False).counts == {"exif-size": 1}


def test_a_healthy_dataset_is_copied_as_it_is(folder, tmp_path):
    summary = fix(coco.read(folder), tmp_path / "out", progress=False)
    assert summary.counts == {}
    assert "nothing had to be changed" in str(summary)
    a, b = coco.read(folder), coco.read(tmp_path / "out")
    assert np.array_equal(a.columns.boxes, b.columns.boxes)
    assert np.array_equal(a.columns.labels, b.columns.labels)
    assert torch.equal(a.image(3), b.image(3))


def test_unknown_classes_are_removed(folder, tmp_path):
    data = coco.read(folder)
    labels = data.columns.labels.copy()
    labels[:2] = 9
    summary = fix(broken(data, labels=labels), tmp_path / "out", progress=False)
    assert summary.counts == {"unknown-class": 2}
    assert summary.objects == 28


def test_what_cannot_be_fixed_is_said_in_a_sentence(folder, tmp_path):
    data = coco.read(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(InputError, match="full exists and is not an empty folder; choose a new one"):
        fix(data, tmp_path / "full", progress=False)
    with pytest.raises(InputError, match="how is 'burn'"):
        fix(data, tmp_path / "x", "burn", progress=False)  # type: ignore[arg-type]
    images = [torch.from_numpy(np.array(scene(i))).permute(2, 0, 1) for i in range(3)]
    with pytest.raises(InputError, match="this dataset has image classes"):
        fix(Dataset.from_labels(images, [0, 1, 0], CLASSES), tmp_path / "x", progress=False)
    for path in folder.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(InputError, match="none of 15 images can be read"):
        fix(data, tmp_path / "x", progress=False)
    assert not (tmp_path / "x").exists()


# --- real data -------------------------------------------------------------------------------------------------------


def test_blood_cells_have_two_boxes_without_area(shared):
    report = quick(voc.read(shared / "data" / "bccd"), full=False)
    assert report.ok
    assert sorted(problem.file for problem in report.of_rule("box-zero-area")) == [
        "Annotations/BloodImage_00338.xml",
        "Annotations/BloodImage_00343.xml",
    ]
    assert report.counts["train"] == {"Platelets": 209, "RBC": 2382, "WBC": 214}


def test_coco_photos_are_in_order(shared):
    report = quick(coco.read(shared / "data" / "coco_mini"))
    assert report.ok
    assert not {p.rule for p in report.problems if p.rule.startswith(("box", "image", "similar", "duplicate", "size"))}


def test_boxes_in_other_units_are_an_error():
    size = (50, 80)
    boxes = [[10.0 * k, 5, 10 * k + 60, 70] for k in range(4)]  # corners that were taken for widths and heights
    images = [torch.zeros(3, *size, dtype=torch.uint8)] * 2
    targets = [Instances(size, boxes=boxes, labels=[0] * 4)] * 2
    report = check(Dataset.from_instances(images, targets, ["a"]), progress=False)
    assert not report.ok
    assert "8 of 8 boxes extend beyond their image" in str(report)
    assert "corners instead of width and height" in " ".join(str(report).split())


def test_class_names_that_are_almost_equal(tmp_path: Path):
    boxes = [[10, 10, 30, 30, k] for k in range(7)]
    names = ["Traffic light", "traffic-light", "traffic_Light", "car", "cars", "a", "A"]
    root = write_coco(
        tmp_path, {"train": [("a.png", boxes)]}, categories=[{"id": k, "name": n} for k, n in enumerate(names)]
    )
    found = [
        problem for problem in check(open_dataset(root), progress=False).problems if problem.rule == "classes-alike"
    ]
    assert [problem.value for problem in found] == ["Traffic light, traffic-light, traffic_Light"]
    assert found[0].level == "warning"


def test_boxes_in_fractions_where_pixels_are_expected(tmp_path: Path):
    fractions = write_coco(
        tmp_path / "fractions", {"train": [("a.png", [[0.1, 0.2, 0.5, 0.8, 1], [0.5, 0.5, 0.5, 0.5, 1]])]}
    )
    report = check(open_dataset(fractions), progress=False)
    (problem,) = [problem for problem in report.problems if problem.rule == "boxes-elsewhere"]
    assert problem.value == "all 2 boxes lie within the first pixel of their image"
    assert not report.ok
    pixels = write_coco(tmp_path / "pixels", {"train": [("a.png", [[0, 0, 1, 1, 1], [0, 0, 2, 1, 1]])]})
    assert check(open_dataset(pixels), progress=False).ok


def test_classes_without_names_are_called_classes() -> None:
    rare = next(p for p in class_problems({"train": {"0": 20, "7": 2, "dog": 3}}, "objects") if p.rule == "class-rare")
    assert rare.value == "2 classes have fewer than 10 objects in train: class 7 (2), dog (3)"


def test_a_folder_of_classes_is_copied_without_broken_images(tmp_path):
    for name in ("cat", "dog"):
        for i in range(3):
            path = tmp_path / "pets" / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(len(name) + i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
    whole = (tmp_path / "pets" / "cat" / "1.jpg").read_bytes()
    (tmp_path / "pets" / "cat" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pets" / "dog" / "2.jpg").write_text("no image")
    before = fingerprint(tmp_path / "pets")
    summary = fix(open_dataset(tmp_path / "pets"), tmp_path / "fixed", progress=False)
    assert fingerprint(tmp_path / "pets") == before
    assert summary.counts == {"image-truncated": 1, "image-unreadable": 1}
    assert str(summary).startswith(f"Wrote 4 images to {tmp_path / 'fixed'}.")
    repaired = open_dataset(tmp_path / "fixed")
    assert (repaired.format, list(repaired.classes)) == ("folders", ["cat", "dog"])
    labels = [(Path(repaired.name(i)).name, repaired.target(i).label) for i in range(len(repaired))]
    assert sorted(labels, key=lambda one: one[::-1]) == [("0.jpg", 0), ("2.jpg", 0), ("0.jpg", 1), ("1.jpg", 1)]
    assert quick(repaired).ok


def test_broken_images_of_class_maps_are_left_out_with_their_maps(tmp_path):
    data = tmp_path / "ground"
    for i in range(3):
        pair = {"images": np.full((20, 30, 3), 80 * i, np.uint8), "masks": np.eye(20, 30, dtype=np.uint8)}
        for kind, value in pair.items():
            (data / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(value).save(data / kind / f"{i}.png")
    content = (data / "images" / "1.png").read_bytes()
    (data / "images" / "1.png").write_bytes(content[:-40])
    (data / "classes.txt").write_text("land\nwater\n")
    opened = open_dataset(data)
    summary = fix(opened, tmp_path / "fixed", progress=False)
    repaired = open_dataset(tmp_path / "fixed")
    assert (summary.images, repaired.kind, len(repaired)) == (2, opened.kind, 2)
    for i in range(2):
        assert torch.equal(repaired.target(i).labels, torch.eye(20, 30, dtype=repaired.target(i).labels.dtype))


def test_labels_that_cannot_be_written_are_not_repaired(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "pets" / name / "0.png")
    data = open_dataset(tmp_path / "pets")
    monkeypatch.setattr("sightline.data.check.fixing.WRITTEN", {"coco": None})
    with pytest.raises(InputError, match="in the format folders, which cannot be written, so there is no repaired"):
        fix(data, tmp_path / "fixed", progress=False)
