"""Evaluate image classification: accuracy, metrics of each class, confusion, and calibration.

Top-1 and top-5 accuracy are those of Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge" (IJCV
2015). The expected calibration error (ECE) is that of Guo et al., "On Calibration of Modern Neural Networks" (ICML
2017, section 2), with 15 bins of equal width; the Brier score is that of Brier, "Verification of forecasts expressed in
terms of probability" (1950), the sum over the classes. A metric that is not available is None, with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation._table import classification_table, short
from sightline.evaluation.averages import nanmean, none_if_nan, ratio
from sightline.evaluation.intervals import paired_percentiles, percentiles, require_level, resampled_weights, wilson
from sightline.evaluation.pairing import require_images, require_pairs
from sightline.structures import Classes, ClassScores
from sightline.structures.tabular import html_of
from sightline.words import counted

CLASSIFICATION_METRICS = {
    "top1": "fraction of images whose best class is correct",
    "top5": "fraction of images whose class is among the five best",
    "balanced_accuracy": "fraction of a class's images that are correct (recall), mean over the classes",
    "macro_F1": "harmonic mean of precision and recall, mean over the classes",
    "ECE": "difference between confidence and accuracy, mean over 15 bins of confidence; 0 is best",
    "Brier": "squared error of the probabilities, mean over the images; 0 is best, 2 is worst",
    "NLL": "negative logarithm of the correct class's probability, mean over the images; 0 is best",
}
"""The metrics with their meanings."""
HEADLINE = ("top1", "top5", "balanced_accuracy", "macro_F1")
"""The metrics recorded after each epoch, if available; the first decides which epoch is best."""
BINS = 15
"""Number of confidence bins of the expected calibration error."""
PROTOCOLS = {
    "balanced_accuracy": "classes with images",
    "macro_F1": "classes with images or predictions",
    "ECE": f"{BINS} bins of equal width",
    "Brier": "sum over the classes",
    "NLL": "natural logarithm",
}
"""The protocols of those metrics that need one."""
_CALIBRATION = ("ECE", "Brier", "NLL")
_LARGE = 100
"""Maximum number of classes whose confusion matrix is written to JSON."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass
class ClassificationResult:
    """The result of evaluating image classification. `print(result)` shows it as a table.

    Attributes:
        metrics: the metrics of `CLASSIFICATION_METRICS`; None if not available.
        reasons: for each metric that is None, the reason; metrics of one class have the key "class/metric".
        per_class: by class name: "precision", "recall", "F1", "support" (images of the class), "predicted".
        confusion: int64 [K, K], images by label (rows) and predicted class (columns).
        other: int64 [K], images by label whose predicted class is not a class of the labels. They count as wrong.
        classes: class names, in the order of their ids.
        label, predicted: int64 [images], the labelled and the predicted class; K for a class that the labels lack.
        predicted_names: the name of each image's predicted class, including classes that the labels lack.
        rank: int64 [images], number of classes with a better score than the correct one; of equal scores the class with
            the lower id is better.
        confidence: float64 [images], score of the predicted class; 1 if predictions have no scores.
        squared, log_loss: float64 [images], the contribution of each image to "Brier" and "NLL"; NaN if not available.
        notes: remarks for the reader of the metrics, one sentence each.
        names: the name of each image.
        targets, predictions: what was compared, if kept.
        task: "classification".
        measured: "data" and "split" of the evaluation, if known.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    per_class: dict[str, dict[str, Any]]
    confusion: Counts = field(repr=False)
    other: Counts = field(repr=False)
    classes: Classes
    label: Counts = field(repr=False)
    predicted: Counts = field(repr=False)
    predicted_names: list[str] = field(repr=False)
    rank: Counts = field(repr=False)
    confidence: Floats = field(repr=False)
    squared: Floats = field(repr=False)
    log_loss: Floats = field(repr=False)
    notes: list[str] = field(default_factory=list)
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[ClassScores] | None = field(default=None, repr=False)
    predictions: Sequence[ClassScores] | None = field(default=None, repr=False)
    task: str = "classification"
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    _intervals: dict[float, dict[str, tuple[float, float]]] = field(default_factory=dict, repr=False)

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of `HEADLINE` that are available."""
        return tuple(name for name in HEADLINE if self.metrics[name] is not None)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.label)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """bool [images]: whether the predicted class is the labelled one."""
        return self.predicted == self.label

    @property
    def threshold(self) -> None:
        """None: predictions are not filtered by score."""
        return None

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images: wrong predictions first, by descending confidence; then correct ones, by ascending
        confidence."""
        return np.argsort(np.where(self.correct, self.confidence, -self.confidence), kind="stable").astype(np.int64)

    def confusions(self, most: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent confusions: (label, predicted class, images)."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return [(self.classes[a], self.classes[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]

    def calibration(self) -> list[dict[str, Any]]:
        """The reliability diagram: for each bin of confidence "from", "to", "images", and the mean "confidence" and
        "accuracy" of its images (None without images). Empty if the predictions have no probabilities."""
        if self.metrics["ECE"] is None:
            return []
        places = _bin(self.confidence)
        count = np.bincount(places, minlength=BINS)
        sums = (np.bincount(places, weights=values, minlength=BINS) for values in (self.confidence, self.correct))
        confidence, accuracy = (total / np.maximum(count, 1) for total in sums)
        return [
            {
                "from": round(b / BINS, 6),
                "to": round((b + 1) / BINS, 6),
                "images": int(count[b]),
                "confidence": float(confidence[b]) if count[b] else None,
                "accuracy": float(accuracy[b]) if count[b] else None,
            }
            for b in range(BINS)
        ]

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Wilson intervals of "top1" and "top5"; bootstrap intervals over images (1000 samples) of the others.

        The interval of "ECE" is shifted upwards, and may lie above the value itself on small datasets: resampling adds
        noise to the accuracy of each bin, and ECE sums absolute differences.
        """
        if require_level(level) not in self._intervals:
            found = {}
            for name, most in (("top1", 1), ("top5", 5)):
                interval = wilson(int((self.rank < most).sum()), self.images, level)
                if self.metrics[name] is not None and interval is not None:
                    found[name] = interval
            own = {name: values for name, values in self._samples().items() if not name.startswith("top")}
            self._intervals[level] = found | percentiles(own, level)
        return dict(self._intervals[level])

    def paired_intervals(self, other: ClassificationResult, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals of the metrics of this result minus those of another on the same images; see
        `sightline.evaluation.paired`."""
        return paired_percentiles(other._samples(), self._samples(), level)

    def _samples(self) -> dict[str, Floats]:
        """The available metrics of bootstrap samples, [draws] each; the same samples for as many images."""
        size, right = len(self.classes), self.correct.astype(np.float64)
        places = _bin(self.confidence)
        rows: dict[str, list[float]] = {name: [] for name in self.metrics}
        for piece in resampled_weights(self.images):
            for weights in piece.astype(np.float64):
                rows["top1"].append(float(weights @ (self.rank < 1) / self.images))
                rows["top5"].append(float(weights @ (self.rank < 5) / self.images))
                hits = np.bincount(self.label, weights=weights * right, minlength=size)
                support = np.bincount(self.label, weights=weights, minlength=size)
                n_predicted = np.bincount(self.predicted, weights=weights, minlength=size + 1)[:size]
                rows["balanced_accuracy"].append(nanmean(ratio(hits, support)))
                rows["macro_F1"].append(nanmean(ratio(2 * hits, support + n_predicted)))
                gaps = np.bincount(places, weights=weights * (right - self.confidence), minlength=BINS)
                rows["ECE"].append(float(np.abs(gaps).sum() / self.images))
                rows["Brier"].append(float(weights @ self.squared / self.images))
                rows["NLL"].append(float(weights @ self.log_loss / self.images))
        return {name: np.array(values) for name, values in rows.items() if self.metrics[name] is not None}

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the confusion matrix, the calibration and all predictions."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "one class per image",
            "images": self.images,
            "classes": list(self.classes),
            "metrics": dict(self.metrics),
            "protocols": dict(PROTOCOLS),
            "reasons": dict(self.reasons),
            "intervals": {name: list(interval) for name, interval in self.intervals().items()},
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            out["confusion"] = self.confusion.tolist() if len(self.classes) <= _LARGE else None
            out["other"] = self.other.tolist()
            out["confusions"] = self.confusions()
            out["calibration"] = self.calibration()
            out["predictions"] = [
                {"image": image, "label": self.classes[label], "predicted": name, "score": round(score, 6)}
                for image, label, name, score in zip(
                    self.names or [f"image {i}" for i in range(self.images)],
                    self.label.tolist(),
                    self.predicted_names,
                    self.confidence.tolist(),
                    strict=True,
                )
            ]
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        return classification_table(self.to_dict(details=False), CLASSIFICATION_METRICS)


class ClassificationMeasure:
    """Compares labels and predictions image by image, keeping only a few numbers per image.

    Args:
        classes: names of the labels' classes.
        keep: keep targets and predictions in the result, for reports.
    """

    def __init__(self, classes: Classes | Sequence[str], keep: bool = False):
        self.classes = classes if isinstance(classes, Classes) else Classes(classes)
        if not len(self.classes):
            raise InputError("there are no classes to evaluate; give the names of the labels' classes")
        self.rows: list[tuple[int, int, int, float, float, float]] = []
        self.sources: list[str | None] = []
        self.predicted_names: list[str] = []
        self.scored = self.probable = True
        self.competing: int | None = None
        self.left_out: dict[str, int] = {}
        self._known: dict[Classes | None, Counts] = {}
        self.targets: list[ClassScores] | None = [] if keep else None
        self.predictions: list[ClassScores] | None = [] if keep else None

    def add(self, target: ClassScores, prediction: ClassScores) -> None:
        """Add an image.

        Args:
            target: a target with a label, which is an id of the measure's classes.
            prediction: a prediction with scores, or with a label only. It may have more classes than the labels, or the
                same in another order: they are matched by name.

        Raises:
            InputError: a label is missing or is not the id of a class, or a score is not finite.
            ClassMismatch: the labels have classes that the prediction's model does not know.
        """
        where = target.source or f"image {len(self.rows)}"
        if target.label is None or target.label not in range(len(self.classes)):
            raise InputError(
                f"{where}: the label is {target.label}, but must be the id of a class, from 0 to "
                f"{len(self.classes) - 1}; label each image with one class"
            )
        if prediction.classes not in self._known:
            self._known[prediction.classes] = self._places(prediction.classes)
        places = self._known[prediction.classes]
        own = int(np.flatnonzero(places == target.label)[0])  # the correct class among the prediction's ids
        squared = log_loss = np.nan
        if prediction.scores is None:
            if prediction.label is None or prediction.label not in range(len(places)):
                raise InputError(
                    f"{where}: the prediction's label is {prediction.label}, but must be the id of a class, from 0 to "
                    f"{len(places) - 1}"
                )
            self.scored = False
            best, confidence = prediction.label, 1.0
            rank = int(best != own)
        else:
            scores = prediction.scores.detach().cpu().double().numpy()
            if scores.shape != places.shape or not np.isfinite(scores).all():
                what = f"of shape {list(scores.shape)}" if scores.shape != places.shape else "not all finite"
                raise InputError(
                    f"{where}: the prediction's scores are {what}; there must be one finite score per class"
                )
            best = int(scores.argmax())
            confidence = float(scores[best])
            rank = int((scores > scores[own]).sum() + (scores[:own] == scores[own]).sum())
            if scores.min() < 0 or abs(scores.sum() - 1) > 1e-3:
                self.probable = False
            squared = float((scores**2).sum() - 2 * scores[own] + 1)
            log_loss = float(-np.log(max(scores[own], np.finfo(np.float64).eps)))
        name = (prediction.classes or self.classes)[best]
        if places[best] == len(self.classes):
            self.left_out[name] = self.left_out.get(name, 0) + 1
        self.predicted_names.append(name)
        self.competing = min(len(places), self.competing or len(places))
        self.rows.append((target.label, int(places[best]), rank, confidence, squared, log_loss))
        self.sources.append(target.source)
        if self.targets is not None and self.predictions is not None:
            self.targets.append(target)
            self.predictions.append(prediction)

    def join(self, other: ClassificationMeasure) -> None:
        """Add the images of another measure after those of this one."""
        for name in ("rows", "sources", "predicted_names"):
            getattr(self, name).extend(getattr(other, name))
        self.scored, self.probable = self.scored and other.scored, self.probable and other.probable
        self.competing = min((n for n in (self.competing, other.competing) if n is not None), default=None)
        for name, images in other.left_out.items():
            self.left_out[name] = self.left_out.get(name, 0) + images
        if self.targets is not None and self.predictions is not None:
            self.targets += other.targets or []
            self.predictions += other.predictions or []

    def _places(self, known: Classes | None) -> Counts:
        """For each class of the prediction, the id of the labels' class of the same name; K if there is none."""
        size = len(self.classes)
        if known is None or known == self.classes:
            return np.arange(size, dtype=np.int64)
        if any(name not in known for name in self.classes):
            self.classes.require_same(known, "the data", "the predictions")
        own = {name: k for k, name in enumerate(self.classes)}
        return np.array([own.get(name, size) for name in known], np.int64)

    def result(self, names: Sequence[str] | None = None) -> ClassificationResult:
        """The result of all images added so far.

        Raises:
            InputError: there are no images, or the number of names differs from that of the images.
        """
        images, size = len(self.rows), len(self.classes)
        require_images(images, names)
        integers = np.array([row[:3] for row in self.rows], np.int64)
        confidence, squared, log_loss = np.array([row[3:] for row in self.rows], np.float64).T
        label, predicted, rank = integers.T
        table: Counts = np.bincount(label * (size + 1) + predicted, minlength=size * (size + 1)).reshape(size, -1)
        hits, support, n_predicted = np.diagonal(table), table.sum(1), table[:, :-1].sum(0)
        columns = {
            "precision": ratio(hits, n_predicted),
            "recall": ratio(hits, support),
            "F1": ratio(2 * hits, support + n_predicted),
        }
        per_class: dict[str, dict[str, Any]] = {}
        for k, name in enumerate(self.classes):
            row = {key: none_if_nan(column[k]) for key, column in columns.items()}
            per_class[name] = row | {"support": int(support[k]), "predicted": int(n_predicted[k])}
        gaps = np.bincount(_bin(confidence), weights=(predicted == label) - confidence, minlength=BINS)
        metrics: dict[str, float | None] = {
            "top1": float((rank < 1).mean()),
            "top5": float((rank < 5).mean()),
            "balanced_accuracy": nanmean(columns["recall"]),
            "macro_F1": nanmean(columns["F1"]),
            "ECE": float(np.abs(gaps).sum() / images),
            "Brier": float(squared.mean()),
            "NLL": float(log_loss.mean()),
        }
        reasons = self._reasons(per_class)
        return ClassificationResult(
            metrics={name: None if name in reasons else value for name, value in metrics.items()},
            reasons=reasons,
            per_class=per_class,
            confusion=table[:, :-1].copy(),
            other=table[:, -1].copy(),
            classes=self.classes,
            label=label.copy(),
            predicted=predicted.copy(),
            predicted_names=list(self.predicted_names),
            rank=rank.copy(),
            confidence=confidence,
            squared=squared,
            log_loss=log_loss,
            notes=self._notes(),
            names=list(names) if names is not None else [s or f"image {i}" for i, s in enumerate(self.sources)],
            targets=self.targets,
            predictions=self.predictions,
        )

    def _reasons(self, per_class: dict[str, dict[str, Any]]) -> dict[str, str]:
        reasons = {}
        if not self.scored:
            reasons = dict.fromkeys(("top5", *_CALIBRATION), "the predictions have no scores")
        elif not self.probable:
            why = "the scores are not probabilities: they are negative, or do not sum to 1"
            reasons = dict.fromkeys(_CALIBRATION, why)
        if self.scored and (self.competing or 0) <= 5:
            reasons["top5"] = f"the model knows only {counted(self.competing or 0, 'class')}"
        for name, row in per_class.items():
            if row["precision"] is None:
                reasons[f"{name}/precision"] = f"no image was predicted as {name!r}"
            if row["recall"] is None:
                reasons[f"{name}/recall"] = f"no image is labelled {name!r}"
            if row["F1"] is None:
                reasons[f"{name}/F1"] = f"{name!r} is neither in these labels nor in the predictions"
        return reasons

    def _notes(self) -> list[str]:
        if not self.left_out:
            return []
        names = ", ".join(f"{count} {name!r}" for name, count in self.left_out.items())
        return [f"Images were predicted as classes that the data does not have ({names}): they count as wrong"]


def evaluate_classification(
    targets: Sequence[ClassScores],
    predictions: Sequence[ClassScores],
    classes: Classes | Sequence[str],
    names: Sequence[str] | None = None,
) -> ClassificationResult:
    """Compare predicted image classes with labels.

    Args:
        targets: one `ClassScores` with a label per image.
        predictions: one `ClassScores` per image in the order of `targets`, with scores or with a label only; see
            `ClassificationMeasure.add`.
        classes: names of the labels' classes.
        names: the name of each image, for reports; by default the targets' sources.

    Returns:
        The metrics, per class and in total, with everything needed for a report.

    Raises:
        InputError: the numbers of targets and predictions differ, there are none, or a label is invalid.
        ClassMismatch: the labels have classes that the predictions' model does not know.
    """
    require_pairs(targets, predictions)
    measure = ClassificationMeasure(classes, keep=True)
    for target, prediction in zip(targets, predictions, strict=True):
        measure.add(target, prediction)
    return measure.result(names)


def _bin(confidence: Floats) -> Counts:
    """The bin (low, high] of each confidence; 0 belongs to the first bin."""
    return np.ceil(np.clip(confidence, 1 / BINS, 1) * BINS - 1).astype(np.int64)
