"""Rules about outlines and keypoints."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from sightline.data.check.labels import OUTSIDE, place
from sightline.data.check.problems import Problem
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.data.segmentation import fault_of


def bad_outlines(columns: Columns, sizes: np.ndarray) -> dict[str, dict[int, str]]:
    """The objects that break each rule, with a description of what was found.

    Args:
        columns: raw annotations.
        sizes: [N, 2] (height, width) of the images; 0 if unknown.
    """
    bad: dict[str, dict[int, str]] = {"outline-malformed": {}, "outline-broken": {}, "mask-size-differs": {}}
    rows = np.flatnonzero(columns.segmentations.lengths > 0)
    images = columns.image_of[rows]
    for row, image in zip(rows.tolist(), images.tolist(), strict=True):
        height, width = sizes[image].tolist()
        fault = fault_of(json.loads(columns.segmentations[row]), (height, width))
        if fault is not None:
            bad[fault.rule][row] = fault.value
    return bad


def outline_problems(
    dataset: Dataset, columns: Columns, bad: dict[str, dict[int, str]], with_masks: bool
) -> Iterator[Problem]:
    """One problem for each object that breaks a rule, as found by `bad_outlines`, and one for all without outlines.

    If the targets contain masks, these problems are errors, because creating the targets would fail.
    """
    images = columns.image_of
    for rule, found in bad.items():
        for row, value in found.items():
            file, number, thing = place(dataset, columns, row, int(images[row]))
            yield Problem.of(rule, f"{thing} {number} {value}", file, number, "error" if with_masks else None)
    outlined = columns.segmentations.lengths > 0
    if outlined.any() and not outlined.all():
        without = int((~outlined).sum())
        what = "object has" if without == 1 else "objects have"
        value = f"{without} of {len(outlined)} {what} only a box, the first in {dataset.name(images[~outlined][0])}"
        yield Problem.of("outline-missing", value)


def bad_keypoints(columns: Columns, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """bool [A, P] per rule: the keypoints that break it. Absent keypoints break no rule.

    Args:
        columns: raw annotations, with keypoints.
        sizes: [N, 2] (height, width) of the images; 0 if unknown.
    """
    assert columns.keypoints is not None, "called only for columns with keypoints"
    frame = sizes[columns.image_of][:, None, ::-1]  # [A, 1, 2] width, height
    points, visibility = columns.keypoints[:, :, :2], columns.keypoints[:, :, 2]
    broken = ~np.isfinite(points).all(2) & (visibility > 0)
    with np.errstate(invalid="ignore"):
        over = np.maximum(-points, points - frame).max(2) > OUTSIDE
    over &= ~broken & (visibility > 0) & (frame > 0).all(2)
    odd = ~np.isin(visibility, (0, 1, 2))
    return {"keypoint-not-finite": broken, "keypoint-outside": over, "keypoint-visibility": odd}


def keypoint_problems(dataset: Dataset, columns: Columns, sizes: np.ndarray) -> Iterator[Problem]:
    """One problem for each object with keypoints outside the image, non-finite, or of an invalid visibility."""
    if columns.keypoints is None:
        return
    images = columns.image_of
    for rule, found in bad_keypoints(columns, sizes).items():
        for row in np.flatnonzero(found.any(1)).tolist():
            i, point = int(images[row]), int(found[row].argmax())
            x, y, seen = columns.keypoints[row, point].tolist()
            height, width = sizes[i].tolist()
            file, number, thing = place(dataset, columns, row, i)
            more = f" (and {int(found[row].sum()) - 1} more)" if found[row].sum() > 1 else ""
            where = {
                "keypoint-not-finite": f" at {x:g}, {y:g}{more}",
                "keypoint-outside": f" at {x:g}, {y:g}{more} in an image {width} wide and {height} high",
                "keypoint-visibility": f" with visibility {seen:g}{more}",
            }[rule]
            yield Problem.of(rule, f"{thing} {number} has keypoint {point}{where}", file, number)
