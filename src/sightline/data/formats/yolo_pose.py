"""YOLO pose: like YOLO (the layouts of `sightline.data.formats.yolo`), with keypoints after each box.

data.yaml contains `kpt_shape: [P, D]`: P keypoints with D = 2 numbers (x, y) or D = 3 (x, y, visibility 0, 1 or 2),
where x and y are fractions of the image. With two numbers, a point at (0, 0) or with a negative coordinate is absent
and all others are visible. Fractional visibilities are confidences of predictions (visible from 0.5). A line of five
numbers is a box whose keypoints are all absent. `flip_idx` contains the index of the mirror image of each keypoint,
`kpt_names` their names (one list, or one per class id).

Source: https://docs.ultralytics.com/datasets/pose/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.formats import yolo
from sightline.errors import InputError
from sightline.structures import Size

__all__ = ["LOOKED_FOR", "read", "recognise", "write"]

LOOKED_FOR = "YOLO pose: as YOLO, with kpt_shape in data.yaml"


def recognise(root: Path) -> str | None:
    """None: the layout is recognised as YOLO, and data.yaml distinguishes the two formats."""
    return None


def read(
    root: Path,
    splits: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
) -> Dataset:
    """Read a YOLO pose dataset. Arguments and errors are those of `sightline.open_dataset`."""
    dataset = yolo.read(root, splits, classes, images)
    if dataset.format != "yolo-pose":
        raise InputError(
            f"{root} is not YOLO pose: no data.yaml has kpt_shape; add kpt_shape: [number of keypoints, 2 or 3]"
        )
    return dataset


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as YOLO pose, in the layout of `sightline.data.formats.yolo.write`, with a data.yaml.

    Each keypoint has three numbers: x, y, visibility. An object without keypoints gets absent ones (0 0 0). Numbers
    have ten digits.

    Args:
        dataset: a dataset of kind "instances", with keypoints.
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.

    Raises:
        InputError: the dataset has no keypoints.
    """
    if "keypoints" in dataset.source.later:
        dataset = dataset.with_fields("keypoints")
    keypoints = dataset.source.columns.keypoints
    if keypoints is None or not keypoints.shape[1]:
        raise InputError("the dataset has no keypoints, which YOLO pose requires; write it as yolo")
    more: dict[str, object] = {"kpt_shape": [keypoints.shape[1], 3]}
    if dataset.keypoint_swap is not None:
        more["flip_idx"] = list(dataset.keypoint_swap)
    if len(dataset.keypoint_names) == keypoints.shape[1]:
        more["kpt_names"] = {k: list(dataset.keypoint_names) for k in range(len(dataset.classes))}
    lost = yolo.write_folder(
        dataset, out, symlink, lambda columns, i, _, true_size: _lines(columns, i, true_size), more
    )
    lost.pop("keypoints", None)
    return +lost


def _lines(columns: Columns, i: int, size: Size) -> str:
    rows = columns.objects_of(i)
    boxes = yolo.box_lines(columns, i, size)
    assert columns.keypoints is not None, "checked by the caller"
    points = columns.keypoints.astype(np.float64) / np.array([size[1], size[0], 1.0])
    text = [" ".join(f"{value:.10g}" for value in np.where(p[:, 2:] > 0, p, 0).ravel().tolist()) for p in points[rows]]
    return "".join(f"{box} {point}\n" for box, point in zip(boxes, text, strict=True))
