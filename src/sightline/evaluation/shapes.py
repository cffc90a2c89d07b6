"""Masks and keypoints in COCO's form: masks are compared by IoU, keypoints by their similarity (OKS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sightline.errors import InputError
from sightline.evaluation._arrays import Floats
from sightline.evaluation.packed import PACKED
from sightline.structures import Instances

PERSON_POINTS = 17
OTHER_SIGMA = 0.067
"""For keypoints other than COCO's 17 of a person: the mean of those 17."""


@dataclass(frozen=True)
class Shapes:
    """Masks or keypoints of all objects and all detections, in the order of their rows.

    Attributes:
        kind: COCO's name of the comparison.
        objects: the entries to add to each object's annotation.
        detections: the entries to add to each detection; None for a detection that is not compared.
        area: [N] float64, areas of the objects in pixels; None for those of the rows.
        sigmas: tolerance of each keypoint; empty for COCO's own.
    """

    kind: Literal["segm", "keypoints"]
    objects: list[dict[str, Any]]
    detections: Sequence[dict[str, Any] | None]
    area: Floats | None = None
    sigmas: tuple[float, ...] = ()


def masks_of(targets: Sequence[Instances], predictions: Sequence[Instances], area: Floats) -> Shapes | None:
    """The packed masks, if labels and predictions both have them. `area` [N]: areas of the objects, where labelled.

    Raises:
        InputError: a predicted mask has another size than the labels of its image.
    """
    if not (_have(PACKED, targets) and _have(PACKED, predictions)):
        return None
    from sightline.ops.masks import rle_area

    for position, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
        if len(prediction) and prediction.image_size != target.image_size:
            raise InputError(
                f"prediction {position} ({target.source or 'no name'}) has masks of {list(prediction.image_size)} "
                f"pixels, but the labels' are of {list(target.image_size)}; give both in the image's own size"
            )
    rles = [rle for target in targets for rle in target.fields.get(PACKED, ())]
    labelled = np.array([("areas" in target) for target in targets for _ in range(len(target))], dtype=bool)
    own = np.array([0.0 if known else float(rle_area(rle)) for rle, known in zip(rles, labelled, strict=True)])
    found = [{"segmentation": rle} for item in predictions for rle in item.fields.get(PACKED, ())]
    return Shapes("segm", [{"segmentation": rle} for rle in rles], found, np.where(labelled, area, own))


def keypoints_of(targets: Sequence[Instances], predictions: Sequence[Instances]) -> Shapes | None:
    """The keypoints, if labels and predictions both have them.

    A detection whose keypoints all have visibility 0 has no keypoints and is not compared.

    Raises:
        InputError: labels and predictions have different numbers of keypoints.
    """
    if not (_have("keypoints", targets) and _have("keypoints", predictions)):
        return None
    counts = [{item.keypoints.shape[1] for item in items if len(item)} for items in (targets, predictions)]
    if len(counts[0] | counts[1]) > 1:
        shown = [", ".join(map(str, sorted(count))) or "no" for count in counts]
        raise InputError(
            f"the labels have {shown[0]} keypoints per object and the predictions {shown[1]}, but the numbers must be "
            "equal; use a model for these keypoints"
        )
    points = next(iter(counts[0] | counts[1]), PERSON_POINTS)
    found = [{"keypoints": row} if any(row[2::3]) else None for item in predictions if len(item) for row in _flat(item)]
    objects = [
        {"keypoints": row, "num_keypoints": sum(seen > 0 for seen in row[2::3])}
        for item in targets
        if len(item)
        for row in _flat(item)
    ]
    sigmas = () if points == PERSON_POINTS else (OTHER_SIGMA,) * points
    return Shapes("keypoints", objects, found, sigmas=sigmas)


def _flat(item: Instances) -> list[list[float]]:
    return item.keypoints.detach().cpu().double().flatten(1).tolist()


def _have(name: str, items: Sequence[Instances]) -> bool:
    """Whether at least one image has the field, and all images with objects have it."""
    return any(name in item for item in items) and all(name in item for item in items if len(item))
