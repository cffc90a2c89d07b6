"""A dataset with every kind of outline, and comparisons of masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as oracle

from sightline.data.blob import Blob
from sightline.data.dataset import Dataset
from sightline.structures import Instances

SIZE = (48, 64)
PARTS = [[4.5, 4, 20, 5, 12, 17.25], [30, 20, 44, 20, 44, 31.5, 30, 30]]


def outlined(splits: bool = True) -> Dataset:
    """Polygons of one part and of two, an RLE with a hole, a box alone, marks and a caption; an image with nothing."""
    ring = np.zeros(SIZE, np.uint8, order="F")
    ring[10:30, 8:40] = 1
    ring[15:20, 15:22] = 0
    ring[40:44, 50:60] = 1
    rle = oracle.encode(ring)
    entries = [
        [PARTS[0]],
        PARTS,
        {"size": [*SIZE], "counts": rle["counts"].decode()},
        None,
        [[1, 1, 9, 1, 9, 9.125, 1, 9]],
    ]
    boxes = [[4.5, 4, 20, 17.25], [4.5, 4, 44, 31.5], [8, 10, 60, 44], [3.25, 5, 20, 30.5], [1, 1, 9, 9.125]]
    images = [torch.full((3, *SIZE), 40 * k, dtype=torch.uint8) for k in range(3)]
    targets = [
        Instances(SIZE, boxes=boxes[:3], labels=[0, 1, 0]),
        Instances(SIZE),
        Instances(SIZE, boxes=boxes[3:], labels=[1, 0], crowd=[False, True], difficult=[True, False]),
    ]
    names = ["a.png", "deep/b.png", "c.png"]
    data = Dataset.from_instances(
        images,
        targets,
        ["zebra", "ant & <bee>", "unused"],
        names=names,
        splits=["train", "train", "val"] if splits else None,
    )
    texts = ["" if entry is None else json.dumps(entry, separators=(",", ":")) for entry in entries]
    captions = Blob.of(["", 'two "parts"', "", "", ""])
    return data.with_columns(data.columns.replace(segmentations=Blob.of(texts), captions=captions))


def masks(dataset: Dataset) -> dict[tuple[str, str], np.ndarray]:
    """Masks by split and image name, as targets have them."""
    dataset = dataset.with_fields("masks")
    return {
        (dataset.split_of(i), dataset.image_name(i)): dataset.target(i).masks.numpy()  # type: ignore[union-attr]
        for i in range(len(dataset))
    }


def oracle_masks(dataset: Dataset) -> dict[tuple[str, str], np.ndarray]:
    """The same by pycocotools, from the columns."""
    found = {}
    columns = dataset.columns
    for i in range(len(dataset)):
        height, width = dataset.image_size(i)
        out = np.zeros((int(np.diff(columns.offsets)[i]), height, width), bool)
        for k, a in enumerate(range(int(columns.offsets[i]), int(columns.offsets[i + 1]))):
            value = json.loads(columns.segmentations[a] or b"[]")
            if isinstance(value, dict) and isinstance(value["counts"], list):
                value = oracle.frPyObjects(value, height, width)
            if isinstance(value, dict):
                out[k] = oracle.decode(value)
            elif value:
                out[k] = oracle.decode(oracle.frPyObjects(value, height, width)).any(2)
        found[dataset.split_of(i), dataset.image_name(i)] = out
    return found


def same_masks(first: dict[tuple[str, str], np.ndarray], second: dict[tuple[str, str], np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert np.array_equal(value, second[key]), key


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two masks."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
