"""The table of bad inputs: what each is, how it is made, the verb that meets it, and a word its sentence must hold."""

# ruff: noqa: E501 (a row of the table is one line)

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.hostile.bad import Bad, Make, as_image, nothing, one_file
from tests.hostile.table_of_formats import more_formats
from tests.hostile.table_of_image_labels import image_labels
from tests.hostile.world import NAMES, World, coco, picture, write_coco

LONG = "9" * 5000
DEEP = "[" * 100_000
JUNK = bytes(range(256)) * 8
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(k)}: &{chr(k)} [{','.join([f'*{chr(k - 1)}'] * 9)}]\n" for k in range(ord("b"), ord("l"))
)
LAUGHS = (
    "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{k} '{f'&a{k - 1};' * 10}'>" for k in range(1, 10)) + "]>"
)


def table() -> list[Bad]:
    """All bad inputs."""
    parts = (
        coco_files(),
        label_files(),
        odd_files(),
        pictures(),
        model_files(),
        run_folders(),
        values(),
        places(),
        more_formats(),
        image_labels(),
    )
    return [bad for part in parts for bad in part]


# COCO


def changed(where: str, name: str, value: object) -> Make:
    def make(folder: Path, world: World) -> None:
        content: Any = coco(folder)
        if name:
            content[where][0][name] = value
        else:
            content[where] = value
        write_coco(folder, content)

    return make


def raw(text: str | bytes) -> Make:
    def make(folder: Path, world: World) -> None:
        coco(folder)
        write_coco(folder, text)

    return make


def coco_files() -> Iterator[Bad]:
    texts: list[tuple[str, str | bytes, str]] = [
        ("cut off in the annotations", '{"images": [], "categories": [], "annotations": [{"id": 1,', "truncated"),
        ("cut off at once", '{"images": ', "lacks"),
        ("deeply nested", '{"annotations": [], "categories": [], "images": ' + DEEP, "nested more deeply"),
        ("deeply nested objects", '{"images": [], "annotations": [' + '{"a":' * 50_000, "nested more deeply"),
        ("a key without a value", '{"images": [], "annotations": [], "categories"}', "JSON"),
        ("bytes that are no text", b'{"images": [], "annotations": "\xff\xfe\x80', "JSON"),
        (
            "a number of 5000 digits",
            '{"images": [{"id": ' + LONG + '}], "annotations": [], "categories": []}',
            "digits",
        ),
    ]
    for what, text, word in texts:
        yield Bad(f"COCO: {what}", raw(text), "check {f}", word)
    entries: list[tuple[str, str, str, object, str]] = [
        ("images are a number", "images", "", 5, "images"),
        ("images are an object", "images", "", {"a": 1}, "images"),
        ("an image is a text", "images", "", ["a.png"], "a.png"),
        ("categories are null", "categories", "", None, "categories"),
        ("a category without a name", "categories", "", [{"id": 1}], "name"),
        ("a category's name is a list", "categories", "name", ["cat"], "cat"),
        ("a category's name is empty", "categories", "name", "", "name"),
        ("a category's name holds a line break", "categories", "name", "a\nb", "line"),
        ("a category's name holds half a surrogate pair", "categories", "name", "a\ud800", "surrogate"),
        ("a category's id is a list", "categories", "id", [1], "id"),
        ("a category's id of 10^30", "categories", "id", 10**30, "categor"),
        ("a file name is a number", "images", "file_name", 7, "file_name"),
        ("a file name is null", "images", "file_name", None, "file_name"),
        ("a width is a text", "images", "width", "wide", "width"),
        ("a width of 10^30", "images", "width", 10**30, "width"),
        ("a negative height", "images", "height", -4, "height"),
        ("an image's id is a list", "images", "id", [1], "id"),
        ("an image's id twice", "images", "id", 2, "2"),
        ("annotations are a text", "annotations", "", "none", "annotations"),
        ("an annotation is a number", "annotations", "", [7], "7"),
        ("a box of three numbers", "annotations", "bbox", [1, 2, 3], "bbox"),
        ("a box of texts", "annotations", "bbox", ["a", 2, 3, 4], "bbox"),
        ("a box of lists", "annotations", "bbox", [[1], 2, 3, 4], "bbox"),
        ("a box of 10^200", "annotations", "bbox", [10**200, 2, 3, 4], "bbox"),
        ("a box that is not a number", "annotations", "bbox", [float("nan"), 2, 3, 4], "not-finite"),
        ("an unknown category", "annotations", "category_id", 10**9, "category"),
        ("a category that is a list", "annotations", "category_id", [1], "category_id"),
        ("an image that is not there", "annotations", "image_id", 99, "annotation 1 of image 99"),
        ("an image's id that is an object", "annotations", "image_id", {}, "image_id"),
        ("an area that is a text", "annotations", "area", "large", "area"),
        ("an RLE of 10^18 pixels", "annotations", "segmentation", {"size": [10**9, 10**9], "counts": [10**18]}, "mask-size-differs"),
        ("an RLE whose runs are texts", "annotations", "segmentation", {"size": [48, 64], "counts": ["a"]}, "outline-malformed"),
        ("an RLE without size", "annotations", "segmentation", {"counts": "abc"}, "RLE without size"),
        ("an RLE that ends too early", "annotations", "segmentation", {"size": [48, 64], "counts": [10]}, "outline-malformed"),
        ("an outline that is a text", "annotations", "segmentation", "here", "outline-malformed"),
        ("an outline of texts", "annotations", "segmentation", [["a", "b", "c", "d", "e", "f"]], "'a'"),
        ("an outline of true", "annotations", "segmentation", [[1, 2, 3, 4, 5, True]], "True"),
        ("a box of true", "annotations", "bbox", [True, 2, 3, 4], "bbox [True"),
        ("an image's id that is true", "annotations", "image_id", True, "image_id"),
        ("a category that is true", "annotations", "category_id", True, "category_id"),
        ("a crowd that is a text", "annotations", "iscrowd", "no", "iscrowd"),
        ("a crowd of 2", "annotations", "iscrowd", 2, "iscrowd"),
        ("keypoints of true", "annotations", "keypoints", [1, 2, True], "keypoints"),
        ("a width that is true", "images", "width", True, "height and width"),
        ("two keypoint numbers", "annotations", "keypoints", [1, 2], "keypoints"),
        ("keypoints that are texts", "annotations", "keypoints", ["a", "b", "c"], "keypoints"),
    ]  # fmt: skip
    for what, where, name, value, word in entries:
        warned = word in ("mask-size-differs", "annotation 1 of image 99")
        yield Bad(f"COCO: {what}", changed(where, name, value), "check {f} --fast", word, warned)
    yield Bad("COCO: nothing at all", raw(""), "check {f}/annotations/instances_train.json", "format")
    yield Bad("COCO: it is a list", raw("[1, 2]"), "check {f}/annotations/instances_train.json", "format")


# YOLO, VOC, CVAT, VIA, LabelMe, class maps


def yolo(label: str | bytes = "0 0.5 0.5 0.2 0.2\n", config: str | bytes | None = None) -> Make:
    def make(folder: Path, world: World) -> None:
        picture(folder / "images" / "train" / "a.png")
        place = folder / "labels" / "train" / "a.txt"
        place.parent.mkdir(parents=True)
        place.write_bytes(label if isinstance(label, bytes) else label.encode("utf-8", "surrogatepass"))
        text = "train: images/train\nnames: [cat]\n" if config is None else config
        (folder / "data.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def voc(text: str | bytes, size: bool = True) -> Make:
    def make(folder: Path, world: World) -> None:
        picture(folder / "a.png")
        (folder / "a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def voc_text(inside: str, head: str = "") -> str:
    return (
        f"{head}<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size>{inside}"
        "</annotation>"
    )


def labelme(**changes: object) -> Make:
    content = {"imagePath": "a.png", "imageHeight": 48, "imageWidth": 64, "imageData": None}
    content["shapes"] = [{"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}]
    return one_file("a.json", json.dumps(content | changes))


def shape(**changes: object) -> Make:
    return labelme(shapes=[{"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"} | changes])


def via(region: object) -> Make:
    return one_file("via.json", json.dumps({"a": {"filename": "a.png", "regions": region, "file_attributes": {}}}))


def mask(values: np.ndarray) -> Make:
    def make(folder: Path, world: World) -> None:
        picture(folder / "images" / "a.png")
        (folder / "masks").mkdir()
        Image.fromarray(values).save(folder / "masks" / "a.png")
        (folder / "classes.txt").write_text("sky\nroad\n")

    return make


BOX = "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"


def label_files() -> Iterator[Bad]:
    for what, label, word in (
        ("a word for a class", "cat 0.5 0.5 0.2 0.2", "a.txt"),
        ("four numbers", "0 0.5 0.5 0.2", "a.txt"),
        ("a class id of 10^9", "1000000000 0.5 0.5 0.2 0.2", "1000000000"),
        ("a class id of 5000 digits", f"{LONG} 0.5 0.5 0.2 0.2", "a.txt"),
        ("a class id of 1e400", "1e400 0.5 0.5 0.2 0.2", "a.txt"),
        ("a negative class id", "-1 0.5 0.5 0.2 0.2", "a.txt"),
        ("a class id of one half", "0.5 0.5 0.5 0.2 0.2", "a.txt"),
        ("not a number", "nan 0.5 0.5 0.2 0.2", "a.txt"),
        ("a box that is not a number", "0 nan 0.5 0.2 0.2", "finite"),
        ("an infinite box", "0 inf 0.5 0.2 0.2", "finite"),
        ("no text at all", JUNK, "a.txt"),
        ("zero bytes", b"\0" * 4096, "a.txt"),
    ):
        yield Bad(f"YOLO: {what}", yolo(label), "check {f}", word)
    yield Bad("YOLO: a class id of 10^9 without names", no_names("1000000000 0.5 0.5 0.2 0.2\n"), "check {f}", "limit")
    for what, config, word in (
        ("aliases that multiply", "train: images/train\nnames: [cat]\n" + BOMB, "aliases"),
        ("an alias of itself", "train: images/train\nnames: &a [*a]\n", "itself"),
        ("deeply nested", "train: images/train\nnames: " + DEEP, "depth"),
        ("a tag of Python", "train: images/train\nnames: !!python/object/apply:os.system [ls]\n", "data.yaml"),
        ("names that are a number", "train: images/train\nnames: 5\n", "names"),
        ("names by text", "train: images/train\nnames: {a: cat}\n", "names"),
        ("names by ids of 10^9", "train: images/train\nnames: {1000000000: cat}\n", "limit"),
        ("a name that is a list", "train: images/train\nnames: [[cat]]\n", "names"),
        ("a name that is null", "train: images/train\nnames: ['']\n", "class 0"),
        ("train is a mapping", "train: {a: b}\nnames: [cat]\n", "train"),
        ("train is a number", "train: 5\nnames: [cat]\n", "train"),
        ("no names", "train: images/train\n", "names"),
        ("a list", "- train: names\n", ""),
        ("an open bracket", "train: [images\nnames: [cat]\n", "YAML"),
        ("no text at all", JUNK, ""),
        ("kpt_shape of texts", "train: images/train\nnames: [cat]\nkpt_shape: [a, b]\n", "kpt_shape"),
        ("kpt_shape of 10^9", "train: images/train\nnames: [cat]\nkpt_shape: [1000000000, 3]\n", ""),
    ):
        yield Bad(f"data.yaml: {what}", yolo(config=config), "check {f}/data.yaml", word)
    for what, text, word in (
        ("cut off", voc_text(BOX.format(1))[:-20], "XML"),
        ("entities that multiply", voc_text(BOX.format(1), LAUGHS).replace("a.png", "&a9;"), "entities"),
        ("an entity of a file", voc_text(BOX.format(1), "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"), "entities"),
        ("deeply nested", voc_text("<a>" * 20_000 + "</a>" * 20_000 + BOX.format(1)), "depth"),
        ("a box of words", voc_text(BOX.format("left")), "xmin"),
        ("a box that is not a number", voc_text(BOX.format("nan")), "finite"),
        ("a box of 1e999", voc_text(BOX.format("1e999")), "finite"),
        ("no name", voc_text(BOX.format(1).replace("cat", "")), "name"),
        ("no box", voc_text("<object><name>cat</name></object><bndbox/>"), "bndbox"),
        ("a name of terminal commands", voc_text(BOX.format(1).replace("cat", "\x1b[31mcat")), "XML"),
        ("an encoding that is none", "<?xml version='1.0' encoding='klingon'?>" + voc_text(BOX.format("x")), "xmin"),
    ):  # fmt: skip
        yield Bad(f"VOC: {what}", voc(text), "check {f}", word)
    for what, make, word in (
        ("shapes are a text", labelme(shapes="none"), "shapes"),
        ("a shape is a number", labelme(shapes=[7]), "shape 0"),
        ("a label is a number", shape(label=7), "label"),
        ("points are texts", shape(points=[["a", "b"], [1, 2]]), "numbers"),
        ("points are a number", shape(points=5), "points"),
        ("one point of a rectangle", shape(points=[[1, 2]]), "point"),
        ("an unknown shape", shape(shape_type="spiral"), "spiral"),
        ("points that are not finite", shape(points=[[1e400, 1], [2, 2]]), ""),
        ("imagePath is a number", labelme(imagePath=7), "imagePath"),
        (
            "imageData is no picture",
            one_file("b.json", json.dumps({"imagePath": "none.png", "imageData": "AAAA", "shapes": []})),
            "imageData",
        ),
        (
            "imageData is a number",
            one_file("b.json", json.dumps({"imagePath": "none.png", "imageData": 7, "shapes": []})),
            "imageData",
        ),
        ("a group that is a list", shape(group_id=[1]), "group_id"),
        ("cut off", one_file("a.json", '{"imagePath": "a.png", "shapes": [{"label"'), "JSON"),
        ("deeply nested", one_file("a.json", '{"imagePath": "a.png", "shapes": ' + DEEP), "depth"),
    ):
        yield Bad(f"LabelMe: {what}", make, "check {f}", word)
    for what, make, word in (
        ("regions are a text", via("none"), "regions"),
        ("a region is a number", via([7]), "region 0"),
        ("an unknown shape", via([{"shape_attributes": {"name": "spiral"}, "region_attributes": {}}]), "spiral"),
        ("a rectangle of texts", via([{"shape_attributes": {"name": "rect", "x": "a", "y": 1, "width": 2, "height": 3}, "region_attributes": {}}]), "region 0"),
        ("a polygon of unequal lists", via([{"shape_attributes": {"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}, "region_attributes": {}}]), "region 0"),
        ("a CSV whose regions are no JSON", one_file("via.csv", '#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\na.png,1,"{}",1,0,"{x","{}"\n'), "JSON"),
    ):  # fmt: skip
        yield Bad(f"VIA: {what}", make, "check {f}", word)
    cvat = '<annotations><image name="a.png" width="64" height="48">{}</image></annotations>'
    for what, text, word in (
        ("a box without sides", cvat.format('<box label="cat" xtl="1"/>'), ""),
        ("a box of words", cvat.format('<box label="cat" xtl="a" ytl="1" xbr="9" ybr="9"/>'), ""),
        ("a polygon of words", cvat.format('<polygon label="cat" points="a,b;c,d"/>'), ""),
        ("cut off", cvat[:40], "XML"),
        ("entities", LAUGHS + cvat.format(""), "entities"),
        ("deeply nested", "<annotations>" + "<a>" * 20_000, "depth"),
        ("a mask of 10^9 pixels", cvat.format('<mask label="cat" rle="1000000000" left="0" top="0" width="1000000" height="1000000"/>'), ""),
    ):  # fmt: skip
        yield Bad(f"CVAT: {what}", one_file("annotations.xml", text), "check {f}", word)
    yield Bad("class maps: a value that is no class", mask(np.full((48, 64), 9, np.uint8)), "check {f}", "9")
    yield Bad("class maps: another size", mask(np.zeros((10, 10), np.uint8)), "check {f}", "10")
    yield Bad("class maps: colours without a table", mask(np.full((48, 64, 3), 9, np.uint8)), "check {f}", "")


def no_names(label: str) -> Make:
    def make(folder: Path, world: World) -> None:
        picture(folder / "a.png")
        (folder / "a.txt").write_text(label)

    return make


# Files that are none, and folders without end


def odd_files() -> Iterator[Bad]:
    def pipe_as_image(folder: Path, world: World) -> None:
        write_coco(folder, coco(folder))
        (folder / "train" / "a.png").unlink()
        os.mkfifo(folder / "train" / "a.png")

    def pipe(folder: Path, world: World) -> None:
        os.mkfifo(folder / "a.json")

    def pipes(folder: Path, world: World) -> None:
        os.mkfifo(folder / "a.png")

    def label_pipe(folder: Path, world: World) -> None:
        yolo()(folder, world)
        (folder / "labels" / "train" / "a.txt").unlink()
        os.mkfifo(folder / "labels" / "train" / "a.txt")

    def loop(folder: Path, world: World) -> None:
        picture(folder / "a.png")
        (folder / "a.txt").write_text("0 0.5 0.5 7\n")
        for name in ("x", "y", "z"):
            (folder / name).mkdir()
        for name in ("x", "y", "z"):
            for other in ("x", "y", "z"):
                (folder / name / f"to_{other}").symlink_to(folder / other, target_is_directory=True)
        (folder / "up").symlink_to(folder, target_is_directory=True)

    def socket_file(folder: Path, world: World) -> None:
        before = os.getcwd()
        os.chdir(folder)
        try:
            place = socket.socket(socket.AF_UNIX)
            place.bind("a.png")
            place.close()
        finally:
            os.chdir(before)

    yield Bad("a named pipe for an image", pipe_as_image, "check {f}", "a.png")
    yield Bad("a named pipe for a label file", pipe, "check {f}/a.json", "a.json")
    yield Bad("a named pipe for labels", label_pipe, "check {f}/data.yaml", "named pipe")
    yield Bad("a folder with a pipe alone", pipes, "check {f}", "format")
    yield Bad("a pipe to predict", pipes, "predict {run} {f}/a.png -o {f}/out", "named pipe")
    yield Bad("a folder with a pipe alone to predict", pipes, "predict {run} {f} -o {f}/out", "named pipe")
    yield Bad("a socket to predict", socket_file, "predict {run} {f} -o {f}/out", "socket")
    yield Bad("a device to predict", nothing, "predict {run} /dev/zero -o {f}/out", "device")
    yield Bad("a device for a recipe", nothing, "train {data} --recipe /dev/zero --runs {f}", "device")
    yield Bad("a device for weights", nothing, "train {data} --weights /dev/zero --runs {f}", "device")
    yield Bad("a device for a model", nothing, "evaluate /dev/zero {data}", "/dev/zero")
    yield Bad("a device for data", nothing, "check /dev/zero", "/dev/zero")
    yield Bad("a folder loop", loop, "check {f}", "a.txt")
    yield Bad("a folder loop to predict", loop, "predict {run} {f}/**/*.jpg -o {f}/out", "pattern")


# Pictures


def png(width: int, height: int, data: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def npy(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    head = str({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


def pictures() -> Iterator[Bad]:
    tiff = struct.pack("<2sHIH", b"II", 42, 8, 3) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in ((256, 2**31), (257, 2**31), (273, 8))
    )
    jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    bitmap = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    files: list[tuple[str, str, bytes, str]] = [
        ("empty", "a.png", b"", "empty"),
        ("no picture", "a.png", JUNK, "format is unknown"),
        ("a PNG of 50 000 × 50 000", "a.png", png(50_000, 50_000), "pixels"),
        ("a PNG of 2^31 pixels a side", "a.png", png(2**31 - 1, 2**31 - 1), "a.png"),
        ("a PNG of one bit that unfolds to 10^9", "a.png", png(40_000, 40_000, bytes(2_000_000), 1, 0), "pixels"),
        ("a PNG cut off", "a.png", png(64, 48, bytes(100)), "a.png"),
        ("a PNG of size 0", "a.png", png(0, 0), "a.png"),
        ("a JPEG of its head alone", "a.jpg", jpeg, "a.jpg"),
        ("a BMP of 10^18 pixels", "a.bmp", bitmap, "a.bmp"),
        ("a TIFF of 10^18 pixels", "a.tif", tiff, "a.tif"),
        ("a TIFF of its head alone", "a.tif", b"II*\0\x08\0\0\0", "a.tif"),
        ("a TIFF whose directory is itself", "a.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "a.tif"),
        ("a TIFF of 2^32 entries", "a.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\0\x01\4\0\xff\xff\xff\xff" * 9, "a.tif"),
        ("an array of 10^18 values", "a.npy", npy((10**9, 10**9)), "a.npy"),
        ("an array of negative size", "a.npy", npy((-5, 5)), "a.npy"),
        ("an array of nothing", "a.npy", npy((0, 10**12)), "a.npy"),
        ("an array of objects", "a.npy", npy((4, 4), "|O"), "objects"),
        ("an array of texts", "a.npy", npy((2, 2), "<U4"), "a.npy"),
        ("an array of nine axes", "a.npy", npy((1,) * 9), "a.npy"),
        ("an array whose head is code", "a.npy", npy((4, 4)).replace(b"False", b"exit("), "a.npy"),
        ("a WebP of its head alone", "a.webp", b"RIFF\xff\xff\xff\x7fWEBPVP8 ", "a.webp"),
        ("a GIF of its head alone", "a.gif", b"GIF89a\xff\xff\xff\xff\0\0\0", "a.gif"),
        ("a PPM of 10^18 pixels", "a.ppm", b"P6 1000000000 1000000000 255\n", "a.ppm"),
        ("a PPM of 5000 digits", "a.ppm", f"P6 {LONG} 5 255\n".encode(), "a.ppm"),
    ]
    for what, name, content, word in files:
        yield Bad(f"picture: {what}", as_image(name, content), f"predict {{run}} {{f}}/{name} -o {{f}}/out", word)
    yield Bad("picture: an address", nothing, "predict {run} https://a.b/c.jpg -o {f}/out", "web")
    yield Bad("picture: missing", nothing, "predict {run} {f}/none.jpg -o {f}/out", "none.jpg")

    def bad_among_good(folder: Path, world: World) -> None:
        write_coco(folder, coco(folder))
        for name, content in zip(NAMES, (b"", JUNK, png(50_000, 50_000), npy((9,))), strict=True):
            (folder / "train" / f"{name}.png").write_bytes(content)

    yield Bad("pictures of a data set, all bad", bad_among_good, "check {f}", "a.png")
    yield Bad("pictures of a data set, all bad, to look at", bad_among_good, "look {f} -o {f}/sheet.png", "a.png")
    yield Bad("pictures of a data set, all bad, to measure", bad_among_good, "evaluate {run} {f}", "a.png")


# Model files


def safetensors(head: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(head) if size is None else size) + head


def model_file(change: Callable[[dict[str, Any], dict[str, str]], Any]) -> Make:
    """A saved model with changed tensors or metadata."""

    def make(folder: Path, world: World) -> None:
        from safetensors import safe_open

        tensors = load_file(world.run / "best.safetensors")
        with safe_open(world.run / "best.safetensors", "pt") as file:
            head = dict(file.metadata())
        change(tensors, head)
        save_file(tensors, folder / "m.safetensors", head)

    return make


def entry(name: str, value: str | None) -> Make:
    def change(tensors: dict[str, Any], head: dict[str, str]) -> None:
        head.pop(name, None)
        if value is not None:
            head[name] = value

    return model_file(change)


def argument(name: str, value: object) -> Make:
    def change(tensors: dict[str, Any], head: dict[str, str]) -> None:
        head["arguments"] = json.dumps(json.loads(head["arguments"]) | {name: value})

    return model_file(change)


def first_tensor(value: Callable[[torch.Tensor], torch.Tensor] | None) -> Make:
    def change(tensors: dict[str, Any], head: dict[str, str]) -> None:
        name = sorted(tensors)[0]
        whole = tensors.pop(name)
        if value is not None:
            tensors[name] = value(whole)

    return model_file(change)


class Evil:
    """What an unsafe reader would run."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("evil",))


def model_files() -> Iterator[Bad]:
    def written(content: bytes, name: str = "m.safetensors") -> Make:
        return as_image(name, content)

    head = b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4000000000000000000]}}'
    for what, make, word in (
        ("empty", written(b""), "m.safetensors"),
        ("no safetensors", written(JUNK), "m.safetensors"),
        ("a head of 2^63 bytes", written(safetensors(b"{}", 2**63)), "m.safetensors"),
        ("a head that is no JSON", written(safetensors(b"{nope")), "m.safetensors"),
        ("a tensor of 10^18 numbers", written(safetensors(head)), "m.safetensors"),
        ("of another library", written(safetensors(b'{"__metadata__":{"format":"pt"}}')), "m.safetensors"),
        ("without a format", entry("format", None), "which model"),
        ("of a later format", entry("format", "sightline model 9"), "later"),
        ("without a model's name", entry("model", None), "'model'"),
        ("of an unknown model", entry("model", "os.system"), "os.system"),
        ("of another model", entry("model", "retinanet_resnet50_fpn"), "m.safetensors"),
        ("without classes", entry("classes", None), "classes"),
        ("classes that are no JSON", entry("classes", "[nope"), "classes"),
        ("classes that are a number", entry("classes", "5"), "classes"),
        ("classes that are numbers", entry("classes", "[5]"), "class 0"),
        ("no classes in the list", entry("classes", "[]"), "class"),
        ("more classes than the head", entry("classes", '["a", "b", "c"]'), "m.safetensors"),
        ("deeply nested classes", entry("classes", DEEP), "depth"),
        ("without arguments", entry("arguments", None), "arguments"),
        ("arguments that are a list", entry("arguments", "[]"), "arguments"),
        ("an unknown argument", argument("colour", 1), "colour"),
        ("an argument of another kind", argument("image_size", "wide"), "image_size"),
        ("an argument of 10^9", argument("image_size", 10**9), "limit"),
        ("10^9 channels", argument("in_channels", 10**9), "limit"),
        ("channels that are a text", argument("in_channels", "three"), "in_channels"),
        ("without metadata", entry("metadata", None), "metadata"),
        ("metadata that is a list", entry("metadata", "[]"), "metadata"),
        ("a tensor missing", first_tensor(None), "absent"),
        ("a tensor of another shape", first_tensor(lambda t: torch.zeros(3)), "[3]"),
        ("a tensor of another kind", first_tensor(lambda t: torch.zeros(t.shape, dtype=torch.int64)), "int64"),
        ("a tensor more", model_file(lambda t, h: t.update(more=torch.zeros(1))), "more"),
    ):
        yield Bad(f"model file: {what}", make, "predict {f}/m.safetensors {image} -o {f}/out", word)

    def cut(folder: Path, world: World) -> None:
        data = (world.run / "best.safetensors").read_bytes()
        (folder / "m.safetensors").write_bytes(data[: len(data) // 2])

    yield Bad("model file: cut off", cut, "evaluate {f}/m.safetensors {data}", "m.safetensors")

    def torch_file(value: object) -> Make:
        return lambda folder, world: torch.save(value, folder / "w.pth")

    for what, make, word in (
        ("code", torch_file({"a": Evil()}), "w.pth"),
        ("a number", torch_file(5), "w.pth"),
        ("no tensors", torch_file({"a": 5}), "w.pth"),
        ("tensors by number", torch_file({5: torch.zeros(2)}), "w.pth"),
        ("another model's tensors", torch_file({"a": torch.zeros(2)}), "another model"),
        ("not an archive", written(JUNK, "w.pth"), "w.pth"),
        ("nothing", written(b"", "w.pth"), "w.pth"),
    ):
        yield Bad(
            f"weights: {what}",
            make,
            "train {data} --model ssdlite320_mobilenet_v2 --weights {f}/w.pth --runs {f}",
            word,
        )
    yield Bad("weights: the name of none", nothing, "train {data} --weights mars --runs {f}", "mars")
    yield Bad("weights: missing", nothing, "train {data} --weights {f}/none.pth --runs {f}", "none.pth")
    yield Bad("weights: of darknet for another", written(JUNK, "w.weights"), "train {data} --weights {f}/w.weights --runs {f}", "darknet")  # fmt: skip
    for what, text, word in (
        ("no sections", "hello", "cfg"),
        ("an unknown section", "[net]\nwidth=32\nheight=32\n[wormhole]\n", "wormhole"),
        (
            "10^9 filters",
            "[net]\nwidth=32\nheight=32\n[convolutional]\nfilters=1000000000\nsize=3\n[convolutional]\nfilters=1\n",
            "filters",
        ),
        ("a stride of 0", "[net]\nwidth=32\nheight=32\n[convolutional]\nfilters=4\nstride=0\n", "stride"),
        ("a width of 10^30", f"[net]\nwidth={10**30}\nheight=32\n[convolutional]\nfilters=4\n", "width"),
        ("a route to nowhere", "[net]\nwidth=32\nheight=32\n[route]\nlayers=-9\n", "layer"),
        ("words for numbers", "[net]\nwidth=wide\nheight=32\n[convolutional]\nfilters=4\n", "width"),
    ):
        yield Bad(f"darknet cfg: {what}", written(text.encode(), "a.cfg"), "train {data} --model darknet --arg cfg={f}/a.cfg --runs {f}", word)  # fmt: skip


# Runs


def in_run(name: str, content: str | bytes | None) -> Make:
    def make(folder: Path, world: World) -> None:
        shutil.copytree(world.run, folder / "run", ignore=shutil.ignore_patterns("proposals"))
        place = folder / "run" / name
        place.unlink()
        if content is not None:
            place.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def evaluation(path: str, value: object) -> Make:
    """A run whose evaluation.json has another value at a path such as errors.counts; the value ... takes it away."""

    def make(folder: Path, world: World) -> None:
        in_run("report.html", None)(folder, world)
        file = folder / "run" / "evaluation.json"
        content = json.loads(file.read_text())
        place, names = content, path.split(".")
        for name in names[:-1]:
            place = place[name]
        if value is ...:
            del place[names[-1]]
        else:
            place[names[-1]] = value
        file.write_text(json.dumps(content))

    return make


def checkpoint(change: Callable[[dict[str, Any]], Any]) -> Make:
    def make(folder: Path, world: World) -> None:
        shutil.copytree(world.run, folder / "run")
        file = folder / "run" / "checkpoint" / "state.pt"
        content = torch.load(file, weights_only=True)
        change(content)
        torch.save(content, file)

    return make


RESUME = "train {data} --name run --runs {f} --resume --epochs 2 --quiet --no-report --device cpu"


def run_folders() -> Iterator[Bad]:
    for what, text, word in (
        ("no JSON", "epoch 1\n", "line 1"),
        ("a list a line", "[1, 2]\n", "line 1"),
        ("a number a line", "5\n", "line 1"),
        ("a row with a list", '{"epoch": 1, "train/loss": [1]}\n', "train/loss"),
        ("a row with NaN", '{"epoch": 1, "train/loss": NaN}\n', "train/loss"),
        ("no text", JUNK, "metrics.jsonl"),
        ("deeply nested", DEEP, "depth"),
        ("a number of 5000 digits", '{"epoch": ' + LONG + "}", "digits"),
        ("an epoch that is a text", '{"epoch": "one", "train/loss": 1}\n', "epoch"),
    ):

        def make(folder: Path, world: World, text: str | bytes = text) -> None:
            in_run("report.html", None)(folder, world)
            place = folder / "run" / "metrics.jsonl"
            place.write_bytes(text if isinstance(text, bytes) else text.encode())

        yield Bad(f"metrics.jsonl: {what}", make, "report {f}/run", word)
    for path, value, word in (
        ("metrics", ..., "metrics"),
        ("metrics", [1], "metrics"),
        ("metrics.AP", "high", "metrics.AP"),
        ("metrics.AP", True, "metrics.AP"),
        ("classes", ..., "classes"),
        ("classes", 5, "classes"),
        ("classes", [5], "classes"),
        ("per_class", [1], "per_class"),
        ("per_class.cat", 5, "per_class.cat"),
        ("per_class.cat.AP", "high", "AP"),
        ("per_class.cat.objects", ..., "objects"),
        ("protocols", 5, "protocols"),
        ("reasons", [1], "reasons"),
        ("notes", 5, "notes"),
        ("errors", 5, "errors"),
        ("errors.counts", {}, "counts"),
        ("errors.confusion", [[1, 2]], "confusion"),
        ("errors.confusion", "none", "confusion"),
        ("errors.confusion_labels", 5, "confusion_labels"),
        ("errors.confusions", [5], "confusions"),
        ("curves", [1], "curves"),
        ("operating_point", "high", "operating_point"),
        ("task", 5, "task"),
        ("images", "many", "images"),
    ):
        shown = "missing" if value is ... else json.dumps(value)
        yield Bad(f"evaluation.json: {path} is {shown}", evaluation(path, value), "report {f}/run", word)

    def stored(name: str, content: str | bytes) -> Make:
        def make(folder: Path, world: World) -> None:
            in_run("report.html", None)(folder, world)
            (folder / "run" / name).write_bytes(content if isinstance(content, bytes) else content.encode())

        return make

    for name, what, text, word in (
        ("evaluation.json", "a list", "[]", "evaluation.json"),
        ("evaluation.json", "cut off", '{"metrics": {', "evaluation.json"),
        ("recipe.yaml", "aliases that multiply", BOMB, "aliases"),
        ("recipe.yaml", "a list", "- 1\n", "recipe.yaml"),
        ("environment.json", "a list", "[]", "environment.json"),
        ("environment.json", "no text", JUNK, "environment.json"),
    ):
        yield Bad(f"{name}: {what}", stored(name, text), "report {f}/run", word)
    for what, change, word in (
        ("without state", lambda c: c.pop("state"), "state"),
        ("the state is a list", lambda c: c.update(state=[]), "state"),
        ("an epoch that is a text", lambda c: c["state"].update(epoch="one"), "state.epoch"),
        ("an epoch of −5", lambda c: c["state"].update(epoch=-5), "epoch"),
        ("an entry more", lambda c: c["state"].update(colour=1), "colour"),
        ("without a recipe", lambda c: c.pop("recipe"), "recipe"),
        ("a recipe of numbers", lambda c: c.update(recipe=5), "recipe"),
        ("without a model", lambda c: c.pop("model"), "model"),
        ("a model of texts", lambda c: c.update(model={"a": "b"}), "model"),
        ("a tensor missing", lambda c: c["model"].pop(next(iter(c["model"]))), "another model"),
        ("without an optimizer", lambda c: c.pop("optimizer"), "optimizer"),
        ("an empty optimizer", lambda c: c.update(optimizer={}), "optimizer"),
        ("without randomness", lambda c: c.pop("random"), "random"),
        ("no randomness", lambda c: c.update(random=[]), "random"),
        ("randomness of another kind", lambda c: c.update(random=[{"python": 5}]), "random"),
        ("an average that is empty", lambda c: c.update(ema={}), "ema"),
        ("rows that are numbers", lambda c: c["state"].update(rows=[5]), "rows"),
    ):
        yield Bad(f"checkpoint: {what}", checkpoint(change), RESUME, word)
    for what, content in (("not an archive", JUNK), ("empty", b""), ("gone", None)):
        yield Bad(f"checkpoint: {what}", in_run("checkpoint/state.pt", content), RESUME, "state.pt")
    for what, content, word in (
        ("an unknown entry", "epoch: 5\n", "epoch"),
        ("a list", "- 5\n", "recipe.yaml"),
        ("gone", None, "recipe"),
        ("aliases that multiply", BOMB, "aliases"),
        ("code", "epochs: !!python/object/apply:os.system [ls]\n", "recipe.yaml"),
        ("deeply nested", "epochs: " + DEEP, "depth"),
    ):
        yield Bad(f"recipe.yaml: {what}", in_run("recipe.yaml", content), RESUME, word)
    yield Bad("a run that is none", nothing, "report {f}", "metrics.jsonl")
    yield Bad("a run without a model", nothing, "evaluate {f} {data}", "model")


# Values


def values() -> Iterator[Bad]:
    train = "train {data} --runs {f} --device cpu "
    for option, word in (
        ("--seed -1", "seed"),
        (f"--seed {10**70}", "seed"),
        ("--epochs 0", "epochs"),
        ("--epochs -3", "epochs"),
        (f"--epochs 1{'0' * 70}", "epochs"),
        ("--epochs many", "epochs"),
        ("--minutes -1", "minutes"),
        ("--minutes nan", "minutes"),
        ("--minutes inf", "minutes"),
        ("--minutes 1e30", "minutes"),
        ("--lr 0", "lr"),
        ("--lr nan", "lr"),
        ("--lr inf", "lr"),
        ("--lr 1e300", "lr"),
        ("--batch-size 0", "batch_size"),
        (f"--batch-size {10**30}", "batch_size"),
        ("--set workers=1000000", "workers"),
        ("--set workers=-1", "workers"),
        ("--set workers=true", "workers"),
        ("--set milestones=5", "milestones"),
        ("--set milestones=[2,1]", "milestones"),
        ("--set milestones=[a]", "milestones"),
        ("--set momentum=7", "momentum"),
        ("--set momentum=[1]", "momentum"),
        ("--set ema=1", "ema"),
        ("--set gamma=.nan", "gamma"),
        ("--set clip_norm=-1", "clip_norm"),
        ("--set warmup_steps=1e9", "warmup_steps"),
        (f"--set warmup_steps={10**40}", "warmup_steps"),
        (f"--set lr={10**400}", "digits"),
        ("--set optimizer=7", "optimizer"),
        ("--set schedule=[cosine]", "schedule"),
        ("--set colour=red", "colour"),
        ("--set epochs", "name=value"),
        ("--set lr=[1", "YAML"),
        ("--set lr=&a[*a]", "lr"),
        ("--set lr=!!python/name:os.system", "lr"),
        ("--arg in_channels=1000000000", "in_channels"),
        ("--arg in_channels=0", "in_channels"),
        ("--arg in_channels=.inf", "in_channels"),
        ("--arg in_channels=true", "in_channels"),
        ("--arg image_size=1000000000", "image_size"),
        ("--arg colour=5", "colour"),
        ("--arg classes=5", "classes"),
        ("--model faster_rcnn_resnet50_fpn --arg proposals.samples=.inf", "samples"),
        ("--model faster_rcnn_mobilenet_v2_fpn --arg hidden=9999999", "parameters"),
        ("--model faster_rcnn_resnet50_fpn --arg hidden=100000000000", "hidden"),
        ("--model ../../etc/passwd", "passwd"),
        ("--augmentation wild", "wild"),
        ("--device cuda:99", "cuda:99"),
        ("--name ..", ".."),
        ("--name a/../../b", "name"),
        ("--name ", "name"),
        ("--resume", "--name"),
        ("--tracker nothing", "nothing"),
        ("--train {f}/none", "none"),
    ):
        yield Bad(f"train {option[:40]}", nothing, train + option, word)
    bomb = "--set lr=[&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], &g [*e,*e,*e,*e,*e,*e,*e,*e,*e], &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]]"  # fmt: skip
    yield Bad("train --set: aliases that multiply", nothing, f"train {{data}} --runs {{f}} {bomb.replace(' ', chr(160))}", "lr")  # fmt: skip
    for command, word in (
        ("look {data} -o {f}/a.png -n 0", "n is 0"),
        ("look {data} -o {f}/a.png -n -5", "n is -5"),
        ("look {data} -o {f}/a.png --seed -1", "seed"),
        (f"look {{data}} -o {{f}}/a.png --seed {10**70}", "seed"),
        ("look {data} -o {f}/a.xyz", ".xyz"),
        ("look {data} -o {f}/a", "suffix"),
        ("look {data} -o {f}/none/a.png", "none"),
        ("look {data} -o {f}/a.pdf --split mars", "mars"),
        ("look {data} -o {f}/a.png --augmentation wild", "wild"),
        ("look {data} -o {f}/a.fits", ".fits"),
        ("look {data} -o {image}", "exists"),
        ("anchors {data} -k 0 -o {f}/a.png", "k is 0"),
        ("anchors {data} -k 1000000000 -o {f}/a.png", "k is"),
        ("anchors {data} --image-size 0 -o {f}/a.png", "image_size"),
        (f"anchors {{data}} --image-size {10**30} -o {{f}}/a.png", "image_size"),
        ("anchors {data} --seed -1 -o {f}/a.png", "seed"),
        ("anchors {data} -o {f}/a.jpgx", ".jpgx"),
        ("scenes {f}/s --size 1000000000 --train 1", "limit"),
        ("scenes {f}/s --size -5", "16"),
        ("scenes {f}/s --train -1", "number of scenes"),
        ("scenes {f}/s --train 1000000000", "number of scenes"),
        ("scenes {f}/s --seed -1", "seed"),
        (f"scenes {{f}}/s --seed {10**70}", "seed"),
        ("scenes {f}/s --train 0 --val 0 --test 0", "nothing"),
        ("scenes {image}", "a.png"),
        ("demo {f}/d --minutes -1", "minutes"),
        ("demo {f}/d --minutes nan", "minutes"),
        ("demo {f}/d --minutes 1e300", "minutes"),
        ("demo {image}", "a.png"),
        ("evaluate {run} {data} --batch-size 0", "batch_size"),
        (f"evaluate {{run}} {{data}} --batch-size {10**30}", "batch_size"),
        (f"predict {{run}} {{image}} -o {{f}}/o --batch-size {10**30}", "batch_size"),
        (f"predict {{run}} {{image}} -o {{f}}/o --tile {10**30}", "tile"),
        ("predict {run} {image} -o {f}/o --overlap 5", "overlap"),
        ("predict {run} {image} -o {f}/o --full-scale 0", "full_scale"),
        (f"look {{data}} -o {{f}}/a.png -n {10**30}", "n is"),
        ("convert {data} {f}/o --to yolo --split nan/1/1", "--split"),
        ("evaluate {run} {data} --split mars", "mars"),
        ("evaluate {run} {data} --device mars", "mars"),
        ("evaluate {run} {data} --json {f}/none/a.json", "none"),
        ("evaluate {run} {data} --json {image}", "exists"),
        ("evaluate {run} {f}", "empty"),
        ("evaluate {data} {data}", "model"),
        ("predict {run} {image} -o {f}/o --threshold 7", "threshold"),
        ("predict {run} {image} -o {f}/o --threshold nan", "threshold"),
        ("predict {run} {image} -o {f}/o --batch-size -1", "batch_size"),
        ("predict {run} {image} -o {data}", "not empty"),
        ("predict {run} {image} -o {image}", "a.png"),
        ("predict {run} {image} -o {f}/o --tile 5", "tile"),
        ("predict {run} {f} -o {f}/o", "no images"),
        ("predict {run} {f}/*.jpg -o {f}/o", "pattern"),
        ("convert {data} {f}/o --to mars", "mars"),
        ("convert {data} {data} --to yolo", "exists"),
        ("convert {f} {f}/o --to yolo", "empty"),
        ("convert {data} {image}/o --to yolo", "a.png"),
        ("check {data} --fix melt", "melt"),
        ("check {data} --fix drop --out {data}", "exists"),
        ("check {data} --model mars", "mars"),
        ("check {data} --model resnet18", "anchors"),
        ("check {data} --train {f}/none", "none"),
        ("check {f}/none", "none"),
        ("models --colour", "colour"),
        ("models mars now", "argument"),
        ("models --task mars", "task"),
        ("doctor now", ".onnx"),
        ("report {f}/none", "none"),
        ("report {run} --data {f}/none", "none"),
        ("fly", "fly"),
    ):
        yield Bad(command[:60], nothing, command, word)


# Names and places


def places() -> Iterator[Bad]:
    def renamed(name: str) -> Make:
        def make(folder: Path, world: World) -> None:
            content: Any = coco(folder)
            content["images"][0]["file_name"] = name
            content["annotations"][0]["bbox"] = [float("nan"), 2, 3, 4]
            (folder / "train" / "a.png").rename(folder / "train" / name)
            write_coco(folder, content)

        return make

    for what, name in (
        ("a line break", "a\nb.png"),
        ("a terminal command", "a\x1b[31mb.png"),
        ("markup", "<script>alert(1)</script>[red]b.png".replace("/", "")),
        ("a leading dash", "--help.png"),
        ("quotes", "a'\"b.png"),
        ("half a surrogate pair", "a\udcffb.png"),
    ):
        yield Bad(f"an image whose name holds {what}", renamed(name), "check {f}", "b.png" if "b.png" in name else name)

    def read_only(folder: Path, world: World) -> None:
        (folder / "full").symlink_to("/proc/self")

    yield Bad("a place that cannot be written", read_only, "scenes {f}/full/s --train 1", "full")
    yield Bad("a place that cannot be written for a run", read_only, "train {data} --runs {f}/full", "full")
    yield Bad("a place that cannot be written for pictures", read_only, "predict {run} {image} -o {f}/full/o", "full")
    yield Bad("a name of 5000 letters", nothing, "scenes {f}/" + "a" * 5000, "long")
    yield Bad("a zero byte in a name", nothing, "check {f}/a\0b", "null")
