"""Evaluate predicted meshes: Chamfer distance, normal consistency, F1 at distances, and average precision.

Gkioxari, Malik, Johnson, "Mesh R-CNN", ICCV 2019, section 4 ("Evaluation"), for each pair of meshes:

- both are scaled alike, so that the longest edge of the true mesh's bounding box has length 10;
- 10 000 points are sampled uniformly on each surface;
- the Chamfer distance is the mean squared distance to the nearest point of the other surface, of both directions added;
- normal consistency is the mean of |u · v| of the unit normals of these pairs, the mean of both directions;
- F1@τ is the harmonic mean of precision, the fraction of predicted points within τ of a true point, and recall, the
  fraction of true points within τ of a predicted one, for τ of 0.1, 0.3 and 0.5.

One image shows a scene only up to its scale. As in the paper, the true depth of the object's centre is therefore given:
a predicted mesh is scaled about the camera so that the depth of its centre is that of the true one.

AP_mesh is the mean over the classes of the area under the curve of precision over recall, where a detection is correct
if its class is right, F1@0.3 is above 0.5, and no detection of higher score has the same object. The curve's area is
that of VOC 2010. In the paper, every image shows one object. Where there are more, a detection is compared with those
that its box overlaps with an IoU of at least 0.5 and that no detection of higher score has.

The metrics of shapes are means over all labelled objects: of each, the detection of the highest score whose box
overlaps it with an IoU of at least 0.5 counts, whatever its class. F1 of an object without such a detection is 0;
Chamfer distance and normal consistency are means over the objects with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation._arrays import Rows, detection_rows, object_rows
from sightline.evaluation.errors import operating_point
from sightline.evaluation.intervals import percentiles, resampled_sums
from sightline.evaluation.pairing import require_images
from sightline.evaluation.result import PlainResult
from sightline.evaluation.voc import voc_average_precision
from sightline.ops.boxes import box_iou
from sightline.ops.meshes.distances import nearest
from sightline.ops.meshes.surface import sample_surface
from sightline.structures import Classes, Instances
from sightline.structures.meshes import Mesh, Meshes

DISTANCES = (0.1, 0.3, 0.5)
"""Distances τ of F1, where the longest edge of the true mesh's bounding box is 10."""
HEADLINE = ("F1@0.3", "AP_mesh", "normal_consistency")
"""The metrics recorded after each epoch; the first decides which epoch is best."""
PROTOCOL = "Mesh R-CNN on Pix3D"
MEANINGS = {
    "F1@0.3": "mean F1 of surface points within 0.3, where the longest edge of the true mesh's box is 10",
    "F1@0.1": "the same within 0.1",
    "F1@0.5": "the same within 0.5",
    "AP_mesh": "average precision of detections with the right class and F1@0.3 above 0.5",
    "chamfer": "mean squared distance of surface points, both directions added; of the objects that were found",
    "normal_consistency": "mean of |cos| between the normals of nearest points; of the objects that were found",
    "found": "fraction of the objects that a box overlaps with an IoU of at least 0.5",
    "box_AP50": "average precision of boxes at IoU 0.50, VOC 2010",
    "depth_error": "mean error of the predicted depth of the centre, relative to the true depth",
}
POINTS = 10_000
_LONGEST = 10.0
_CORRECT = 0.5
"""F1@0.3 above which a mesh is correct."""
_NEAR = 0.5
"""IoU of boxes from which the shape of a detection is compared with that of an object."""


@dataclass(frozen=True)
class MeshScores:
    """Two meshes compared.

    Attributes:
        chamfer: squared distance, where the longest edge of the true mesh's bounding box is 10.
        normal_consistency: in [0, 1].
        f1: F1 at each of `DISTANCES`.
    """

    chamfer: float
    normal_consistency: float
    f1: tuple[float, ...]


@torch.no_grad()
def compare_meshes(found: Mesh, true: Mesh, points: int = POINTS) -> MeshScores:
    """Compare a predicted mesh with the true one, both in the same frame.

    The points are the same at every call; a mesh compared with itself scores 1.

    Raises:
        InputError: a mesh has no surface.
    """
    low, high = true.bounds
    scale = _LONGEST / float((high - low).max().clamp(min=1e-12))
    sets = []
    for mesh in (found, true):
        packed = Meshes.pack([mesh.with_vertices((mesh.vertices.cpu().float() - low.cpu().float()) * scale)])
        sets.append(sample_surface(packed, points, torch.Generator().manual_seed(0)))
    p, q = (own.points[0] for own in sets)
    of_p, of_q = nearest(p, q), nearest(q, p)
    to_true, to_found = (p - q[of_p]).norm(dim=1), (q - p[of_q]).norm(dim=1)
    u, v = (own.normals[0] for own in sets)
    consistency = ((u * v[of_p]).sum(1).abs().mean() + (v * u[of_q]).sum(1).abs().mean()) / 2
    f1 = []
    for distance in DISTANCES:
        precision, recall = ((d <= distance).double().mean().item() for d in (to_true, to_found))
        f1.append(2 * precision * recall / max(precision + recall, 1e-12))
    chamfer = to_true.square().mean() + to_found.square().mean()
    return MeshScores(chamfer.item(), consistency.item(), tuple(f1))


def at_true_depth(found: Mesh, true: Mesh, depth: float | None = None) -> Mesh:
    """A predicted mesh, scaled about the camera so that its centre is at the true depth.

    Args:
        found: the predicted mesh, in front of the camera.
        true: the true one; the depth of its centre is the middle of its range of depths.
        depth: depth of the predicted centre; None for the middle of the predicted mesh's range.
    """
    low, high = (float(end[2]) for end in true.bounds)
    if depth is None:
        near, far = (float(end[2]) for end in found.bounds)
        depth = (near + far) / 2
    return found.with_vertices(found.vertices * ((low + high) / 2 / max(depth, 1e-9)))


@dataclass(repr=False)
class MeshResult(PlainResult):
    """The metrics of `MEANINGS`, over all objects and by class.

    Attributes:
        object_f1: [objects] F1@0.3 of each labelled object.
        image_of: [objects] the image of each.
        objects, detections: their numbers.
    """

    object_f1: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    image_of: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    objects: int = 0
    detections: int = 0

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """The bootstrap interval over images of F1@0.3."""
        if not self.objects:
            return {}
        sums = np.bincount(self.image_of, self.object_f1, self.images)
        drawn = resampled_sums(np.stack([sums, np.bincount(self.image_of, minlength=self.images)], 1))
        with np.errstate(invalid="ignore"):
            return percentiles({"F1@0.3": drawn[:, 0] / drawn[:, 1]}, level)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the F1@0.3 of each object."""
        out = super().to_dict(details)
        out |= {"objects": self.objects, "detections": self.detections, "protocol": PROTOCOL}
        return out | ({"object_f1": self.object_f1.round(4).tolist()} if details else {})


class MeshMeasure:
    """Compares the meshes of each image as it is added; only the numbers are kept, unless `keep`.

    Args:
        classes: names of the labels' classes.
        keep: keep targets and predictions in the result, for reports.
        points: number of points on each surface.
    """

    def __init__(self, classes: Classes, keep: bool = False, points: int = POINTS):
        self.classes, self.keep, self.points = classes, keep, points
        self._targets: list[Instances] = []
        self._predictions: list[Instances] = []
        self._rows: list[tuple[Rows, Rows]] = []
        self._scores: list[MeshScores | None] = []  # of each object
        self._depth_errors: list[float] = []
        self._correct: list[tuple[int, float, bool]] = []  # class, score and whether it is right, of each detection

    def add(self, target: Instances, prediction: Instances) -> None:
        """Add the labels and detections of an image, both with the field "meshes".

        Raises:
            InputError: a field is missing, or a mesh is not valid.
        """
        for what, own in (("target", target), ("prediction", prediction)):
            if "meshes" not in own and len(own):
                raise InputError(f"{own.source or f'a {what}'} has no meshes to evaluate; give the field meshes")
        objects = object_rows([target], self.classes)
        detections, (known,), _ = detection_rows([prediction], self.classes)
        self._rows.append((objects, detections))
        true = [Mesh.of(mesh) for mesh in target.meshes] if len(target) else []
        overlap = box_iou(known.boxes.float(), target.boxes.float()) if len(known) and len(target) else None
        compared: dict[tuple[int, int], MeshScores] = {}

        def scores(d: int, t: int) -> MeshScores:
            if (d, t) not in compared:
                depth = float(known.depths[d]) if "depths" in known else None
                compared[d, t] = compare_meshes(
                    at_true_depth(Mesh.of(known.meshes[d]), true[t], depth), true[t], self.points
                )
            return compared[d, t]

        order = np.argsort(-detections.score, kind="stable").tolist()
        taken: set[int] = set()
        for d in order:
            near = [] if overlap is None else (overlap[d] >= _NEAR).nonzero().flatten().tolist()
            near = [t for t in near if objects.label[t] == detections.label[d] and t not in taken]
            best = max(near, key=lambda t: scores(d, t).f1[1], default=None)
            right = best is not None and scores(d, best).f1[1] > _CORRECT
            if right and best is not None:
                taken.add(best)
            self._correct.append((int(detections.label[d]), float(detections.score[d]), right))
        for t, mesh in enumerate(true):
            d = next((d for d in order if overlap is not None and overlap[d, t] >= _NEAR), None)
            self._scores.append(None if d is None else scores(d, t))
            if d is not None and "depths" in known:
                depth = float(sum(end[2] for end in mesh.bounds)) / 2
                self._depth_errors.append(abs(float(known.depths[d]) - depth) / depth)
        if self.keep:
            self._targets.append(target)
            self._predictions.append(known)

    def join(self, other: MeshMeasure) -> None:
        """Add the images of another measure after those of this one."""
        for name in ("_targets", "_predictions", "_rows", "_scores", "_depth_errors", "_correct"):
            getattr(self, name).extend(getattr(other, name))

    def result(self, names: Sequence[str] | None = None) -> MeshResult:
        """The metrics over all images added so far.

        Raises:
            InputError: there are none.
        """
        require_images(len(self._rows))
        objects, detections = (_joined([pair[k] for pair in self._rows]) for k in (0, 1))
        f1 = np.array([(0.0,) * len(DISTANCES) if s is None else s.f1 for s in self._scores]).reshape(
            -1, len(DISTANCES)
        )
        label, correct = objects.label, np.array(self._correct, np.float64).reshape(-1, 3)
        totals = np.bincount(label, minlength=len(self.classes))
        boxes = voc_average_precision(objects, detections, len(self.classes))[1]
        precisions = [
            _area(correct[correct[:, 0] == k], int(totals[k])) if totals[k] else None for k in range(len(self.classes))
        ]
        per_class = {
            name: self._shapes(f1, label == k)
            | {"AP_mesh": precisions[k], "box_AP50": None if np.isnan(boxes[k]) else float(boxes[k])}
            | {"objects": int(totals[k]), "detections": int((correct[:, 0] == k).sum())}
            for k, name in enumerate(self.classes)
        }
        everything = self._shapes(f1, np.ones(len(f1), bool))
        metrics = everything | {
            "AP_mesh": _mean([p for p in precisions if p is not None]),
            "box_AP50": _mean([float(b) for b in boxes if not np.isnan(b)]),
            "depth_error": _mean(self._depth_errors),
        }
        metrics = {name: metrics[name] for name in MEANINGS}
        reasons = {name: "there are no objects in these labels" for name, value in metrics.items() if value is None}
        if len(objects):
            reasons = dict.fromkeys(reasons, "no object was found")
        for name, row in per_class.items():
            why = f"no object of {name!r} was found" if row["objects"] else f"no object of {name!r} in these labels"
            reasons |= {f"{name}/{key}": why for key, value in row.items() if value is None}
        images = len(self._rows)
        errors = np.full(images, np.nan)
        counts = np.bincount(objects.image, minlength=images)
        there = counts > 0
        errors[there] = 1 - np.bincount(objects.image, f1[:, 1], images)[there] / counts[there]
        threshold = operating_point(objects, detections)
        return MeshResult(
            "meshes",
            metrics,
            errors,
            headline=HEADLINE,
            reasons=reasons,
            per_class=per_class,
            names=names,
            targets=self._targets if self.keep else None,
            predictions=self._predictions if self.keep else None,
            threshold=None if threshold.f1 is None else float(threshold.score),
            notes=["predicted meshes are scaled to the true depth of their centre, as in the paper"],
            object_f1=f1[:, 1],
            image_of=objects.image,
            objects=len(objects),
            detections=len(detections),
        )

    def _shapes(self, f1: NDArray[np.float64], chosen: NDArray[np.bool_]) -> dict[str, float | None]:
        """The metrics of the shapes of the chosen objects."""
        rows = np.flatnonzero(chosen)
        found = [s for row in rows if (s := self._scores[row]) is not None]
        values = {f"F1@{d:g}": _mean(f1[rows, k].tolist()) for k, d in enumerate(DISTANCES)}
        return values | {
            "chamfer": _mean([s.chamfer for s in found]),
            "normal_consistency": _mean([s.normal_consistency for s in found]),
            "found": len(found) / len(rows) if len(rows) else None,
        }


def _joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all images, numbered."""
    image = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    names = [name for name in Rows.__dataclass_fields__ if name != "image"]
    return Rows(image, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _area(rows: NDArray[np.float64], total: int) -> float:
    """The area under the curve of precision over recall, of rows (class, score, correct) of one class."""
    correct = rows[np.argsort(-rows[:, 1], kind="stable"), 2]
    true = np.cumsum(correct)
    precision = true / np.arange(1, len(correct) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(true / total, prepend=0.0) * envelope).sum())


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
