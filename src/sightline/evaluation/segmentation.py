"""Evaluate semantic segmentation: metrics of one accumulated confusion matrix, and the accuracy of boundaries.

Rows of the matrix are labels, columns predictions, entries numbers of pixels. Pixel accuracy, mean class accuracy, mean
IoU and frequency-weighted IoU are those of Long et al., "Fully Convolutional Networks for Semantic Segmentation" (CVPR
2015, section 5); Dice is 2·TP / (2·TP + FP + FN); boundary F is that of Csurka et al., "What is a good evaluation
measure for semantic segmentation?" (BMVC 2013). A metric that is not available is None, with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation._table import segmentation_table, short
from sightline.evaluation.averages import nanmean, nanmean_along, none_if_nan, ratio
from sightline.evaluation.boundaries import boundary_scores
from sightline.evaluation.intervals import Floats, paired_percentiles, percentiles, resampled_sums
from sightline.evaluation.packed_maps import PackedMaps
from sightline.evaluation.pairing import require_images, require_pairs
from sightline.structures import IGNORE, Classes, ClassMap
from sightline.structures.tabular import html_of

SEGMENTATION_METRICS = {
    "mIoU": "intersection over union, mean over the classes",
    "pixel_accuracy": "fraction of pixels that are correct",
    "class_accuracy": "fraction of a class's pixels that are correct, mean over the classes",
    "frequency_weighted_IoU": "intersection over union, mean over the classes weighted by their number of pixels",
    "Dice": "twice the intersection over the sum of both areas, mean over the classes",
    "boundary_F": "F1 of boundary pixels, matched within 0.75 % of the image's diagonal, mean over the images",
}
"""The metrics with their meanings."""
HEADLINE = ("mIoU", "pixel_accuracy", "boundary_F")
"""The metrics recorded after each epoch; the first decides which epoch is best."""
Counts = NDArray[np.int64]


@dataclass
class SegmentationResult:
    """The result of evaluating class maps. `print(result)` shows it as a table.

    Attributes:
        metrics: the metrics of `SEGMENTATION_METRICS`, in [0, 1]; None if not available.
        reasons: for each metric that is None, the reason; metrics of one class have the key "class/metric".
        per_class: by class name: "IoU", "Dice", "accuracy", "precision", "boundary_F", "pixels" (labelled),
            "predicted".
        confusion: int64 [K, K], pixels by label (rows) and prediction (columns), without ignored pixels.
        other: int64 [K], pixels by label whose predicted class is not a class of the labels. They count as wrong.
        classes: class names, in the order of their ids.
        image_pixels: int64 [images, 3, K], for each image the numbers of correct, labelled (without ignored) and
            predicted pixels of each class.
        image_boundary: mean boundary F of each image; empty if boundaries were not compared.
        image_iou: mean IoU of each image over the classes labelled or predicted in it; NaN if all pixels are ignored.
        notes: remarks for the reader of the metrics, one sentence each.
        names: the name of each image.
        targets, predictions: what was compared, if kept (compressed, and without probabilities).
        task: "segmentation".
        measured: "data" and "split" of the evaluation, if known.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    per_class: dict[str, dict[str, Any]]
    confusion: Counts = field(repr=False)
    other: Counts = field(repr=False)
    classes: Classes
    image_iou: NDArray[np.float64] = field(repr=False)
    image_pixels: Counts = field(repr=False)
    image_boundary: NDArray[np.float64] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[ClassMap] | None = field(default=None, repr=False)
    predictions: Sequence[ClassMap] | None = field(default=None, repr=False)
    task: str = "segmentation"
    measured: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of `HEADLINE`."""
        return HEADLINE

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.image_iou)

    @property
    def pixels(self) -> int:
        """Number of pixels that are not ignored."""
        return int(self.confusion.sum() + self.other.sum())

    @property
    def threshold(self) -> None:
        """None: predictions are not filtered by score."""
        return None

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images by ascending mean IoU; images whose pixels are all ignored come last."""
        return np.argsort(self.image_iou, kind="stable").astype(np.int64)  # NaN sorts last

    def confusions(self, most: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent confusions: (label, predicted class, pixels)."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return [(self.classes[a], self.classes[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over images (1000 samples) of every available metric."""
        return percentiles(self._samples(), level)

    def paired_intervals(self, other: SegmentationResult, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals of the metrics of this result minus those of another on the same images; see
        `sightline.evaluation.paired`."""
        return paired_percentiles(other._samples(), self._samples(), level)

    def _samples(self) -> dict[str, Floats]:
        """The available metrics of bootstrap samples, [draws] each; the same samples for as many images."""
        right, labelled, predicted = np.moveaxis(resampled_sums(self.image_pixels), 1, 0)  # [draws, K] each
        total = labelled.sum(1)
        columns = _ratios(right, labelled, predicted)
        iou = columns["IoU"]
        samples = {
            "mIoU": nanmean_along(iou, 1),
            "pixel_accuracy": ratio(right.sum(1), total),
            "class_accuracy": nanmean_along(columns["accuracy"], 1),
            "frequency_weighted_IoU": ratio((labelled * np.nan_to_num(iou)).sum(1), total),
            "Dice": nanmean_along(columns["Dice"], 1),
        }
        if len(self.image_boundary):
            there = ~np.isnan(self.image_boundary)
            sums = resampled_sums(np.stack([np.nan_to_num(self.image_boundary), there], 1))
            samples["boundary_F"] = ratio(sums[:, 0], sums[:, 1])
        return {name: samples[name] for name, value in self.metrics.items() if name in samples and value is not None}

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the confusion matrix and the metrics of each image."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "pixels of all images together",
            "images": self.images,
            "pixels": self.pixels,
            "classes": list(self.classes),
            "metrics": dict(self.metrics),
            "protocols": {"boundary_F": "each image by itself"},
            "reasons": dict(self.reasons),
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["confusion"] = self.confusion.tolist()
            out["other"] = self.other.tolist()
            out["confusions"] = self.confusions()
            numbers = [None if np.isnan(v) else round(v, 6) for v in self.image_iou.tolist()]
            out["image_IoU"] = dict(zip(self.names, numbers, strict=True)) if self.names else numbers
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        return segmentation_table(self.to_dict(details=False), SEGMENTATION_METRICS)


class PixelCounts:
    """Compares class maps image by image and accumulates one confusion matrix.

    Args:
        classes: names of the labels' classes.
        keep: keep the maps, compressed, in the result, for reports.
        boundaries: also compare boundaries.
    """

    def __init__(self, classes: Classes | Sequence[str], keep: bool = False, boundaries: bool = True):
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        if not len(self.classes):
            raise InputError("there are no classes to evaluate; give the names of the labels' classes")
        size = len(self.classes)
        self.boundaries = boundaries
        self.table: Counts = np.zeros((size, size + 1), np.int64)
        self.image_iou: list[float] = []
        self.image_pixels: list[Counts] = []
        self.sources: list[str | None] = []
        self.boundary_sums: NDArray[np.float64] = np.zeros(size)
        self.boundary_images: Counts = np.zeros(size, np.int64)
        self.image_boundary: list[float] = []
        self.left_out: dict[str, int] = {}
        self.targets: PackedMaps | None = PackedMaps() if keep else None
        self.predictions: PackedMaps | None = PackedMaps() if keep else None

    def add(self, target: ClassMap, prediction: ClassMap) -> None:
        """Add an image.

        Raises:
            InputError: the two maps differ in size, or a label is invalid.
            ClassMismatch: the labels have classes that the prediction's model does not know.
        """
        where = target.source or f"image {len(self.image_iou)}"
        if target.image_size != prediction.image_size:
            raise InputError(
                f"{where}: the prediction is a map of {list(prediction.image_size)} pixels, but the label map has "
                f"{list(target.image_size)}; predict at the size of the image"
            )
        size = len(self.classes)
        labels = target.labels.cpu().numpy()
        counted = labels != IGNORE
        found = self._as_own(prediction, counted)
        if counted.any() and not 0 <= int(labels[counted].min()) <= int(labels.max()) < size:
            raise InputError(
                f"{where}: the labels hold ids from {int(labels[counted].min())} to {int(labels.max())}, but there are "
                f"{size} classes; their ids are 0 to {size - 1}"
            )
        flat = labels[counted] * (size + 1) + found[counted]
        table: Counts = np.bincount(flat, minlength=size * (size + 1)).reshape(size, size + 1)
        self.table += table
        iou = _numbers(table)["IoU"]
        self.image_iou.append(nanmean(iou))
        self.image_pixels.append(np.stack([np.diagonal(table), table.sum(1), table[:, :-1].sum(0)]))
        self.sources.append(target.source)
        if self.boundaries:
            scores = boundary_scores(labels, np.where(counted, found, IGNORE), size)
            self.image_boundary.append(nanmean(scores))
            there = ~np.isnan(scores)
            self.boundary_sums[there] += scores[there]
            self.boundary_images += there
        if self.targets is not None and self.predictions is not None:
            self.targets.append(target)
            kept = torch.from_numpy(np.where(found == size, IGNORE, found))
            self.predictions.append(ClassMap(kept, self.classes, source=prediction.source))

    def _as_own(self, prediction: ClassMap, counted: NDArray[np.bool_]) -> Counts:
        """The predicted labels with the ids of the data's classes; K for others, which are recorded if they count."""
        size = len(self.classes)
        labels = prediction.labels.cpu().numpy()
        if prediction.classes is not None and prediction.classes != self.classes:
            if any(name not in prediction.classes for name in self.classes):
                self.classes.require_same(prediction.classes, "the data", "the predictions")
            own = {name: k for k, name in enumerate(self.classes)}
            places = np.array([own.get(name, size) for name in prediction.classes], np.int64)
            for name in (n for n in prediction.classes if n not in own):
                self.left_out.setdefault(name, 0)
                self.left_out[name] += int((counted & (labels == prediction.classes.id(name))).sum())
            labels = np.where(labels < 0, size, places[labels])
        return np.where((labels < 0) | (labels > size), size, labels)

    def join(self, other: PixelCounts) -> None:
        """Add the images of another measure after those of this one."""
        self.table += other.table
        self.boundary_sums += other.boundary_sums
        self.boundary_images += other.boundary_images
        for name in ("image_iou", "image_pixels", "sources", "image_boundary"):
            getattr(self, name).extend(getattr(other, name))
        for name, pixels in other.left_out.items():
            self.left_out[name] = self.left_out.get(name, 0) + pixels
        for own, further in ((self.targets, other.targets), (self.predictions, other.predictions)):
            if own is not None and further is not None:
                own.join(further)

    def result(self, names: Sequence[str] | None = None) -> SegmentationResult:
        """The result of all images added so far.

        Raises:
            InputError: there are no images, or the number of names differs from that of the images.
        """
        images = len(self.image_iou)
        require_images(images, names)
        table = self.table
        columns = _numbers(table)
        with np.errstate(invalid="ignore", divide="ignore"):
            columns["boundary_F"] = self.boundary_sums / np.where(self.boundary_images, self.boundary_images, np.nan)
        share = table.sum(1) / max(int(table.sum()), 1)
        there = table.sum() > 0
        iou = columns["IoU"]
        values = {
            "mIoU": nanmean(iou),
            "pixel_accuracy": float(np.trace(table) / table.sum()) if there else np.nan,
            "class_accuracy": nanmean(columns["accuracy"]),
            "frequency_weighted_IoU": float((share * np.nan_to_num(iou)).sum()) if there else np.nan,
            "Dice": nanmean(columns["Dice"]),
            "boundary_F": nanmean(np.array(self.image_boundary)) if self.boundaries else np.nan,
        }
        metrics = {name: none_if_nan(value) for name, value in values.items()}
        per_class: dict[str, dict[str, Any]] = {}
        for k, name in enumerate(self.classes):
            row = {key: none_if_nan(column[k]) for key, column in columns.items()}
            per_class[name] = row | {"pixels": int(table[k].sum()), "predicted": int(table[:, k].sum())}
        return SegmentationResult(
            metrics=metrics,
            reasons=self._reasons(metrics, per_class),
            per_class=per_class,
            confusion=table[:, :-1].copy(),
            other=table[:, -1].copy(),
            classes=self.classes,
            image_iou=np.array(self.image_iou),
            image_pixels=np.stack(self.image_pixels),
            image_boundary=np.array(self.image_boundary),
            notes=self._notes(),
            names=list(names) if names is not None else [s or f"image {i}" for i, s in enumerate(self.sources)],
            targets=self.targets,
            predictions=self.predictions,
        )

    def _reasons(self, metrics: dict[str, float | None], per_class: dict[str, dict[str, Any]]) -> dict[str, str]:
        reasons = {}
        for name, value in metrics.items():
            if value is None:
                reasons[name] = "all pixels of these labels are ignored"
                if name == "boundary_F":
                    reasons[name] = "no image has a boundary" if self.boundaries else "boundaries were not compared"
        for name, row in per_class.items():
            for metric, value in row.items():
                if value is not None:
                    continue
                if metric == "boundary_F":
                    why = f"{name!r} has no boundary in any image" if self.boundaries else "not compared"
                elif metric == "accuracy":
                    why = f"no pixel is labelled {name!r}"
                elif metric == "precision":
                    why = f"no pixel was predicted as {name!r}"
                else:
                    why = f"{name!r} is neither in these labels nor in the predictions"
                reasons[f"{name}/{metric}"] = why
        return reasons

    def _notes(self) -> list[str]:
        notes = []
        if any(self.left_out.values()):
            names = ", ".join(f"{count} {name!r}" for name, count in self.left_out.items() if count)
            notes.append(f"Pixels were predicted as classes that the data does not have ({names}): they count as wrong")
        uncounted = int(np.isnan(np.array(self.image_iou)).sum())
        if uncounted:
            notes.append(f"{uncounted} of {len(self.image_iou)} images have no labelled pixel")
        return notes


def evaluate_segmentation(
    targets: Sequence[ClassMap],
    predictions: Sequence[ClassMap],
    classes: Classes | Sequence[str],
    names: Sequence[str] | None = None,
    *,
    boundaries: bool = True,
) -> SegmentationResult:
    """Compare predicted class maps with labels; pixels labelled `IGNORE` are ignored.

    Args:
        targets: one `ClassMap` [H, W] per image.
        predictions: one `ClassMap` per image in the order of `targets`, of the same size. It may have more classes than
            the labels, or the same in another order: they are matched by name.
        classes: names of the labels' classes.
        names: the name of each image, for reports; by default the targets' sources.
        boundaries: also compare boundaries, which takes most of the time.

    Returns:
        The metrics, per class and in total, with everything needed for a report.

    Raises:
        InputError: the numbers of targets and predictions differ, there are none, or two maps differ in size.
        ClassMismatch: the labels have classes that the predictions' model does not know.
    """
    require_pairs(targets, predictions)
    counts = PixelCounts(classes, keep=True, boundaries=boundaries)
    for target, prediction in zip(targets, predictions, strict=True):
        counts.add(target, prediction)
    return counts.result(names)


def _numbers(table: Counts) -> dict[str, NDArray[np.float64]]:
    """The columns of the class table from counts [K, K + 1]; NaN for a division by zero."""
    return _ratios(np.diagonal(table).astype(np.float64), table.sum(1), table[:, : len(table)].sum(0))


def _ratios(right: NDArray[Any], labelled: NDArray[Any], predicted: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The same from numbers of correct, labelled and predicted pixels [..., K]."""
    return {
        "IoU": ratio(right, labelled + predicted - right),
        "Dice": ratio(2 * right, labelled + predicted),
        "accuracy": ratio(right, labelled),
        "precision": ratio(right, predicted),
    }
