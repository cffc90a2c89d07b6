"""Writing KITTI's object data: image_2/, label_2/ and calib/ in training/, and the splits in ImageSets/."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np

from sightline.data.blob import Blob
from sightline.data.columns import Columns
from sightline.data.cuboids import FIELD
from sightline.data.dataset import Dataset
from sightline.data.formats import files
from sightline.data.formats.voc_write import not_held
from sightline.data.kitti_levels import DIFFICULTIES
from sightline.errors import InputError

DONT_CARE = "DontCare"
HALF = 0.5
"""From the centre of a pixel, where KITTI's coordinates begin, to its corner."""
_UNKNOWN = "-1 -1 -1 -1000 -1000 -1000 -10"
"""Sides, position and rotation of an object without a known cuboid."""
_HELD = frozenset({FIELD, "truncated", "occluded", "alpha"})


def write(dataset: Dataset, out: Path, symlink: bool = False) -> Counter[str]:
    """Write a dataset as training/image_2, label_2 and calib, and ImageSets/SPLIT.txt if there are splits.

    Positions and pixels are converted as `sightline.data.formats.kitti` reads them. The camera of an image is P0 to P3
    of its calibration; the other matrices are identities. A crowd region becomes a DontCare line, which has no class.
    Spaces in names of classes become underscores.

    Args:
        dataset: a dataset of kind "instances", with cuboids or without.
        out: an existing folder.
        symlink: link to the images instead of copying them.

    Returns:
        What could not be written, with the number of occurrences.

    Raises:
        InputError: two images, or two classes, would have the same name.
    """
    columns = dataset.columns
    names = _file_names(dataset)
    classes = ["_".join(name.split()) for name in dataset.classes]
    if len(set(classes)) < len(classes) or DONT_CARE in classes:
        raise InputError(f"classes {', '.join(dataset.classes)} are not distinct in KITTI's files; rename them")
    lost = not_held(dataset, columns, _HELD)
    lost["facts about images"] -= sum(dataset.camera(i) is not None for i in range(len(dataset)))
    lost["names of classes without an object"] = len(classes) - len(np.unique(columns.labels[~columns.crowd]))
    base = out / "training"
    for folder in ("image_2", "label_2", "calib"):
        (base / folder).mkdir(parents=True)
    lists: dict[str, list[str]] = {split: [] for split in dataset.splits}
    for i, name in enumerate(names):
        stem = files.without_suffix(name)
        files.write_image(dataset, i, base / "image_2" / name, symlink)
        lines = _lines(columns, i, classes, lost)
        (base / "label_2" / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        camera = dataset.camera(i)
        if camera is not None:
            text = _calibration(camera.intrinsics.double().numpy())
            (base / "calib" / f"{stem}.txt").write_text(text, encoding="utf-8")
        lists[dataset.split_of(i)].append(stem)
    if dataset.splits != ("all",):
        (out / "ImageSets").mkdir()
        for split, own in lists.items():
            (out / "ImageSets" / f"{split}.txt").write_text("".join(f"{name}\n" for name in own), encoding="utf-8")
    return +lost


def _file_names(dataset: Dataset) -> list[str]:
    """A distinct name without folders per image: its own; with its split if images of two splits share names."""
    names = [name.replace("/", "_") for name in files.image_names(dataset)]
    stems = [files.without_suffix(name) for name in names]
    if len(set(stems)) < len(stems):
        names = [f"{dataset.split_of(i)}_{name}" for i, name in enumerate(names)]
        stems = [files.without_suffix(name) for name in names]
    files.require_distinct(names, stems, "a label file, which goes by the name without its ending")
    return names


def _lines(columns: Columns, i: int, classes: list[str], lost: Counter[str]) -> list[str]:
    """The lines of the objects of image `i`; what they cannot hold is added to `lost`."""
    cuboids = columns.extra.get(FIELD)
    lines: list[str] = []
    for a in columns.objects_of(i):
        box = columns.boxes[a].astype(np.float64) - HALF
        if columns.crowd[a]:
            line = f"{DONT_CARE} -1 -1 -10 {_numbers(box)} {_UNKNOWN}"
            lines += [line] if line not in lines else []  # one region may be the crowd of several classes
            continue
        truncated, occluded = _extra(columns, "truncated", a, 0.0), round(_extra(columns, "occluded", a, 0.0))
        alpha = _extra(columns, "alpha", a, -10.0)
        cuboid = cuboids[a] if isinstance(cuboids, np.ndarray) else np.full(9, np.nan)
        place = _UNKNOWN
        if np.isfinite(cuboid).all():
            x, y, z, w, h, length, roll, pitch, yaw = cuboid.tolist()
            place = _numbers([h, w, length, x, y + h / 2, z, yaw])
            lost["roll and pitch of cuboids"] += bool(max(abs(roll), abs(pitch)) > 1e-4)
            if "alpha" not in columns.extra:
                alpha = math.remainder(yaw - math.atan2(x, z), 2 * math.pi)
        limits = DIFFICULTIES["hard"]
        hard = occluded > limits.occluded or truncated > limits.truncated or box[3] - box[1] <= limits.height
        lost["difficult marks that KITTI's levels do not imply"] += bool(columns.difficult[a]) and not hard
        name = classes[int(columns.labels[a])]
        lines.append(f"{name} {_numbers([truncated])} {occluded} {_numbers([alpha, *box])} {place}")
    return lines


def _extra(columns: Columns, name: str, a: int, usual: float) -> float:
    """The value of a numeric column of object `a`; `usual` without one."""
    column = columns.extra.get(name)
    return usual if column is None or isinstance(column, Blob) else float(column[a])


def _numbers(values: list[float] | np.ndarray) -> str:
    return " ".join(f"{float(value):.6g}" if value == round(value) else f"{float(value):.6f}" for value in values)


def _calibration(intrinsics: np.ndarray) -> str:
    matrix = np.concatenate((intrinsics, np.zeros((3, 1))), 1)
    matrix[:2, 2] -= HALF
    rows = [f"P{k}: {' '.join(f'{value:.9e}' for value in matrix.ravel())}" for k in range(4)]
    identity = np.eye(3, 4).ravel()
    rows.append(f"R0_rect: {' '.join(f'{value:g}' for value in np.eye(3).ravel())}")
    rows += [f"{name}: {' '.join(f'{value:g}' for value in identity)}" for name in ("Tr_velo_to_cam", "Tr_imu_to_velo")]
    return "\n".join(rows) + "\n"
