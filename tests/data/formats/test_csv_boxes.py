"""CSV of boxes: columns by name, fractions of the image size, images without objects, mistakes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sightline.data.dataset import Dataset
from sightline.data.formats import convert, open_dataset
from sightline.errors import InputError

from .helpers import everything, picture, rows, text, voc

KAGGLE = "image_id,xmin,ymin,xmax,ymax\na,1,2,11,22\nb,3,4,5,6\na,30,20,40,40\n"


def opened(root: Path, content: str, *names: str, file: str = "labels.csv") -> Dataset:
    for name in names or ("a.jpg", "b.jpg"):
        picture(root / name)
    text(root / file, content)
    return open_dataset(root)


def test_kaggle_names_without_ending_and_no_class(tmp_path: Path):
    data = opened(tmp_path / "wheat", KAGGLE, "train/a.jpg", "train/b.jpg", "train/c.jpg")
    assert data.format == "csv"
    assert everything(data) == {
        ("all", "a.jpg"): [("wheat", 1, 2, 11, 22), ("wheat", 30, 20, 40, 40)],
        ("all", "b.jpg"): [("wheat", 3, 4, 5, 6)],
    }
    assert data.notes == (
        "labels.csv: columns: image from image_id; box (corners) from xmin, ymin, xmax, ymax",
        "there is no class column: all objects have the class 'wheat'",
        "images in no label file, which are left out: 1, the first train/c.jpg",
    )


def test_one_column_with_corner_and_sides(tmp_path: Path):
    content = 'image_id,width,height,bbox,source\na,64,48,"[10.0, 20.0, 6.0, 8.0]",usask_1\nb,64,48,,usask_1\n'
    data = opened(tmp_path / "wheat", content)
    assert everything(data) == {("all", "a.jpg"): [("wheat", 10, 20, 16, 28)], ("all", "b.jpg"): []}
    assert data.image_size(0) == (48, 64)


def test_tensorflow_a_file_a_split(tmp_path: Path):
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    picture(tmp_path / "images" / "test" / "b.jpg")
    text(tmp_path / "test_labels.csv", head + "b.jpg,64,48,cat,0,0,9,9\n")
    data = opened(tmp_path, head + "a.jpg,64,48,dog,1,2,3,4\n", "images/train/a.jpg", file="train_labels.csv")
    assert everything(data) == {("train", "a.jpg"): [("dog", 1, 2, 3, 4)], ("test", "b.jpg"): [("cat", 0, 0, 9, 9)]}
    assert tuple(data.classes) == ("cat", "dog")


def test_open_images_in_its_own_order_of_columns(tmp_path: Path):
    content = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        "000a,xclick,/m/01,1,0.25,0.5,0.125,1,-1,1,0,0,0\n000a,xclick,/m/02,1,0,1,0,0.5,0,0,1,0,0\n"
    )
    text(tmp_path / "class-descriptions-boxable.csv", "/m/01,Tortoise\n/m/02,Bird\n/m/03,Fox\n")
    data = opened(tmp_path, content, "validation/000a.jpg", file="validation-annotations-bbox.csv")
    assert everything(data) == {("val", "000a.jpg"): [("Tortoise", 16, 6, 32, 48), ("Bird", 0, 0, 64, 24)]}
    assert data.columns.crowd.tolist() == [False, True]
    assert data.columns.extra["truncated"].tolist() == [True, False]
    assert "occluded" not in data.columns.extra  # −1 is not known
    assert "fractions of the image size" in data.notes[1]


def test_keras_retinanet_without_header(tmp_path: Path):
    text(tmp_path / "classes.csv", "zebra,0\ncow,1\n")
    data = opened(tmp_path, "img/a.jpg,1,2,30,40,cow\nimg/b.jpg,,,,,\n", "img/a.jpg", "img/b.jpg")
    assert everything(data) == {("all", "a.jpg"): [("cow", 1, 2, 30, 40)], ("all", "b.jpg"): []}
    assert tuple(data.classes) == ("zebra", "cow")
    assert data.notes[0].startswith("labels.csv: columns by position: image from 1; box (corners) from 2, 3, 4, 5")


@pytest.mark.parametrize(
    ("content", "box"),
    [
        ('"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",1.5,2,30,40,"x"\n', (1.5, 2, 30, 40)),  # VoTT
        ("patientId,x,y,width,height,Target\na,2,3,10,20,x\n", (2, 3, 12, 23)),
        ("path;x_center;y_center;width;height;label\na.jpg;10;20;4;8;x\n", (8, 16, 12, 24)),
        ("label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\nx,1,2,3,4,a.jpg,64,48\n",
         (1, 2, 4, 6)),  # makesense.ai
        ("path;x_center;y_center;width;height;label\na.jpg;10,5;20;4,0;8,5;x\n", (8.5, 15.75, 12.5, 24.25)),
        ("filename\tclass\txmin\tymin\txmax\tymax\na.jpg\tx\t0,25\t0,5\t0,5\t1,0\n", (16, 24, 32, 48)),
        ('filename;class;bbox\na.jpg;x;"[1, 2, 3, 4]"\n', (1, 2, 4, 6)),
        ("class_name,class_id,image_id,x0,y0,x1,y1\nx,7,a,1,2,3,4\n", (1, 2, 3, 4)),
        ("image\tleft\ttop\tright\tbottom\tcls\na.jpg\t1\t2\t3\t4\tx\n", (1, 2, 3, 4)),
        ("filename,width,height,xmin,ymin,xmax,ymax,class\na.jpg,64,48,0.25,0.5,0.5,1.0,x\n", (16, 24, 32, 48)),
    ],
)  # fmt: skip
def test_columns_by_name(tmp_path: Path, content: str, box: tuple[float, ...]):
    assert rows(opened(tmp_path, content, "a.jpg"), 0) == [("x", *box)]


def test_a_column_of_splits_and_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    content = "filename,class,xmin,ymin,xmax,ymax,split\na.jpg,x,1,2,3,4,TRAIN\nb.jpg,x,1,2,3,4,valid\n"
    with caplog.at_level(logging.WARNING, "sightline"):
        data = opened(tmp_path, content)
    assert data.splits == ("train", "val")
    assert "class from class; split from split" in caplog.text


def test_written_and_read_again(tmp_path: Path):
    voc(tmp_path / "in" / "a.xml", "a.jpg", [("dog, big", 0.25, 0, 0.5, 1)])
    picture(tmp_path / "in" / "a.jpg")
    done = convert(tmp_path / "in", tmp_path / "out", "csv")
    header, row = (done.folder / "_annotations.csv").read_text().splitlines()
    assert header == "filename,width,height,class,xmin_pixels,ymin_pixels,xmax_pixels,ymax_pixels"
    assert row == 'a.jpg,64,48,"dog, big",0.25,0.0,0.5,1.0'
    assert rows(open_dataset(done.folder), 0) == [("dog, big", 0.25, 0, 0.5, 1)]


def test_beside_other_labels_it_is_a_table_of_the_same(tmp_path: Path):
    voc(tmp_path / "a.xml", "a.jpg", [("dog", 1, 2, 3, 4)])
    assert opened(tmp_path, "filename,class,xmin,ymin,xmax,ymax\na.jpg,dog,1,2,3,4\n").format == "voc"
    assert open_dataset(tmp_path / "labels.csv").format == "csv"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("filename,class,xmin,ymin,xmax,ymax\na.jpg,x,1,2,three,4\n", r"row 2 has the coordinates .*'three'"),
        ("filename,class,xmin,ymin,xmax,ymax\na.jpg,,1,2,3,4\n", "row 2 has no class"),
        ("filename,class,xmin,ymin,xmax,ymax\na.jpg,x, y,1,2,3,4\n", "row 2 has 7 fields, but there are 6 columns"),
        ('filename,class,bbox\na.jpg,x,"[1, 2, 3]"\n', "row 2 has the box .*, but a box is four numbers"),
        ("filename,class,xmin,ymin,xmax,ymax\na.jpg,x,0,0,.5,.5\na.jpg,x,0,0,.4,.4\na.jpg,x,0,0,30,1\n",
         r"most boxes are fractions.* but not that of .*row 4 \(0, 0, 30, 1\)"),
        ("filename,class,xmin,ymin,xmax,ymax\nz.jpg,x,1,2,3,4\n", "contains 1 labels but none of their images"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, content: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        opened(tmp_path, content)


def test_all_bad_rows_are_listed(tmp_path: Path):
    text(tmp_path / "l.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,x,1,2,q,4\na.jpg,x,1,2,3,4\na.jpg,,1,2,3,4\n")
    picture(tmp_path / "a.jpg")
    data = open_dataset(tmp_path, lenient=True)
    assert rows(data, 0) == [("x", 1, 2, 3, 4)]
    assert [(bad.file.name, bad.line) for bad in data.malformed] == [("l.csv", 2), ("l.csv", 4)]


def test_a_name_that_fits_two_images(tmp_path: Path):
    with pytest.raises(InputError, match=r"the image 'a' may be .*one/a\.jpg or .*two/a\.jpg; write its folder"):
        opened(tmp_path, "image_id,xmin,ymin,xmax,ymax\na,1,2,3,4\n", "one/a.jpg", "two/a.jpg")


def test_a_missing_image_is_not_another_of_its_name(tmp_path: Path):
    """case1/a.jpg is not there; case2/a.jpg is another image."""
    data = opened(tmp_path, "image,label,x1,y1,x2,y2\ncase1/a.jpg,x,1,2,3,4\ncase3/b.jpg,y,1,2,3,4\n",
                  "case2/a.jpg", "case3/b.jpg")  # fmt: skip
    assert data.orphans == ("labels.csv: case1/a.jpg",)
    assert everything(data) == {("all", "b.jpg"): [("y", 1, 2, 3, 4)]}


def test_other_tables_are_not_taken_for_boxes(tmp_path: Path):
    with pytest.raises(InputError):
        opened(tmp_path, "file,width,height,licence\na.jpg,64,48,CC0\n")


HEAD = "filename,class,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    ("lines", "boxes"),
    [
        (["0,0,1.01,0.5"], [(0, 0, 64.64, 24)]),  # rounded up a little beyond 1: a part all the same
        (["0,0,1.02,0.5"], [(0, 0, 1.02, 0.5)]),
        (["-0.5,0,0.5,0.5", "0,0,1,1"], [(-32, 0, 32, 24), (0, 0, 64, 48)]),
        (["0,0,1,1", "0,0,20,20"], [(0, 0, 1, 1), (0, 0, 20, 20)]),  # as many in pixels: all are
    ],
)
def test_parts_and_pixels(tmp_path: Path, lines: list[str], boxes: list[tuple[float, ...]]):
    data = opened(tmp_path, HEAD + "".join(f"a.jpg,x,{line}\n" for line in lines), "a.jpg")
    assert [row[1:] for row in rows(data, 0)] == [pytest.approx(box, abs=1e-4) for box in boxes]


@pytest.mark.parametrize(("width", "height"), [("-64", "48"), ("64.5", "48"), ("64", "47.9")])
def test_sizes_that_are_none(tmp_path: Path, width: str, height: str):
    content = f"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,{width},{height},x,1,2,3,4\n"
    with pytest.raises(InputError, match=f"an image size of {width} × {height}, but sizes are whole numbers of pixels"):
        opened(tmp_path, content, "a.jpg")


@pytest.mark.parametrize("empty", ["", "nan", "None", "NULL", "[]"])
def test_words_for_no_box(tmp_path: Path, empty: str):
    data = opened(tmp_path, f"filename,bbox\na.jpg,{empty}\nb.jpg,1 2 3 4\n")
    assert [len(rows(data, i)) for i in range(2)] == [0, 1]
    short = opened(tmp_path / "short", HEAD + "a.jpg\nb.jpg,x,1,2,3,4,\n,,,,,\n")  # fewer cells, and empty ones more
    assert everything(short) == {("all", "a.jpg"): [], ("all", "b.jpg"): [("x", 1, 2, 3, 4)]}
