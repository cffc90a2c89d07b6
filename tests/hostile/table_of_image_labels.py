"""Bad inputs of labels of whole images: folders of classes, CSV lists, COCO categories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.bad import Bad, Make, one_file
from tests.hostile.world import World, coco, picture

HEAD = "filename,class\n"


def image_labels() -> Iterator[Bad]:
    """Rows of the table."""

    def folders(*names: str, **contents: bytes) -> Make:
        def make(folder: Path, world: World) -> None:
            for seed, name in enumerate(names):
                picture(folder / "d" / name, seed=seed)
            for name, content in contents.items():
                (folder / "d" / name.replace("__", "/").replace("_dot_", ".")).write_bytes(content)

        return make

    two = ("cat/a.png", "dog/b.png")
    for what, make, verb, word in (
        ("an image that is none", folders(*two, cat__x_dot_png=b"nope"), "check {f}/d", "x.png"),
        ("an image cut off", folders(*two, cat__x_dot_png=b"\x89PNG\r\n\x1a\n\0\0"), "check {f}/d", "x.png"),
        ("classes.txt that is no text", folders(*two, classes_dot_txt=bytes(range(256)) * 8), "check {f}/d", "classes"),
        ("one class alone", folders("cat/a.png"), "check {f}/d --format folders", "one-class"),
        ("no image", folders("cat/a/b/c/d/e.png"), "check {f}/d", "format"),
        ("a split that is not there", folders(*two), "check {f}/d --val {f}/none", "none"),
        ("a split that is a file", folders(*two), "check {f}/d --val {f}/d/cat/a.png", "a.png"),
        ("a class that is not there", folders(*two), "check {f}/d --classes mars=cat", "mars"),
        ("a file for the folder", folders(*two), "check {f}/d/cat/a.png --format folders", "a.png"),
        ("as boxes", folders(*two), "convert {f}/d {f}/o --to yolo", "objects"),
        ("repaired in place", folders(*two), "check {f}/d --fix drop --out {f}/d", "overwritten"),
        ("anchors of them", folders(*two), "anchors {f}/d -o {f}/a.png", "boxes"),
        ("for a detector", folders(*two), "train {f}/d --model sightline_n --runs {f}/r", "classification"),
    ):
        yield Bad(f"folders: {what}", make, verb, word)
    for what, text, word in (
        ("no class", HEAD + "a.png,\n", "class"),
        ("two classes", HEAD + "a.png,cat\na.png,dog\n", "dog"),
        ("no image", HEAD + ",cat\n", "row 2"),
        ("an image that is not there", HEAD + "none.png,cat\n", "none.png"),
        ("an image outside", HEAD + "../../../etc/passwd,cat\n", "passwd"),
        ("a header alone", HEAD, "images"),
        ("an open quote", HEAD + '"a.png,cat\n', "l.csv"),
        ("a field of 100 MB", HEAD + "a.png," + "x" * 10**8 + "\n", "l.csv"),
        ("a class of control characters", HEAD + "a.png,c\x1bt\n", "class"),
        ("more fields than columns", HEAD + "a.png,cat,dog\n", "row 2"),
    ):
        yield Bad(f"CSV of classes: {what}", one_file("l.csv", text), "check {f}", word)
    for what, name in (("of another layout", "images"), ("that none can be", "a/b"), ("too long for one", "x" * 300)):
        made = one_file("l.csv", f"{HEAD}a.png,{name}\n")
        yield Bad(f"classes as folders: a name {what}", made, "convert {f} {f}/o --to folders", name)

    def of_images(change: dict[int, dict[str, Any]]) -> Make:
        def make(folder: Path, world: World) -> None:
            content: Any = coco(folder)
            content["annotations"] = [{"id": k, "image_id": k, "category_id": 1} for k in (1, 2, 3, 4)]
            content["categories"].append({"id": 2, "name": "dog"})
            for position, values in change.items():
                content["annotations"][position] |= values
            (folder / "train" / "x.json").write_text(json.dumps(content))

        return make

    for what, change, word in (
        ("two classes", {1: {"image_id": 1, "category_id": 2}}, "dog"),
        ("no such category", {0: {"category_id": 9}}, "9"),
        ("a category that is a list", {0: {"category_id": [1]}}, "category_id"),
        ("an image that is a list", {0: {"image_id": [1]}}, "image_id"),
        ("a box among them", {3: {"bbox": [1, 2, 3, 4]}}, "bbox"),
        ("one class alone", {}, "one-class"),
    ):
        yield Bad(f"COCO of classes: {what}", of_images(change), "check {f}/train", word)
