"""What the bad inputs are made from: a tiny data set in each format, and a run trained on it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline import cli
from tests.logs import log_level_kept

SIZE = (48, 64)
NAMES = ("a", "b", "c", "d")
MODEL = ("--model", "ssdlite320_mobilenet_v2", "--arg", "image_size=96", "--set", "workers=0")


@dataclass(frozen=True)
class World:
    """Good inputs, not to be changed: copy what is to be damaged.

    Attributes:
        data: a COCO folder with the splits train and val.
        run: of a detector trained on it.
        image: one of its images.
    """

    data: Path
    run: Path
    image: Path


@dataclass(frozen=True)
class Outcome:
    code: int
    said: str


def picture(path: Path, size: tuple[int, int] | None = None, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*(size or SIZE), 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def coco(folder: Path, split: str = "train", **changes: object) -> dict[str, object]:
    """A COCO file's content, and its images on the disk."""
    height, width = SIZE
    images, annotations = [], []
    for k, name in enumerate(NAMES, 1):
        picture(folder / split / f"{name}.png", seed=k)
        images.append({"id": k, "file_name": f"{name}.png", "width": width, "height": height})
        annotations.append(
            {"id": k, "image_id": k, "category_id": 1, "bbox": [8, 8, 20, 24], "area": 480, "iscrowd": 0}
        )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]} | changes


def write_coco(folder: Path, content: object, split: str = "train") -> None:
    file = folder / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content))


def make_world(folder: Path) -> World:
    """Make them, or take those that are there already."""
    world = World(folder / "data", folder / "run", folder / "data" / "train" / "a.png")
    if (folder / "made").exists():
        return world
    for split in ("train", "val"):
        write_coco(folder / "data", coco(folder / "data", split), split)
    options = (*MODEL, "--epochs", "1", "--device", "cpu", "--name", "run", "--runs", str(folder), "--quiet")
    trained = sightline("train", folder / "data", *options)
    assert trained.code == 0, trained.said
    (folder / "made").touch()
    return world


def sightline(*arguments: object) -> Outcome:
    """Run `sightline ARGUMENTS` in this process; a traceback fails the test."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        patch.setattr(sys, "argv", ["sightline", *map(str, arguments)])
        try:
            with log_level_kept():
                cli.main()
        except SystemExit as end:
            return Outcome(int(end.code or 0), out.getvalue())
    raise AssertionError("the program did not end")
