"""Class maps as pictures: layouts, what their values stand for, and what is said of bad ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.check import check
from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.data.formats.voc_lists import colour
from sightline.errors import InputError
from sightline.structures import IGNORE, Instances

from .helpers import picture, text

SIZE = (12, 20)
COLOURS = [(200, 10, 10), (0, 120, 0), (0, 0, 90)]
NAMES = ["road", "tree", "water"]
TEXT = "".join(f"{name} {r} {g} {b}\n" for name, (r, g, b) in zip(NAMES, COLOURS, strict=True))
AERIAL = Path(__file__).parents[4] / "shared" / "data" / "aerial"


def labels(seed: int = 0, ids: int = 3) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, ids, SIZE)
    values[0, :5] = IGNORE
    return values


def save(path: Path, values: np.ndarray, how: str = "grey") -> None:
    """`values` as a picture: grey, 16 (bits), palette (in another order), or rgb."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "rgb":
        Image.fromarray(np.array([*COLOURS, (255, 255, 255)], np.uint8)[values]).save(path)
        return
    stored = np.where(values == IGNORE, 255, values)
    if how == "palette":
        stored = np.where(values == IGNORE, 255, values + 1)
        image = Image.fromarray(stored.astype(np.uint8))
        image.putpalette([9, 9, 9] + [part for c in COLOURS for part in c] + [0] * 3 * 252)
        image.save(path)
        return
    Image.fromarray(stored.astype(np.uint16 if how == "16" else np.uint8)).save(path)


def pairs(root: Path, how: str = "grey", masks: str = "masks", classes: str = "road\ntree\nwater\n") -> Path:
    for k, name in enumerate(("train/a", "train/b", "val/c")):
        picture(root / "images" / f"{name}.jpg", SIZE)
        save(root / masks / f"{name}.png", labels(k), how)
    (root / "classes.txt").write_text(classes)
    return root


@pytest.mark.parametrize("how", ["grey", "16"])
def test_folders_of_images_and_masks(tmp_path: Path, how: str) -> None:
    data = open_dataset(pairs(tmp_path / "d", how, "annotations"))
    assert (data.format, data.kind, data.splits, [*data.classes]) == ("semantic", "class_map", ("train", "val"), NAMES)
    for k in range(3):
        assert np.array_equal(data.target(k).labels.numpy(), labels(k))
    assert data.target(2).source == "images/val/c.jpg"
    report = check(data)
    assert report.ok, report


@pytest.mark.parametrize("how", ["rgb", "palette"])
def test_colours_of_a_table(tmp_path: Path, how: str) -> None:
    root = pairs(tmp_path / "d", how, classes=TEXT + "ignore 255 255 255\n")
    data = open_dataset(root)
    assert [*data.classes] == NAMES
    assert np.array_equal(data.target(1).labels.numpy(), labels(1))
    ordered = open_dataset(root, classes=["water", "sky", "road", "tree"])
    moved = np.array([2, 3, 0, IGNORE])[labels(1)]
    assert np.array_equal(ordered.target(1).labels.numpy(), moved)
    (root / "classes.txt").write_text(TEXT)
    if how == "rgb":
        with pytest.raises(
            InputError, match=r"a\.png contains colours without a class: \(255, 255, 255\) \(5 pixels\)"
        ):
            open_dataset(root).target(0)


@pytest.mark.parametrize(
    "text",
    [
        {"names": NAMES, "colors": ["#c80a0a", "#007800", "#00005a"], "ignore_index": 255},
        [{"name": n, "color": c} for n, c in zip(NAMES, COLOURS, strict=True)],
        dict(zip(NAMES, map(list, COLOURS), strict=True)),
        {"0": "road", "1": "tree", "2": "water"},
        {"water": 2, "road": 0, "tree": 1},
        "0: road\n1: tree\n2: water\n",
        "# label:color_rgb:parts:actions\nroad:200,10,10::\ntree:0,120,0::\nwater:0,0,90::\n",
        "name,r,g,b\nroad,200,10,10\ntree,0,120,0\nwater,0,0,90\n",
    ],
)
def test_files_of_classes(tmp_path: Path, text: object) -> None:
    root = pairs(tmp_path / "d")
    (root / "classes.txt").unlink()
    name = "classes.json" if not isinstance(text, str) else "class_dict.csv" if "name,r" in text else "labelmap.txt"
    (root / name).write_text(text if isinstance(text, str) else json.dumps(text))
    data = open_dataset(root)
    assert [*data.classes] == NAMES
    assert np.array_equal(data.target(0).labels.numpy(), labels(0))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "0 road\n3: tree\n7, water\n200 ignore\n"),
        ("classes.json", '{"0": "road", "3": "tree", "7": "water", "200": "ignore"}'),
        ("classes.json", '{"water": 7, "road": 0, "tree": 3, "ignore_index": 200}'),
    ],
)
def test_numbers_in_files_of_classes_are_the_values_of_the_masks(tmp_path: Path, name: str, text: str) -> None:
    """Numbers that have gaps, or begin at 1, are neither the rows of the list nor parts of the names."""
    root = pairs(tmp_path / "d")
    (root / "classes.txt").unlink()
    (root / name).write_text(text)
    values = np.array([[0, 3], [7, 200]], np.uint8).repeat(SIZE[0] // 2, 0).repeat(SIZE[1] // 2, 1)
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(values).save(path)
    data = open_dataset(root)
    assert [*data.classes] == ["road", "tree", "water"]
    expected = np.where(values == 200, IGNORE, np.searchsorted([0, 3, 7, 200], values))
    assert np.array_equal(data.target(0).labels.numpy(), expected)
    (root / name).write_text(text.replace("0 road", "1 road").replace('"0"', '"1"').replace("0, ", "1, "))
    with pytest.raises(
        InputError, match=r"contains values without a class: 0 .* the values of the 3 classes are 1, 3, 7"
    ):
        open_dataset(root).target(0)


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA", "I"])
def test_grey_masks_in_other_modes(tmp_path: Path, mode: str) -> None:
    """Alpha says nothing about a class, and a colour whose parts are equal is a grey value; coloured pixels are not."""
    root = pairs(tmp_path / "d")
    grey = Image.fromarray(np.where(labels() == IGNORE, 255, labels()).astype(np.uint8))
    ending = ".tif" if mode == "I" else ".png"
    for path in sorted((root / "masks").rglob("*.png")):
        path.unlink()
        grey.convert(mode).save(path.with_suffix(ending))
    assert np.array_equal(open_dataset(root).target(0).labels.numpy(), labels())
    if mode == "RGB":
        coloured = np.asarray(grey.convert(mode)).copy()
        coloured[-1, -1, 2] = 7
        Image.fromarray(coloured).save(root / "masks" / "train" / "a.png")
        with pytest.raises(InputError, match="one whole number per pixel"):
            open_dataset(root).target(0)


def test_numbers_that_belong_to_names_are_kept(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d")
    (root / "classes.txt").write_text("1 euro\n2 euro\n5 euro\n")
    assert [*open_dataset(root).classes] == ["1 euro", "2 euro", "5 euro"]


def test_classes_that_no_file_names_are_noted(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d")
    assert open_dataset(root).notes == ()
    (root / "classes.txt").unlink()
    (note,) = open_dataset(root).notes
    assert "so they are called class 0 to class 2; a classes.txt names them" in note
    assert open_dataset(root, classes=NAMES).notes == ()


def test_other_layouts(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / "s" / split / "images" / "a.jpg", SIZE)
        save(tmp_path / "s" / split / "masks" / "a_mask.png", labels(), "grey")
    data = open_dataset(tmp_path / "s")
    assert (data.format, data.splits, [*data.classes]) == (
        "semantic",
        ("train", "test"),
        ["class 0", "class 1", "class 2"],
    )
    assert np.array_equal(data.target(1).labels.numpy(), labels())

    picture(tmp_path / "v" / "JPEGImages" / "a.jpg", SIZE)
    voc = Image.fromarray(np.where(labels() == IGNORE, 255, labels() * 7).astype(np.uint8))
    voc.putpalette([part for k in range(256) for part in colour(k)])
    (tmp_path / "v" / "SegmentationClass").mkdir()
    voc.save(tmp_path / "v" / "SegmentationClass" / "a.png")
    data = open_dataset(tmp_path / "v")
    assert len(data.classes) == 21
    assert np.array_equal(data.target(0).labels.numpy(), np.where(labels() == IGNORE, IGNORE, labels() * 7))

    root = pairs(tmp_path / "l")
    (root / "val.txt").write_text("images/val/c.jpg masks/val/c.png\n")
    (root / "train.txt").write_text("images/train/a.jpg\nimages/train/b.jpg\n")
    data = open_dataset(root, train="train.txt", val="val.txt")
    assert (len(data["train"]), len(data["val"])) == (2, 1)
    assert np.array_equal(data["val"].target(0).labels.numpy(), labels(2))
    assert open_dataset(root / "val.txt").kind == "class_map"


@pytest.mark.parametrize("added", ["annot", "_labels", "_masks"])
def test_masks_in_folders_beside_those_of_the_splits(tmp_path: Path, added: str) -> None:
    for k, split in enumerate(("train", "val")):
        picture(tmp_path / split / "a.png", SIZE)
        save(tmp_path / f"{split}{added}" / "a.png", labels(k))
    data = open_dataset(tmp_path)
    assert (data.format, data.splits, len(data)) == ("semantic", ("train", "val"), 2)
    assert np.array_equal(data["val"].target(0).labels.numpy(), labels(1))


def test_img_dir_and_ann_dir(tmp_path: Path) -> None:
    picture(tmp_path / "img_dir" / "train" / "a.jpg", SIZE)
    save(tmp_path / "ann_dir" / "train" / "a.png", labels())
    assert np.array_equal(open_dataset(tmp_path)["train"].target(0).labels.numpy(), labels())


def test_zero_and_255_are_background_and_foreground(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", SIZE)
    values = (labels() > 0).astype(np.uint8) * 255
    save(tmp_path / "masks" / "a.png", values)
    data = open_dataset(tmp_path)
    assert [*data.classes] == ["background", "foreground"]
    assert np.array_equal(data.target(0).labels.numpy(), values // 255)


def test_the_order_of_two_classes_does_not_turn_them(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", SIZE)
    values = (labels() > 0).astype(np.uint8) * 255
    save(tmp_path / "masks" / "a.png", values)
    (tmp_path / "classes.txt").write_text("background\ncrack\n")
    data = open_dataset(tmp_path, classes=["crack", "background"])
    assert [*data.classes] == ["crack", "background"]
    assert np.array_equal(data.target(0).labels.numpy(), 1 - values // 255)
    assert np.array_equal(open_dataset(tmp_path).target(0).labels.numpy(), values // 255)
    with pytest.raises(InputError, match=r"class 'crack', which is not among the classes \(crevice, background\)"):
        open_dataset(tmp_path, classes=["crevice", "background"])


def test_a_class_named_ignore_stays(tmp_path: Path) -> None:
    maps = [torch.arange(3).repeat(SIZE[0], -(-SIZE[1] // 3))[:, : SIZE[1]]]
    data = Dataset.from_class_maps([torch.zeros(3, *SIZE, dtype=torch.uint8)], maps, ["background", "ignore", "cat"])
    again = open_dataset(convert(data, tmp_path / "d", "semantic").folder)
    assert [*again.classes] == ["background", "ignore", "cat"]
    assert torch.equal(again.target(0).labels, maps[0])


def test_numbers_far_from_ids(tmp_path: Path) -> None:
    """-1 does not count; numbers that would fill the memory if they were counted are told of."""
    picture(tmp_path / "images" / "a.jpg", SIZE)
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    values = labels().astype(np.int64)
    values[0, 0] = -1
    np.save(tmp_path / "masks" / "a.npy", values)
    assert np.array_equal(open_dataset(tmp_path).target(0).labels.numpy(), values)
    values[0, :2] = 2**40
    np.save(tmp_path / "masks" / "a.npy", values)
    with pytest.raises(InputError, match=r"contains values without a class: 1099511627776 \(2 pixels\)"):
        open_dataset(tmp_path).target(0)


def test_two_classes_of_which_only_one_is_seen_with_ignored_pixels(tmp_path: Path) -> None:
    """What was written says that 255 does not count; and in a folder that says nothing, all masks are looked at."""
    maps = [torch.zeros(SIZE, dtype=torch.int64) for _ in range(8)]
    for values in maps:
        values[:2] = IGNORE
    maps[7][5:] = 1
    images = [torch.zeros(3, *SIZE, dtype=torch.uint8)] * 8
    convert(Dataset.from_class_maps(images, maps, ["a", "b"]), tmp_path / "d", "semantic")
    again = open_dataset(tmp_path / "d")
    assert all(torch.equal(again.target(k).labels, maps[k]) for k in range(8))
    (tmp_path / "d" / "classes.json").unlink()
    (tmp_path / "d" / "classes.txt").write_text("a\nb\n")
    for again in (open_dataset(tmp_path / "d"), open_dataset(tmp_path / "d", ignore=255)):
        assert all(torch.equal(again.target(k).labels, maps[k]) for k in range(8))
    for path in (tmp_path / "d" / "masks").rglob("*7.png"):
        path.unlink()
    assert (open_dataset(tmp_path / "d", ignore=255).target(0).labels == maps[0]).all()


def test_the_255th_of_many_classes_counts(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", SIZE)
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) + 60
    values[0, 0] = 65535
    (tmp_path / "masks").mkdir()
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "masks" / "a.png")
    values[0, 0] = IGNORE
    assert np.array_equal(open_dataset(tmp_path).target(0).labels.numpy(), values)
    (tmp_path / "classes.txt").write_text("".join(f"c{k}\n" for k in range(300)))
    assert np.array_equal(open_dataset(tmp_path).target(0).labels.numpy(), values)


def test_one_named_class_has_a_background(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", SIZE)
    values = (labels() > 0).astype(np.uint8) * 255
    save(tmp_path / "masks" / "a.png", values)
    (tmp_path / "classes.txt").write_text("building\n")
    data = open_dataset(tmp_path)
    assert [*data.classes] == ["background", "building"]
    assert np.array_equal(data.target(0).labels.numpy(), values // 255)
    (tmp_path / "classes.txt").write_text("background\nbuilding\ntree\n")
    report = check(open_dataset(tmp_path))
    assert "every labelled pixel has the class 'background'" in str(report)
    assert not report.ok
    (tmp_path / "images").rename(tmp_path / "val_images")
    for name, source in (("images", "val_images"), ("masks", "masks")):
        (tmp_path / "val" / name).mkdir(parents=True)
        for path in (tmp_path / source).iterdir():
            path.rename(tmp_path / "val" / name / path.name)
    assert check(open_dataset(tmp_path)["val"]).ok  # a few images to validate on may show one class


def test_masks_that_are_not_exact(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg", SIZE)
    picture(tmp_path / "masks" / "a.jpg", SIZE)
    Image.open(tmp_path / "masks" / "a.jpg").convert("L").save(tmp_path / "masks" / "a.jpg")
    with pytest.raises(InputError, match=r"masks/a\.jpg is a JPEG, whose values are not exact; save masks as PNG"):
        open_dataset(tmp_path)


def test_a_mask_is_no_other_image_s(tmp_path: Path) -> None:
    for name in ("mode", "model"):
        picture(tmp_path / "images" / f"{name}.jpg", SIZE)
    save(tmp_path / "masks" / "model.png", labels())
    (tmp_path / "classes.txt").write_text("road\ntree\nwater\n")
    data = open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"images/mode\.jpg has no mask"):
        data.target(0)
    assert np.array_equal(data.target(1).labels.numpy(), labels())
    (tmp_path / "masks" / "model.png").rename(tmp_path / "masks" / "mode_l.png")
    picture(tmp_path / "images" / "mode_l.jpg", SIZE)
    assert [i for i in range(3) if open_dataset(tmp_path).columns.maps[i]] == [1]


def test_a_palette_with_a_colour_that_is_not_listed(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d", "palette", classes=TEXT)
    stored = Image.fromarray((labels().clip(0) + 1).astype(np.uint8))
    stored.putpalette([9, 9, 9] + [part for c in COLOURS[:2] for part in c] + [0, 0, 91] + [0] * 3 * 252)
    stored.save(root / "masks" / "train" / "a.png")
    count = int((labels().clip(0) == 2).sum())
    with pytest.raises(InputError, match=rf"a\.png contains colours without a class: \(0, 0, 91\) \({count} pixels\)"):
        open_dataset(root).target(0)


def test_bad_masks(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d")
    values = labels()
    values[3, :4], values[4, 0] = 7, 200
    save(root / "masks" / "train" / "a.png", values)
    save(root / "masks" / "train" / "b.png", labels()[:, :15])
    (root / "masks" / "val" / "c.png").unlink()
    data = open_dataset(root)
    with pytest.raises(
        InputError, match=r"masks/train/a\.png contains values without a class: 7 \(4 pixels\), 200 \(1 pix"
    ):
        data.target(0)
    assert open_dataset(root, ignore=7, classes=None)["train"].source.ignore == 7
    with pytest.raises(
        InputError, match=r"masks/train/b\.png has 15 × 12 pixels, but its image images/train/b\.jpg has 20"
    ):
        data.target(1)
    with pytest.raises(InputError, match=r"the image images/val/c\.jpg has no mask; add one with its name"):
        data.target(2)
    report = check(data)
    assert not report.ok
    assert sum(problem.rule == "map-invalid" for problem in report.problems) == 3
    (root / "classes.txt").unlink()
    save(root / "masks" / "train" / "a.png", labels(), "rgb")
    with pytest.raises(InputError, match=r"a\.png is a colour image, and no file lists the classes"):
        open_dataset(root)


def test_written_and_read_again(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d")
    done = convert(root, tmp_path / "copy", "semantic")
    assert "3 images with class maps written to" in str(done)
    again = open_dataset(tmp_path / "copy")
    assert (again.splits, [*again.classes]) == (("train", "val"), NAMES)
    assert all(torch.equal(again.target(k).labels, open_dataset(root).target(k).labels) for k in range(3))
    with Image.open(tmp_path / "copy" / "masks" / "val" / "c.png") as mask:
        assert mask.mode == "P"
    many = Dataset.from_class_maps(
        [torch.zeros(3, 1, 400, dtype=torch.uint8)], [torch.arange(400)[None]], map(str, range(400)), ignore=None
    )
    convert(many, tmp_path / "many", "semantic")
    assert torch.equal(open_dataset(tmp_path / "many").target(0).labels, torch.arange(400)[None])


def test_objects_as_class_maps(tmp_path: Path) -> None:
    masks = torch.zeros(3, 10, 14, dtype=torch.bool)
    masks[0, 2:4, 2:4] = True  # small, over the next
    masks[1, 1:8, 1:9] = True
    masks[2, 9, :] = True
    objects = Instances(
        (10, 14),
        boxes=[[2, 2, 4, 4], [1, 1, 9, 8], [0, 9, 14, 10]],
        labels=[1, 0, 0],
        crowd=[False, False, True],
        masks=masks,
    )
    image = torch.zeros(3, 10, 14, dtype=torch.uint8)
    data = Dataset.from_instances([image, image], [objects, objects], ["cell", "core"], splits=["train", "val"])
    expected = torch.zeros(10, 14, dtype=torch.int64)
    expected[masks[1]], expected[masks[0]], expected[masks[2]] = 1, 2, IGNORE
    maps = data.as_class_map()
    assert [*maps.classes] == ["background", "cell", "core"]
    assert torch.equal(maps.target(0).labels, expected)
    assert torch.equal(maps["val"].split(1.0, 0, 0).target(0).labels, expected)
    assert int(data.as_class_map(background=None).target(0).labels[0, 0]) == IGNORE
    assert torch.equal(data.as_class_map("core").target(0).labels[2:4, 2:4], torch.ones(2, 2, dtype=torch.int64))
    assert convert(data, tmp_path / "m", "semantic").lost == {"borders between objects": 6}
    assert torch.equal(open_dataset(tmp_path / "m")["val"].target(0).labels, expected)
    boxes = Dataset.from_instances([image], [Instances((10, 14), boxes=[[1, 1, 5, 5]], labels=[0])], ["cell"])
    with pytest.raises(InputError, match="the objects have boxes but no outlines"):
        boxes.as_class_map()


@pytest.mark.skipif(not AERIAL.is_dir(), reason="the pack of real data is not there")
def test_aerial_photographs() -> None:
    data = open_dataset(AERIAL)
    assert data.format == "semantic"
    assert [*data.classes] == ["building", "land", "road", "vegetation", "water"]
    assert (len(data["train"]), len(data["val"])) == (56, 16)
    target = data["val"].target(0)
    with Image.open(data["val"].label_path(0)) as mask:
        stored = np.asarray(mask).astype(np.int64)
    assert np.array_equal(target.labels.numpy(), np.where(stored == 255, IGNORE, stored))


LISTED = ((64, 128, 64), (0, 0, 0), (128, 0, 192))


def coloured(path: Path, columns: Sequence[tuple[int, int, int]] = LISTED) -> None:
    """A mask of 2 × 3 pixels whose columns have these colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([columns, columns], np.uint8)).save(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_dict.csv", "name,r,g,b\nAnimal,64,128,64\nVoid,0,0,0\nSign board,128,0,192\n"),
        ("class_dict_seg.csv", "name, r, g, b\nAnimal, 64, 128, 64\nVoid, 0, 0, 0\nSign board, 128, 0, 192\n"),
        ("masks/class_dict.csv", 'class,rgb\nAnimal,"64,128,64"\nVoid,"0,0,0"\nSign board,"(128, 0, 192)"\n'),
        ("class_dict.csv", "r,g,b,name\n64,128,64,Animal\n0,0,0,Void\n128,0,192,Sign board\n"),
        ("class_dict.csv", "name,color\nAnimal,#408040\nVoid,#000000\nSign board,#8000C0\n"),
        ("class_dict.csv", "id,name,r,g,b\n2,Sign board,128,0,192\n0,Animal,64,128,64\n1,Void,0,0,0\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nAnimal:64,128,64::\nVoid:0,0,0::\nSign board:128,0,192::\n"),
        ("label_colors.txt", "64 128 64\tAnimal\n0 0 0\tVoid\n128 0 192\tSign board\n"),
    ],
)  # fmt: skip
def test_colour_tables(tmp_path: Path, name: str, content: str):
    picture(tmp_path / "images" / "a.png", (2, 3))
    coloured(tmp_path / "masks" / "a.png")
    text(tmp_path / name, content)
    data = open_dataset(tmp_path)
    assert tuple(data.classes) == ("Animal", "Void", "Sign board")
    assert data.target(0).labels.tolist() == [[0, 1, 2]] * 2


def test_a_colour_table_of_two_classes(tmp_path: Path):
    """Two classes are no sign of black and white masks where their colours are listed."""
    for split in ("train", "val"):
        picture(tmp_path / split / "1_07.png", (2, 3))
        coloured(tmp_path / f"{split}_labels" / "1_07_L.png", [LISTED[0], LISTED[0], LISTED[1]])
    text(tmp_path / "class_dict.csv", "name,r,g,b\nVoid,0,0,0\nAnimal,64,128,64\n")
    data = open_dataset(tmp_path)
    assert data.splits == ("train", "val")
    assert data.target(0).labels.tolist() == [[1, 1, 0]] * 2


def test_values_that_are_no_row_numbers(tmp_path: Path):
    picture(tmp_path / "images" / "a.png", (2, 3))
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.array([[7, 3, 255]] * 2, np.uint8)).save(tmp_path / "masks" / "a.png")
    text(tmp_path / "class_dict.csv", "name,id\ncar,7\nroad,3\n")
    data = open_dataset(tmp_path)
    assert tuple(data.classes) == ("road", "car")
    assert data.target(0).labels.tolist() == [[1, 0, -1]] * 2
    turned = open_dataset(tmp_path, classes=["car", "road"])
    assert turned.target(0).labels.tolist() == [[0, 1, -1]] * 2


@pytest.mark.parametrize("labelmap", [None, "background:0,0,0::\nperson:192,128,128::\n"])
def test_voc_in_colours_without_annotations(tmp_path: Path, labelmap: str | None):
    picture(tmp_path / "JPEGImages" / "a.jpg", (2, 3))
    coloured(tmp_path / "SegmentationClass" / "a.png", [(0, 0, 0), (192, 128, 128), (224, 224, 192)])
    text(tmp_path / "ImageSets" / "Segmentation" / "val.txt", "a\n")
    if labelmap:
        text(tmp_path / "labelmap.txt", labelmap)
    data = open_dataset(tmp_path)
    assert (data.format, data.splits) == ("semantic", ("val",))
    person = data.classes.id("person")
    assert person == (1 if labelmap else 15)
    assert data.target(0).labels.tolist() == [[0, person, -1]] * 2


def test_masks_beside_their_images(tmp_path: Path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "a.jpg", (2, 3))
        picture(tmp_path / split / "b.jpg", (2, 3))
        Image.fromarray(np.array([[0, 1, 1]] * 2, np.uint8)).save(tmp_path / split / "a_mask.png")
        text(tmp_path / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, car\n")
    data = open_dataset(tmp_path)
    assert [(data.split_of(i), data.image_name(i)) for i in range(4)] == [
        ("train", "a.jpg"), ("train", "b.jpg"), ("val", "a.jpg"), ("val", "b.jpg")
    ]  # fmt: skip
    assert tuple(data.classes) == ("background", "car")
    assert data.target(0).labels.tolist() == [[0, 1, 1]] * 2


def test_named_images_are_not_looked_for_elsewhere(tmp_path: Path):
    """Masks beside folders of splits belong to the images there, not to those in the folder that the user names."""
    for name in ("home/train/a.png", "home/train_masks/a.png", "others/b.png"):
        picture(tmp_path / name)
    with pytest.raises(InputError, match="home contains no images"):
        open_dataset(tmp_path / "home", format="semantic", images=tmp_path / "others", classes=["x", "y"])
