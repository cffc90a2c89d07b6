"""Labelled and predicted cuboids of many images as flat arrays, and their overlapping pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sightline.errors import InputError
from sightline.evaluation._arrays import Bools, Floats, Pairs, Rows, detection_rows, object_rows, overlapping_pairs
from sightline.ops.cuboid_iou import paired_cuboid_iou
from sightline.structures import Classes, Instances

UNKNOWN_OVERLAP = 0.5
"""A detection does not count if at least this fraction of its box is inside an object without a cuboid."""


@dataclass(frozen=True)
class CuboidRows:
    """Objects and detections of all images with their cuboids, and how they overlap.

    Attributes:
        objects, detections: boxes, classes and scores, one row each.
        object_cuboids: [N, 9] float64, NaN where unknown.
        detection_cuboids: [D, 9] float64.
        pairs: pairs of a detection and an object of the same image and class, with their 3-D IoU above 0.
        on_unknown: [D] bool: the box is largely inside of an object without a cuboid, or of a crowd, of its class.
    """

    objects: Rows
    detections: Rows
    object_cuboids: Floats
    detection_cuboids: Floats
    pairs: Pairs
    on_unknown: Bools

    @property
    def counted(self) -> Bools:
        """[N] bool: objects with a cuboid that are neither crowds nor difficult."""
        unknown = np.asarray(np.isnan(self.object_cuboids).any(1))
        counted: Bools = ~(unknown | self.objects.crowd | self.objects.difficult)
        return counted


def cuboid_rows(
    targets: Sequence[Instances], predictions: Sequence[Instances], classes: Classes
) -> tuple[CuboidRows, list[Instances], list[str]]:
    """The rows of all images, the predictions with the ids of `classes`, and notes on ignored detections.

    Raises:
        InputError: there are objects without the field "cuboids", or a value is invalid.
        ClassMismatch: the classes differ.
    """
    objects = object_rows(targets, classes)
    detections, predictions, notes = detection_rows(predictions, classes)
    own, found = _cuboids(targets, "target"), _cuboids(predictions, "prediction")
    if np.isnan(found).any():
        row = int(np.isnan(found).any(1).argmax())
        raise InputError(
            f"prediction {detections.image[row]} has cuboid {found[row].round(2).tolist()}, but predictions must be "
            "finite; the model has diverged, or its decoding is wrong"
        )
    pairs = _pairs_of_a_class(detections, objects)
    iou = paired_cuboid_iou(torch.from_numpy(found[pairs.detection]), torch.from_numpy(own[pairs.target])).numpy()
    pairs = replace(pairs, iou=iou)[iou > 0]
    unknown = np.isnan(own).any(1) | objects.crowd
    on_unknown = np.zeros(len(detections), dtype=bool)
    if unknown.any():
        regions = replace(objects[unknown], crowd=np.ones(int(unknown.sum()), dtype=bool))
        on_unknown[overlapping_pairs(detections, regions, UNKNOWN_OVERLAP, same_class=True).detection] = True
    return CuboidRows(objects, detections, own, found, pairs, on_unknown), predictions, notes


def _cuboids(items: Sequence[Instances], what: str) -> Floats:
    for position, item in enumerate(items):
        if len(item) and "cuboids" not in item:
            raise InputError(
                f"{what} {position} ({item.source or 'without a name'}) has no cuboids, which are compared here; "
                'open the data with .with_fields("cuboids")'
            )
    parts = [item.cuboids.detach().double().cpu().numpy() for item in items if len(item)]
    return np.concatenate(parts) if parts else np.zeros((0, 9))


def _pairs_of_a_class(detections: Rows, objects: Rows) -> Pairs:
    """All pairs of a detection and an object of the same image and class; their IoU is not yet known."""
    everywhere = np.array([0.0, 0.0, 1.0, 1.0])
    a, b = (replace(rows, box=np.tile(everywhere, (len(rows), 1))) for rows in (detections, objects))
    return overlapping_pairs(a, b, 0.5, same_class=True, crowd_inside=False)


def best_of_each(rows: Rows, most: int) -> Bools:
    """[D] bool: whether each row is among the `most` of the highest score of its image and class."""
    order = np.lexsort((-rows.score, rows.label, rows.image))
    groups = np.stack([rows.image[order], rows.label[order]])
    first = np.ones(len(order), dtype=bool)
    first[1:] = (groups[:, 1:] != groups[:, :-1]).any(0)
    starts = np.flatnonzero(first)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept = np.zeros(len(order), dtype=bool)
    kept[order] = rank < most
    return kept


def wrapped(angles: Floats) -> Floats:
    """Angles in radians in [−π, π)."""
    turned: Floats = (angles + np.pi) % (2 * np.pi) - np.pi
    return turned


def yaw_of(cuboids: Floats) -> Floats:
    """[N] KITTI's rotation_y: the angle of the length of a cuboid [N, 9] with the x axis, seen from above."""
    roll, pitch, yaw = cuboids[:, 6:].T
    # the first column of the rotation, as `sightline.ops.rotations.rotation_from_angles` has it
    along_x = np.cos(yaw) * np.cos(roll) + np.sin(yaw) * np.sin(pitch) * np.sin(roll)
    along_z = np.cos(yaw) * np.sin(pitch) * np.sin(roll) - np.sin(yaw) * np.cos(roll)
    angle: Floats = np.arctan2(-along_z, along_x)
    return angle


def observation_angle(cuboids: Floats) -> Floats:
    """[N] KITTI's alpha: rotation_y minus the direction of the centre, in [−π, π)."""
    return wrapped(yaw_of(cuboids) - np.arctan2(cuboids[:, 0], cuboids[:, 2]))
