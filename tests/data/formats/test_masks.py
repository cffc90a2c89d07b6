"""Pictures of masks: id maps, VOC's maps, a picture an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.check import check
from sightline.data.formats import convert, open_dataset
from sightline.data.formats.masks import mask_rles
from sightline.data.formats.voc_lists import colour
from sightline.errors import InputError
from sightline.ops.masks import rle_to_mask

from .drawn import masks, oracle_masks, outlined, same_masks
from .helpers import coco, coco_image, coco_object, everything, picture, rows, text, write_json


def ids(size: tuple[int, int] = (48, 64)) -> np.ndarray:
    values = np.zeros(size, np.uint16)
    values[4:10, 6:20] = 1
    values[30:40, 10:30] = 700
    values[2:4, 50:] = 700  # in two pieces
    values[8:20, 15:40] = 255
    return values


def save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


BOXES = [(6, 4, 20, 10), (15, 8, 40, 20), (10, 2, 64, 40)]


def test_id_maps(tmp_path: Path):
    root = tmp_path / "nuclei"
    for split, name in (("train", "a"), ("val", "b")):
        picture(root / "images" / split / f"{name}.jpg")
        save(ids(), root / "instance_ids" / split / f"{name}.png")
    picture(root / "images" / "val" / "c.jpg")
    save(ids(), root / "instance_ids" / "val" / "ghost.png")
    data = open_dataset(root)
    assert data.format == "masks"
    assert tuple(data.classes) == ("nuclei",)
    assert everything(data) == {
        ("train", "a.jpg"): [("nuclei", *box) for box in BOXES],
        ("val", "b.jpg"): [("nuclei", *box) for box in BOXES],
        ("val", "c.jpg"): [],
    }
    found = masks(data)
    for mask, id in zip(found["train", "a.jpg"], (1, 255, 700), strict=True):
        assert np.array_equal(mask, ids() == id)
    same_masks(found, oracle_masks(data))
    assert data.columns.areas[:3].tolist() == [(ids() == id).sum() for id in (1, 255, 700)]
    assert data.orphans == ("instance_ids/val/ghost.png",)
    assert tuple(open_dataset(root, classes=["cell"]).classes) == ("cell",)


def test_runs_equal_a_naive_encoding():
    generator = np.random.default_rng(0)
    for size in ((1, 1), (7, 5), (30, 31)):
        values = generator.integers(0, 5, size)
        found = dict(mask_rles(values))
        assert sorted(found) == sorted(set(values.ravel().tolist()) - {0})
        for id, mask in found.items():
            assert np.array_equal(rle_to_mask(mask.rle).numpy(), values == id)
            assert mask.area == (values == id).sum()
            ys, xs = np.nonzero(values == id)
            assert mask.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@pytest.mark.parametrize("as_colours", [False, True])
@pytest.mark.parametrize("labelmap", [False, True])
def test_voc(tmp_path: Path, as_colours: bool, labelmap: bool):
    objects, classes = np.zeros((2, 48, 64), np.uint8)
    objects[4:10, 6:20], classes[4:10, 6:20] = 1, 15
    objects[20:30, 6:20], classes[20:30, 6:20] = 2, 3
    objects[20:30, 20:22], classes[20:30, 20:22] = 255, 255
    palette = np.array([colour(k) for k in range(256)], np.uint8)
    for kind, values in (("Object", objects), ("Class", classes)):
        made = Image.fromarray(values).convert("P") if not as_colours else Image.fromarray(palette[values])
        if not as_colours:
            made = Image.frombytes("P", (64, 48), values.tobytes())
            made.putpalette(palette.ravel().tolist())
        at = tmp_path / f"Segmentation{kind}" / "a.png"
        at.parent.mkdir()
        made.save(at)
    for name in ("a", "b"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    text(tmp_path / "ImageSets" / "Segmentation" / "train.txt", "a\n")
    if labelmap:
        man, fowl = (",".join(map(str, colour(k))) for k in (15, 3))
        text(tmp_path / "labelmap.txt", f"# label:color\nbackground:0,0,0::\nman:{man}::\nfowl:{fowl}::\n")
    data = open_dataset(tmp_path)
    assert data.format == "masks"
    names = ("man", "fowl") if labelmap else ("person", "bird")
    assert everything(data) == {("train", "a.jpg"): [(names[0], 6, 4, 20, 10), (names[1], 6, 20, 20, 30)]}
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png has no matching class map in SegmentationClass; add it"):
        open_dataset(tmp_path)


OWN = {"cat": (128, 0, 0), "dog": (140, 20, 10), "cow": (51, 221, 255)}
"""The second is VOC's first but for lower bits; the third is none of VOC's."""


@pytest.mark.parametrize("as_palette", [False, True])
def test_voc_with_colours_of_its_own(tmp_path: Path, as_palette: bool):
    """As CVAT writes it: classes by the very colours of labelmap.txt, whatever numbers a palette gives them."""
    objects, classes = np.zeros((2, 48, 64), np.uint8)
    for number, k in enumerate((2, 1, 3), 1):
        objects[10 * number : 10 * number + 6, 5:30] = number
        classes[10 * number : 10 * number + 6, 5:30] = k
    classes[10, 5] = 1  # one pixel of another class
    by_index = np.array([(0, 0, 0), *OWN.values()], np.uint8)
    for kind, values, table in (("Object", objects, by_index[[0, 3, 2, 1]]), ("Class", classes, by_index)):
        made = Image.fromarray(table[values])
        if as_palette:
            turned = np.array([0, 3, 1, 2])  # the palette counts otherwise than labelmap.txt
            made = Image.frombytes("P", (64, 48), turned[values].astype(np.uint8).tobytes())
            made.putpalette(table[np.argsort(turned)].ravel().tolist())
        (tmp_path / f"Segmentation{kind}").mkdir()
        made.save(tmp_path / f"Segmentation{kind}" / "a.png")
    picture(tmp_path / "JPEGImages" / "a.jpg")
    lines = ["background:0,0,0::", *(f"{name}:{r},{g},{b}::" for name, (r, g, b) in OWN.items())]
    text(tmp_path / "labelmap.txt", "\n".join(lines))
    data = open_dataset(tmp_path, format="masks")
    assert sorted(rows(data, 0)) == [("cat", 5, 20, 30, 26), ("cow", 5, 30, 30, 36), ("dog", 5, 10, 30, 16)]
    assert np.array_equal(open_dataset(tmp_path, format="semantic").target(0).labels.numpy(), classes)
    text(tmp_path / "mine.txt", "a\nghost\n")
    listed = open_dataset(tmp_path, format="masks", train="mine.txt")
    assert (listed.splits, len(listed), listed.orphans) == (("train",), 1, ("mine.txt: ghost",))
    text(tmp_path / "labelmap.txt", "cat:1,2,3::\ndog:1,2,3::\n")
    with pytest.raises(InputError, match=r"labelmap\.txt gives 'cat' and 'dog' the same colour \(1, 2, 3\)"):
        open_dataset(tmp_path, format="masks")


def test_ids_of_several_classes(tmp_path: Path):
    """An object is of the class most of its pixels have; with several classes each image needs their map."""
    text(tmp_path / "classes.txt", "cat\ndog\n")
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.jpg")
        save((ids() == 1).astype(np.uint8), tmp_path / "instance_ids" / f"{name}.png")
        classes = np.where(ids() == 1, 2, 0).astype(np.uint8)
        classes[4, 6] = 1
        save(classes, tmp_path / "class_ids" / f"{name}.png")
    assert [rows(open_dataset(tmp_path), i) for i in range(2)] == [[("dog", *BOXES[0])]] * 2
    (tmp_path / "class_ids" / "b.png").unlink()
    with pytest.raises(InputError, match=r"instance_ids/b\.png has no matching class map in class_ids; add it"):
        open_dataset(tmp_path)


def test_folders_of_several_images_are_no_pictures_of_objects(tmp_path: Path):
    for site in ("here", "there"):
        for k in range(2):
            picture(tmp_path / site / "images" / f"{k}.png")
            save((ids() == 1).astype(np.uint8), tmp_path / site / "masks" / f"{k}.png")
    with pytest.raises(InputError, match=r"Its folders here \(semantic\), there \(semantic\) are datasets"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"here/images contains 2 images, but with one mask file per object"):
        open_dataset(tmp_path, format="masks")


def test_splits_of_other_names_are_told_of(tmp_path: Path):
    for name in "ab":
        picture(tmp_path / "v" / "JPEGImages" / f"{name}.jpg")
        save((ids() == 1).astype(np.uint8), tmp_path / "v" / "SegmentationObject" / f"{name}.png")
        save((ids() == 1).astype(np.uint8), tmp_path / "v" / "SegmentationClass" / f"{name}.png")
        text(tmp_path / "v" / "ImageSets" / "Segmentation" / f"fold_{name}.txt", f"{name}\n")
    data = open_dataset(tmp_path / "v", format="masks")
    assert data.splits == ("fold_a", "fold_b")
    for kind in ("masks", "semantic"):
        done = convert(data, tmp_path / kind, kind)
        assert done.lost["names of splits that are not train, val or test"] == 2


def test_a_picture_an_object(tmp_path: Path):
    root = tmp_path / "cells"
    picture(root / "x1" / "images" / "x1.png")
    for k, id in enumerate((1, 255, 700)):
        save(((ids() == id) * 255).astype(np.uint8), root / "x1" / "masks" / f"{k}.png")
    picture(root / "x2" / "images" / "x2.png")
    data = open_dataset(root)
    assert [rows(data, i) for i in range(2)] == [[("cells", *box) for box in BOXES], []]


def test_a_map_of_another_size(tmp_path: Path):
    picture(tmp_path / "images" / "a.jpg", (40, 64))
    save(ids(), tmp_path / "instance_ids" / "a.png")
    data = open_dataset(tmp_path)
    with pytest.raises(
        InputError, match=r"images/a\.jpg: segmentation 0 has a mask of 64 × 48 pixels, but the image is 64 × 40"
    ):
        data.with_fields("masks").target(0)
    found = [p for p in check(data, progress=False).problems if p.rule == "mask-size-differs"]
    assert [p.level for p in found] == ["warning"] * 3
    assert "object 1 has a mask of 64 × 48 pixels, but the image is 64 × 40" in found[0].message
    strict = check(data.with_fields("masks"), progress=False)
    assert [p.level for p in strict.problems if p.rule == "mask-size-differs"] == ["error"] * 3
    assert not strict.ok


def test_round_trip(tmp_path: Path):
    data = outlined()
    done = convert(data, tmp_path / "out", "masks")
    again = open_dataset(done.folder)
    assert again.format == "masks"
    assert tuple(again.classes) == tuple(data.classes)
    want, got = masks(data), masks(again)
    ids_of = np.zeros((48, 64), int)
    for number, mask in enumerate(want["train", "a.png"], 1):
        ids_of[mask] = number
    visible = [number for number in (1, 2, 3) if (ids_of == number).any()]
    assert visible == [2, 3]  # the second covers the first
    for number, mask in zip(visible, got["train", "a.png"], strict=True):
        assert np.array_equal(mask, ids_of == number)
    assert done.lost["objects without a pixel of their own"] == 1
    assert done.lost["pixels that two objects share"] > 0
    assert done.lost["captions"] == 1
    (tmp_path / "out" / "classes.txt").write_text("zebra\n")
    with pytest.raises(InputError, match=r"a\.png: object 2 has class id 2, .*\(1 zebra\)"):
        open_dataset(tmp_path / "out")


def test_nuclei_equal_their_coco_file(shared: Path, tmp_path: Path):
    root = shared / "data" / "nuclei"
    for name in ("images", "instance_ids"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "val").symlink_to(root / name / "val")
    coco = open_dataset(root)
    assert coco.format == "coco"
    data = open_dataset(tmp_path, classes=["nucleus"])
    assert data.splits == ("val",)
    assert len(data) == 52
    assert data.columns.objects == coco["val"].columns.objects == 1911
    names = coco.columns.names.texts()
    for i in range(0, len(data), 5):
        mine = data.with_fields("masks").target(i)
        other = coco.with_fields("masks").target(names.index(data.name(i)))
        assert {m.numpy().tobytes() for m in mine.masks} == {m.numpy().tobytes() for m in other.masks}
        assert sorted(mine.boxes.tolist()) == sorted(other.boxes.tolist())
    few = open_dataset(root / "original_layout")
    folders = sorted((root / "original_layout").iterdir())
    assert [len(few.target(i)) for i in range(2)] == [len(list((folder / "masks").iterdir())) for folder in folders]


def test_one_folder_named_as_a_split_makes_no_splits(tmp_path: Path) -> None:
    """Data without splits, of whose two images one lies in "train": written and read again, it has none either."""
    images = [coco_image(1, "train/a.png"), coco_image(2, "b.png")]
    for image in images:
        picture(tmp_path / "in" / image["file_name"])
    objects = [coco_object(k, k, 1, [8.0, 8, 16, 16], segmentation=[[8, 8, 24, 8, 24, 24, 8, 24]]) for k in (1, 2)]
    write_json(tmp_path / "in" / "labels.json", coco(images, objects, {1: "x"}))
    data = open_dataset(tmp_path / "in" / "labels.json")
    assert data.splits == ("all",)
    done = convert(data, tmp_path / "out", "masks")
    written = sorted(path.relative_to(done.folder).as_posix() for path in done.folder.glob("images/**/*.png"))
    assert written == ["images/all/b.png", "images/all/train/a.png"]
    again = open_dataset(done.folder)
    assert (again.splits, len(again)) == (("all",), 2)
