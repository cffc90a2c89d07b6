"""Bad inputs of further formats: CSV, archives, YOLO pose, Parquet, Cityscapes, HEIC, data.yaml of poses."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.bad import Bad, Make, as_image, nothing, one_file
from tests.hostile.world import World, picture

HEAD = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def more_formats() -> Iterator[Bad]:
    """Rows of the table."""
    for what, text, word in (
        ("a word for a number", HEAD + "a.png,64,48,cat,left,2,30,40\n", "left"),
        ("not a number", HEAD + "a.png,64,48,cat,nan,2,30,40\n", "nan"),
        ("an infinite side", HEAD + "a.png,64,48,cat,1e999,2,30,40\n", "a.csv"),
        ("a row too short", HEAD + "a.png,64,48,cat,1\n", "a.csv"),
        ("a side of 10^200", HEAD + "a.png,64,48,cat,1" + "0" * 200 + ",2,30,40\n", "a"),
        ("an image that is not there", HEAD + "none.png,64,48,cat,1,2,30,40\n", "none.png"),
        ("no class", HEAD + "a.png,64,48,,1,2,30,40\n", "class"),
        ("an open quote", HEAD + 'a.png,64,48,"cat,1,2,30,40\n', "a.csv"),
        ("swapped corners", HEAD + "a.png,64,48,cat,30,40,1,2\n", "box-inverted"),
        ("zero bytes", HEAD.encode() + b"a.png,64,48,c\0t,1,2,30,40\n", "class 0"),
        ("no text", bytes(range(256)) * 8, "a.csv"),
        ("a width of 10^30", HEAD + f"a.png,{10**30},48,cat,1,2,30,40\n", "a"),
        ("a field of 100 MB", HEAD + "a.png,64,48," + "x" * 10**8 + ",1,2,30,40\n", "a.csv"),
        ("a header alone", HEAD, "images"),
        ("the column of a side twice", HEAD.replace("ymin", "xmin") + "a.png,64,48,cat,1,2,30,40\n", "a.csv"),
        ("a bbox that is no list", "image_id,width,height,bbox\na,64,48,here\n", "here"),
        ("a bbox of three", 'image_id,width,height,bbox\na,64,48,"[1, 2, 3]"\n', "a"),
        ("a bbox of code", "image_id,width,height,bbox\na,64,48,\"__import__('os')\"\n", "a"),
    ):
        yield Bad(f"CSV: {what}", one_file("a.csv", text), "check {f}", word)

    def zipped(**files: bytes | str) -> Make:
        def make(folder: Path, world: World) -> None:
            with zipfile.ZipFile(folder / "d.zip", "w", zipfile.ZIP_DEFLATED) as out:
                for name, content in files.items():
                    out.writestr(name.replace("__", "/").replace("_dot_", "."), content)

        return make

    def tarred(change: Callable[[tarfile.TarInfo], Any]) -> Make:
        def make(folder: Path, world: World) -> None:
            with tarfile.open(folder / "d.tar", "w") as out:
                entry = tarfile.TarInfo("a.txt")
                change(entry)
                out.addfile(entry, io.BytesIO(b"0" * entry.size) if entry.isreg() else None)

        return make

    yield Bad("archive: empty", as_image("d.zip", b""), "check {f}/d.zip", "d.zip")
    yield Bad("archive: no archive", as_image("d.zip", b"PK\3\4nope"), "check {f}/d.zip", "d.zip")
    yield Bad("archive: a tar that is none", as_image("d.tar", b"x" * 2000), "check {f}/d.tar", "d.tar")
    yield Bad(
        "archive: a gzip cut off", as_image("d.tar.gz", b"\x1f\x8b\x08\0\0\0\0\0"), "check {f}/d.tar.gz", "d.tar.gz"
    )
    yield Bad("archive: out of its folder", zipped(**{"../evil.txt": "x"}), "check {f}/d.zip", "evil")
    yield Bad("archive: an absolute path", zipped(**{"/tmp/evil.txt": "x"}), "check {f}/d.zip", "evil")
    yield Bad("archive: nothing in it", zipped(), "check {f}/d.zip", "d.zip")
    yield Bad("archive: no data set in it", zipped(a="x"), "check {f}/d.zip", "format")
    yield Bad(
        "archive: a link out of it",
        tarred(lambda e: (setattr(e, "type", tarfile.SYMTYPE), setattr(e, "linkname", "/etc"))),
        "check {f}/d.tar",
        "a.txt",
    )
    yield Bad("archive: a device", tarred(lambda e: setattr(e, "type", tarfile.CHRTYPE)), "check {f}/d.tar", "a.txt")
    yield Bad(
        "archive: out of its folder, tar", tarred(lambda e: setattr(e, "name", "../../evil")), "check {f}/d.tar", "evil"
    )
    yield Bad("archive: to predict", zipped(a="x"), "predict {run} {f}/d.zip -o {f}/o", "d.zip")

    def pose(config: str, label: str = "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n") -> Make:
        def make(folder: Path, world: World) -> None:
            picture(folder / "images" / "train" / "a.png")
            (folder / "labels" / "train").mkdir(parents=True)
            (folder / "labels" / "train" / "a.txt").write_text(label)
            (folder / "data.yaml").write_text("train: images/train\nnames: [cat]\n" + config)

        return make

    for what, config, label, word in (
        ("one number short", "kpt_shape: [1, 3]\n", "0 0.5 0.5 0.2 0.2 0.5 0.5\n", "a.txt"),
        ("a point of words", "kpt_shape: [1, 3]\n", "0 0.5 0.5 0.2 0.2 x y 2\n", "a.txt"),
        ("a point that is not a number", "kpt_shape: [1, 3]\n", "0 0.5 0.5 0.2 0.2 nan 0.5 2\n", "keypoint"),
        ("kpt_shape of four numbers", "kpt_shape: [1, 4]\n", "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n", "kpt_shape"),
        ("kpt_shape of −1", "kpt_shape: [-1, 3]\n", "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n", "kpt_shape"),
        ("kpt_shape of true", "kpt_shape: [true, 3]\n", "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n", "kpt_shape"),
        ("kpt_shape that is a number", "kpt_shape: 17\n", "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n", "kpt_shape"),
        (
            "flip_idx of another length",
            "kpt_shape: [1, 3]\nflip_idx: [0, 1]\n",
            "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n",
            "flip_idx",
        ),
        (
            "flip_idx beyond the points",
            "kpt_shape: [1, 3]\nflip_idx: [7]\n",
            "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n",
            "flip_idx",
        ),
        ("flip_idx of texts", "kpt_shape: [1, 3]\nflip_idx: [a]\n", "0 0.5 0.5 0.2 0.2 0.5 0.5 2\n", "flip_idx"),
    ):
        yield Bad(f"YOLO pose: {what}", pose(config, label), "check {f}/data.yaml", word)

    for what, content, word in (
        ("no Parquet", b"PAR1nope", "parquet"),
        ("empty", b"", "parquet"),
    ):
        yield Bad(f"Parquet: {what}", as_image("train-00000-of-00001.parquet", content), "check {f}", word)
    yield Bad(
        "HEIC: no picture",
        as_image("a.heic", b"\0\0\0\x18ftypheic" + b"\0" * 100),
        "predict {run} {f}/a.heic -o {f}/o",
        "a.heic",
    )
    yield Bad("HEIC: empty", as_image("a.heic", b""), "predict {run} {f}/a.heic -o {f}/o", "a.heic")

    def city(text: str) -> Make:
        def make(folder: Path, world: World) -> None:
            picture(folder / "leftImg8bit" / "train" / "x" / "x_0_leftImg8bit.png")
            place = folder / "gtFine" / "train" / "x"
            place.mkdir(parents=True)
            Image.fromarray(np.zeros((48, 64), np.uint8)).save(place / "x_0_gtFine_labelIds.png")
            (place / "x_0_gtFine_polygons.json").write_text(text)

        return make

    for what, text, word in (
        ("cut off", '{"objects": [', "polygons.json"),
        ("a list", "[]", "polygons.json"),
        ("objects that are a number", '{"objects": 5}', "objects"),
        ("an object that is a text", '{"objects": ["car"]}', "polygons.json"),
        (
            "a polygon of texts",
            json.dumps({"objects": [{"label": "car", "polygon": [["a", "b"]] * 3}]}),
            "polygons.json",
        ),
    ):
        yield Bad(f"Cityscapes: {what}", city(text), "check {f} --format cityscapes-instances", word)
    for command, word in (
        ("check {data} --format mars", "mars"),
        ("check {data} --format yolo", "yolo"),
        ("check {data} --classes dog=", "dog"),
        ("check {data} --classes cat=", "class"),
        ("convert {data} {f}/o --to yolo --classes mars", "mars"),
        ("convert {data} {f}/o --to yolo-pose", "keypoints"),
        ("convert {data} {f}/o --to csv --split 80/30", "--split"),
        ("convert {data} {f}/o --to huggingface", "huggingface"),
        ("train {data} --runs {f} --classes mars", "mars"),
        ("predict {run} {image} -o {f}/o --classes mars", "mars"),
        ("predict {run} {image} -o {f}/o --save mars", "mars"),
        ("evaluate {run} {data} --format mars", "mars"),
        ("report {run} --split mars", "mars"),
        ("models --weights mars", "mars"),
        ("look {data} -o {f}/a.png --classes mars", "mars"),
        ("anchors {data} -o {f}/a.png --split mars", "mars"),
        ("check {data} --val {f}/none", "none"),
        ("check {data} --turned sideways --fix clip", "sideways"),
    ):
        yield Bad(command[:60], nothing, command, word)
