"""Evaluate cuboids by Omni3D's average precision, and by KITTI's if the labels have KITTI's attributes.

AP3D is COCO's average precision with another overlap: the mean over the IoU thresholds 0.05, 0.10 … 0.50 of the exact
3-D IoU, over 101 recalls and over the classes, with at most 100 detections per class and image; "near", "medium" and
"far" count the objects whose centre is at most 10 m, 10 to 35 m and more than 35 m away along the optical axis.

Source: Brazil et al., "Omni3D", CVPR 2023, section 3.2 and its published evaluation code (`omni3d_evaluation.py`:
matching, ranges of depth, 101 recalls, mean over thresholds and classes). Departures: an object without a cuboid, a
crowd, and a difficult object count neither as found nor as missed, and an unmatched detection of their class does not
count if at least half of its box lies in the box of an object without a cuboid; the published code decides that by the
visible fraction and the size of objects, which other data does not state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation import kitti
from sightline.evaluation._arrays import Bools, Floats, Ints, match_greedy
from sightline.evaluation._cuboid_rows import CuboidRows, best_of_each, cuboid_rows
from sightline.evaluation._table import aligned, number, short
from sightline.evaluation.averages import nanmean, nanmean_along, none_if_nan
from sightline.evaluation.collected import CollectedMeasure
from sightline.evaluation.errors import OperatingPoint, point_of
from sightline.evaluation.errors import in_words as point_in_words
from sightline.evaluation.intervals import percentiles, resampled_weights
from sightline.evaluation.pairing import require_images, require_pairs
from sightline.structures import Classes, Instances
from sightline.structures.tabular import html_of
from sightline.words import counted

THRESHOLDS: NDArray[np.float64] = np.linspace(0.05, 0.5, 10)
"""The IoU thresholds of AP3D."""
DISTANCES = {"near": (0.0, 10.0), "medium": (10.0, 35.0), "far": (35.0, 1e5)}
"""Ranges of depth in metres; both ends are included, as in the published code."""
SINGLE = {"AP3D15": 0.15, "AP3D25": 0.25, "AP3D50": 0.5}
"""Metrics at one IoU threshold."""
HEADLINE = ("AP3D", "AP3D25", "AP3D50")
"""The metrics recorded after each epoch; the first decides which epoch is best."""
PROTOCOL = "Omni3D AP3D"
MEANINGS = {
    "AP3D": "average precision, mean over 3-D IoU 0.05 to 0.50",
    "AP3D15": "average precision at 3-D IoU 0.15",
    "AP3D25": "average precision at 3-D IoU 0.25",
    "AP3D50": "average precision at 3-D IoU 0.50",
    "AP3D_near": "AP3D of objects at most 10 m away",
    "AP3D_medium": "AP3D of objects 10 to 35 m away",
    "AP3D_far": "AP3D of objects more than 35 m away",
    "depth_error": "median error of the depth of objects found at IoU 0.05, as a fraction of the depth",
    "size_error": "median error of their sides, as a fraction of the side",
    **kitti.MEANINGS,
}
LOWER_IS_BETTER = ("depth_error", "size_error")
_MOST = 100
"""Maximum number of detections per class and image."""
_DRAWS = 200
"""Bootstrap samples of an interval; each is an evaluation."""
_AT = 0.25
"""IoU at which an object counts as found in the report and for the operating point."""


@dataclass
class CuboidResult:
    """The result of evaluating cuboids. `print(result)` shows it as a table.

    Attributes:
        metrics: see `MEANINGS`; None if not available. KITTI's are there if the labels have its attributes.
        reasons: for each metric that is None, the reason; metrics of one class have the key "class/metric".
        per_class: by class name: "AP3D", "AP3D15", "AP3D25", "AP3D50", "objects", "detections".
        protocols: the protocol of each metric.
        classes: class names, in the order of their ids.
        images: number of images.
        rows: objects and detections with their overlaps.
        notes: remarks for the reader of the metrics, one sentence each.
        names: the name of each image.
        targets, predictions: what was compared, if kept; the predictions with the ids of `classes`.
        task: "cuboids".
        measured: "data" and "split" of the evaluation, if known.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    per_class: dict[str, dict[str, Any]]
    protocols: dict[str, str]
    classes: Classes
    images: int
    rows: CuboidRows = field(repr=False)
    notes: list[str] = field(default_factory=list)
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[Instances] | None = field(default=None, repr=False)
    predictions: Sequence[Instances] | None = field(default=None, repr=False)
    task: str = "cuboids"
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    _points: dict[float | None, OperatingPoint] = field(default_factory=dict, repr=False)

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of `HEADLINE`, and KITTI's moderate ones if they were computed."""
        return (*HEADLINE, *(name for name in kitti.HEADLINE if name in self.metrics))

    @property
    def operating_point(self) -> OperatingPoint:
        """Precision, recall and F1 at IoU 0.25 over all classes, at one score threshold.

        It is the threshold saved with the model (`measured["threshold"]`), which `predict` uses; without one, that of
        the highest F1 on these images.
        """
        return self._point(self.measured.get("threshold"))

    @property
    def threshold(self) -> float | None:
        """The score threshold of the highest F1 on these images at IoU 0.25; None if no detection is correct."""
        point = self._point(None)
        return None if point.f1 is None else float(point.score)

    def _point(self, at: float | None) -> OperatingPoint:
        if at not in self._points:
            self._points[at] = _operating_point(self.rows, at)
        return self._points[at]

    @property
    def outcome(self) -> tuple[Bools, Ints, Ints]:
        """At the operating point: shown [D] bool; object found by each detection [D], −1 none, −2 not counted;
        detection that found each object [N], −1 none."""
        shown = self.rows.detections.score >= self.operating_point.score
        matched, ignored, taker = _matched(self.rows, self.rows.counted, _AT, shown)
        return shown, np.where(ignored, -2, matched), taker

    @property
    def image_f1(self) -> Floats:
        """[images] F1 at the operating point; 1 for an image without objects and without detections."""
        shown, matched, taker = self.outcome
        objects, detections, size = self.rows.objects, self.rows.detections, self.images
        right = np.bincount(detections.image[matched >= 0], minlength=size)
        wrong = np.bincount(detections.image[shown & (matched == -1)], minlength=size)
        missed = np.bincount(objects.image[self.rows.counted & (taker < 0)], minlength=size)
        both = 2 * right + wrong + missed
        return np.where(both > 0, 2 * right / np.maximum(both, 1), 1.0)

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images, by ascending F1 at the operating point."""
        return np.argsort(self.image_f1, kind="stable").astype(np.int64)

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over images (200 samples) of AP3D, and AP3D at one threshold; empty without objects."""
        if self.metrics["AP3D"] is None:
            return {}
        weights = np.concatenate([*resampled_weights(self.images, _DRAWS)]).astype(np.float64)
        table = _average_precision(self.rows, len(self.classes), self.rows.counted, weights)  # [T, K, draws]
        samples = {"AP3D": nanmean_along(table.mean(0), 0)}
        samples |= {name: nanmean_along(table[_place(at)], 0) for name, at in SINGLE.items()}
        return percentiles(samples, level)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the operating point and the F1 of every image."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": PROTOCOL,
            "images": self.images,
            "objects": int(self.rows.counted.sum()),
            "detections": len(self.rows.detections),
            "classes": list(self.classes),
            "metrics": dict(self.metrics),
            "protocols": dict(self.protocols),
            "reasons": dict(self.reasons),
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["operating_point"] = self.operating_point.to_dict()
            values = [round(value, 6) for value in self.image_f1.tolist()]
            out["image_f1"] = dict(zip(self.names, values, strict=True)) if self.names else values
            out["recalls"] = {f"{at:.2f}": value for at, value in zip(THRESHOLDS, self._recalls(), strict=True)}
        return out

    def _recalls(self) -> list[float | None]:
        """The fraction of objects found at each IoU threshold, by any detection of their class."""
        counted_rows = self.rows.counted
        total = int(counted_rows.sum())
        everything = np.ones(len(self.rows.detections), dtype=bool)
        found = [(_matched(self.rows, counted_rows, at, everything)[2] >= 0).sum() for at in THRESHOLDS]
        return [round(float(own) / total, 6) if total else None for own in found]

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        objects = counted(int(self.rows.counted.sum()), "object")
        lines = [f"{counted(self.images)}, {objects}, {counted(len(self.rows.detections), 'detection')}"]
        protocol = ""
        cells = [
            ["  " + name, number(value), self.reasons.get(name) or MEANINGS[name]]
            for name, value in self.metrics.items()
        ]
        for name, line in zip(self.metrics, aligned(cells, [False, True, False]), strict=True):
            if self.protocols[name] != protocol:
                protocol = self.protocols[name]
                lines += ["", protocol]
            lines.append(line)
        ranked = sorted(self.per_class.items(), key=lambda row: -1.0 if row[1]["AP3D"] is None else -row[1]["AP3D"])
        columns = ("AP3D", *SINGLE)
        rows = [
            [name, str(row["objects"]), str(row["detections"]), *(number(row[column]) for column in columns)]
            for name, row in ranked
        ]
        heads = ["class", "objects", "detections", *columns]
        lines += ["", *aligned([heads, *rows], [False] + [True] * (len(heads) - 1))]
        words = in_words(self.operating_point.to_dict(), saved="threshold" in self.measured)
        lines += ["", words] if words else []
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines)


class CuboidMeasure(CollectedMeasure[CuboidResult]):
    """Collects the labels and the predicted cuboids of each image."""

    def compared(self, names: Sequence[str] | None) -> CuboidResult:
        return evaluate_cuboids(self.targets, self.predictions, self.classes, names)


def evaluate_cuboids(
    targets: Sequence[Instances],
    predictions: Sequence[Instances],
    classes: Classes | Sequence[str],
    names: Sequence[str] | None = None,
) -> CuboidResult:
    """Compare predicted cuboids with labels.

    Args:
        targets: one `Instances` per image: boxes, labels, cuboids [N, 9] in the camera frame (NaN where unknown),
            optionally crowd and difficult; with KITTI's "truncated" and "occluded", its metrics are computed, too.
        predictions: one `Instances` per image in the order of `targets`: boxes, labels, cuboids, scores (1 without).
            Predictions may have more classes than the labels, or the same in another order: they are matched by name.
        classes: names of the labels' classes.
        names: the name of each image, for reports; by default the targets' sources.

    Raises:
        InputError: the numbers of targets and predictions differ, there are none, or a value is invalid.
        ClassMismatch: the labels have classes that the predictions' model does not know.
    """
    classes = classes if isinstance(classes, Classes) else Classes(classes)
    require_pairs(targets, predictions)
    require_images(len(targets), names)
    rows, predictions, notes = cuboid_rows(targets, predictions, classes)
    table = _average_precision(rows, len(classes), rows.counted)[..., 0]
    metrics: dict[str, float | None] = {"AP3D": none_if_nan(nanmean(table.mean(0)))}
    metrics |= {name: none_if_nan(nanmean(table[_place(at)])) for name, at in SINGLE.items()}
    for name, (low, high) in DISTANCES.items():
        depth, far = rows.object_cuboids[:, 2], rows.detection_cuboids[:, 2]
        inside = rows.counted & (depth >= low) & (depth <= high)
        outside = (far < low) | (far > high)
        average = _average_precision(rows, len(classes), inside, outside=outside)[..., 0]
        metrics[f"AP3D_{name}"] = none_if_nan(nanmean(average.mean(0)))
    metrics |= _errors(rows)
    protocols = dict.fromkeys(metrics, PROTOCOL) | dict.fromkeys(LOWER_IS_BETTER, "errors")
    per_class = _per_class(table, rows, classes)
    if kitti.applies(targets):
        more, own = kitti.kitti_metrics(targets, predictions, classes, rows)
        metrics |= more
        protocols |= dict.fromkeys(more, kitti.PROTOCOL)
        for name, values in own.items():
            per_class[name] |= values
    unknown = int(np.isnan(rows.object_cuboids).any(1).sum())
    if unknown:
        notes.append(f"{counted(unknown, 'object')} without a cuboid count neither as found nor as missed")
    return CuboidResult(
        metrics=metrics,
        reasons=_reasons(metrics, per_class),
        per_class=per_class,
        protocols=protocols,
        classes=classes,
        images=len(targets),
        rows=rows,
        notes=notes,
        names=list(names) if names is not None else [t.source or f"image {i}" for i, t in enumerate(targets)],
        targets=targets,
        predictions=predictions,
    )


def in_words(point: Mapping[str, Any], saved: bool = False) -> str:
    """An operating point as a sentence, see `sightline.evaluation.errors.in_words`."""
    return point_in_words(point, saved, "cuboids", f"3-D IoU {_AT:.2f}")


def _place(threshold: float) -> int:
    return int(np.argmin(np.abs(THRESHOLDS - threshold)))


def _matched(rows: CuboidRows, counted_rows: Bools, iou: float, shown: Bools) -> tuple[Ints, Bools, Ints]:
    """COCO's matching at one threshold: counted objects first; an unmatched detection on another one is ignored.

    Returns:
        The object of each detection [D], −1 for none; whether it is ignored [D]; the detection of each object [N].
    """
    pairs = rows.pairs[(rows.pairs.iou >= iou - 1e-10) & shown[rows.pairs.detection]]
    inside = counted_rows[pairs.target]
    matched, taker = match_greedy(pairs[inside], rows.detections.score, len(rows.objects))
    ignored = rows.on_unknown.copy()
    ignored[pairs.detection[~inside]] = True
    return matched, ignored & (matched < 0), taker


def _average_precision(
    rows: CuboidRows,
    classes: int,
    counted_rows: Bools,
    weights: Floats | None = None,
    outside: Bools | None = None,
) -> Floats:
    """[thresholds, classes, draws] average precision with 101 recalls; NaN for a class without objects that count.

    Args:
        rows: objects and detections.
        classes: number of classes.
        counted_rows: [N] bool, the objects that count.
        weights: [draws, images] how often each image counts; one draw in which each counts once by default.
        outside: [D] bool, detections that do not count unless they are matched.
    """
    objects, detections = rows.objects, rows.detections
    images = 1 + int(max(objects.image.max(initial=0), detections.image.max(initial=0)))
    weights = np.ones((1, images)) if weights is None else weights
    best = best_of_each(detections, _MOST)
    by_score = np.argsort(-detections.score, kind="stable")
    table = np.full((len(THRESHOLDS), classes, len(weights)), np.nan)
    for t, iou in enumerate(THRESHOLDS):
        matched, ignored, _ = _matched(rows, counted_rows, float(iou), best)
        left_out = ignored if outside is None else ignored | (outside & (matched < 0))
        counts = best & ~left_out
        for k in range(classes):
            total = weights[:, objects.image[counted_rows & (objects.label == k)]].sum(1)
            order = by_score[counts[by_score] & (detections.label[by_score] == k)]
            of_image = weights[:, detections.image[order]]
            right = (of_image * (matched[order] >= 0)).cumsum(1)
            with np.errstate(invalid="ignore", divide="ignore"):
                recall, precision = right / total[:, None], right / of_image.cumsum(1)
            precision = np.maximum.accumulate(np.nan_to_num(precision)[:, ::-1], 1)[:, ::-1]
            table[t, k] = [
                _at_recalls(r, p) if n > 0 else np.nan for r, p, n in zip(recall, precision, total, strict=True)
            ]
    return table


_RECALLS = np.linspace(0, 1, 101)


def _at_recalls(recall: Floats, precision: Floats) -> float:
    """The mean over COCO's 101 recalls of the precision at that recall, which does not rise with it; 0 beyond."""
    place = np.searchsorted(recall, _RECALLS, "left")
    return float(np.append(precision, 0.0)[place].mean())


def _errors(rows: CuboidRows) -> dict[str, float | None]:
    """The median errors of the objects found at the lowest threshold."""
    everything = np.ones(len(rows.detections), dtype=bool)
    matched, _, _ = _matched(rows, rows.counted, float(THRESHOLDS[0]), everything)
    found, own = rows.detection_cuboids[matched >= 0], rows.object_cuboids[matched[matched >= 0]]
    if not len(found):
        return dict.fromkeys(LOWER_IS_BETTER)
    depth, sides = np.abs(found[:, 2] / own[:, 2] - 1), np.abs(found[:, 3:6] / own[:, 3:6] - 1)
    return {"depth_error": float(np.median(depth)), "size_error": float(np.median(sides))}


def _operating_point(rows: CuboidRows, at: float | None) -> OperatingPoint:
    """The metrics at IoU 0.25 and a score threshold; None for that of the highest F1."""
    everything = np.ones(len(rows.detections), dtype=bool)
    matched, ignored, _ = _matched(rows, rows.counted, _AT, everything)
    order = np.argsort(-rows.detections.score, kind="stable")
    order = order[~ignored[order]]
    score, right = rows.detections.score[order], np.cumsum(matched[order] >= 0, dtype=np.int64)
    return point_of(score, right, np.arange(1, len(order) + 1), int(rows.counted.sum()), at)


def _per_class(table: Floats, rows: CuboidRows, classes: Classes) -> dict[str, dict[str, Any]]:
    there = np.bincount(rows.objects.label[rows.counted], minlength=len(classes)).tolist()
    found = np.bincount(rows.detections.label, minlength=len(classes)).tolist()
    columns = {"AP3D": table.mean(0)} | {name: table[_place(at)] for name, at in SINGLE.items()}
    return {
        name: {key: none_if_nan(values[k]) for key, values in columns.items()}
        | {"objects": there[k], "detections": found[k]}
        for k, name in enumerate(classes)
    }


def _reasons(metrics: dict[str, float | None], per_class: dict[str, dict[str, Any]]) -> dict[str, str]:
    reasons = {}
    for name, value in metrics.items():
        if value is None:
            where = MEANINGS[name].removeprefix("AP3D of objects") if name.startswith("AP3D_") else ""
            found = (
                "no object was found" if name in LOWER_IS_BETTER else f"no object with a cuboid{where} in these labels"
            )
            reasons[name] = kitti.REASON if name in kitti.MEANINGS else found
    for own, row in per_class.items():
        for key, value in row.items():
            if value is None:
                reasons[f"{own}/{key}"] = f"no object of {own!r} with a cuboid counts in these labels"
    return reasons
