"""The sets of the development suite: which images are trained on, which are measured, and how they lie on disk.

Each set becomes two folders: LEARN, with the one split "train", and TEST, which a training never sees. Our command
line and the peers read the same folders: boxes as COCO JSON without masks, class maps as palette PNGs, image classes as
a folder per class. A training splits its own validation images from LEARN.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sightline as sl
from sightline.data.dataset import Dataset
from sightline.data.scenes import write_scenes
from sightline.structures import Instances

HELD_OUT = 0.25
"""Fraction of the training images that choices are measured on, in place of the test images."""
_SCENES = {"train": 160, "val": 0, "test": 100, "size": 160, "seed": 11}


@dataclass(frozen=True)
class Set:
    """A set of the suite.

    Attributes:
        source: the folder in the data; "scenes" is rendered.
        task: "detection", "segmentation" or "classification".
        learn: the splits that are trained on.
        test: the split that is measured.
        metric: the metric of the table: a name, or "class/metric" for that of one class.
    """

    source: str
    task: str = "detection"
    learn: tuple[str, ...] = ("train",)
    test: str = "val"
    metric: str = "AP"


SETS: dict[str, Set] = {
    "bccd": Set("bccd", learn=("train", "val"), test="test"),
    "cards": Set("cards", test="test"),
    "balloon": Set("balloon"),
    "nuclei": Set("nuclei"),
    "coco_mini": Set("coco_mini"),
    "scenes": Set("scenes", test="test"),
    "aerial": Set("aerial", "segmentation", metric="mIoU"),
    "nuclei_map": Set("nuclei", "segmentation", metric="mIoU"),
    "scenes_map": Set("scenes", "segmentation", test="test", metric="mIoU"),
    "flowers": Set("flowers", "classification", metric="top1"),
}


@dataclass(frozen=True)
class Folders:
    """A set on disk: the folder to train on, the folder to measure on, and the number of images of each."""

    learn: Path
    test: Path
    images: tuple[int, int]

    def test_data(self) -> Dataset:
        """The images to measure on."""
        return sl.open_dataset(self.test)["test"]


def folders(name: str, data: Path, work: Path, choose: bool) -> Folders:
    """Return the folders of a set, writing them first if they do not exist.

    Args:
        name: a key of `SETS`.
        data: the folder of all data.
        work: where to write.
        choose: measure on images held out of those to train on; the test images are then not used at all.
    """
    out = work / "sets" / (f"{name}_choose" if choose else name)
    if not out.exists():
        learn, test = _divided(name, data, work, choose)
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for split, piece in (("train", learn), ("test", test)):
            form = {"detection": "coco", "segmentation": "semantic", "classification": "folders"}[SETS[name].task]
            sl.convert(_with_split(piece, split, SETS[name].task), part / split, form, symlink=True)
        part.rename(out)
    counts = (len(sl.open_dataset(out / "train")), len(sl.open_dataset(out / "test")))
    return Folders(out / "train", out / "test", counts)


def _divided(name: str, data: Path, work: Path, choose: bool) -> tuple[Dataset, Dataset]:
    """The images to train on and to measure on."""
    chosen = SETS[name]
    source = data / chosen.source
    if chosen.source == "scenes":
        source = work / "sets" / "rendered"
        if not source.exists():
            write_scenes(source, progress=False, **_SCENES)  # type: ignore[arg-type]
    whole = sl.open_dataset(source)
    if chosen.task == "segmentation" and whole.kind == "instances":
        whole = whole.as_class_map()
    learn = whole[np.isin([whole.split_of(i) for i in range(len(whole))], chosen.learn)]
    if not choose:
        return learn, whole[chosen.test]
    order = np.random.default_rng(0).permutation(len(learn))
    held_out = round(HELD_OUT * len(learn))
    return learn[np.sort(order[held_out:])], learn[np.sort(order[:held_out])]


def _with_split(data: Dataset, split: str, task: str) -> Dataset:
    """A dataset in memory, whose images all are in this split; of objects only what detection needs."""
    paths = [data.path(i) for i in range(len(data))]
    targets: list[Any] = [data.target(i) for i in range(len(data))]
    common: dict[str, Any] = {"splits": [split] * len(data)}
    makers: dict[str, Callable[[], Dataset]] = {
        "detection": lambda: Dataset.from_instances(
            paths, [_boxes(target) for target in targets], data.classes, names=_names(data), **common
        ),
        "segmentation": lambda: Dataset.from_class_maps(
            paths, [target.labels for target in targets], data.classes, names=_names(data), ignore=-1, **common
        ),
        "classification": lambda: Dataset.from_labels(
            paths, [target.label for target in targets], data.classes, names=_names(data), **common
        ),
    }
    return makers[task]()


def _names(data: Dataset) -> list[str]:
    return [data.image_name(i).replace("/", "_") for i in range(len(data))]


def _boxes(target: Instances) -> Instances:
    kept = ("boxes", "labels", "crowd", "areas")
    return Instances(target.image_size, classes=target.classes, **{name: getattr(target, name) for name in kept})
