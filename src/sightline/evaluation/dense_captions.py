"""Evaluate dense captions: mean average precision over thresholds of place and of language.

Johnson, Karpathy, Fei-Fei, "DenseCap", CVPR 2016, section 4.2, with the rules of its published evaluator:

- Labelled boxes that overlap heavily describe the same thing: as long as there are pairs with an IoU above 0.7, the box
  with the most such partners and these partners become one target, whose box is their mean and whose references are
  all their captions.
- Detections are taken by descending score. Each belongs to the target that it overlaps most, at all thresholds. Only
  the first detection of a target can be right.
- A detection is right at a pair of thresholds if its IoU is at least the one (0.3, 0.4 … 0.7) and its caption scores
  above the other (0, 0.05 … 0.25) by the references of its target.
- The average precision is the mean of the interpolated precision at recall 0, 0.01 … 1; the mAP is its mean over the 30
  pairs of thresholds.

The evaluator scores captions by the Java program METEOR, here they are scored by `sightline.evaluation.caption_scores`,
so that the figures are not comparable with published ones. It also adds a pixel to the sides of boxes, which here are
coordinates of edges. Objects without a caption and crowd regions are not targets; a detection whose largest overlap is
with such a region does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation._table import aligned, number, short
from sightline.evaluation.blind_captions import caption_remarks, is_exact, typical_caption
from sightline.evaluation.caption_matching import LANGUAGE, OVERLAPS, Matches, average_precisions, match
from sightline.evaluation.caption_scores import caption_score
from sightline.evaluation.collected import CollectedMeasure
from sightline.evaluation.intervals import percentiles, resampled_weights
from sightline.evaluation.result import shown_threshold
from sightline.structures import Classes, Instances
from sightline.structures.tabular import html_of
from sightline.words import counted

RIGHT = (0.5, 0.15)
"""The pair of thresholds by which images are ranked and the score threshold of `predict` is chosen."""
HEADLINE = ("mAP", "box_mAP", "caption_score", "exact")
"""The metrics recorded after each epoch; the first decides which epoch is best."""
MEANINGS = {
    "mAP": "mean over IoU 0.3 to 0.7 and caption scores above 0 to 0.25",
    "box_mAP": "mean over IoU 0.3 to 0.7, whatever the captions are",
    "caption_score": "mean caption score of the detections with an IoU of at least 0.5, one per target",
    "caption_score_blind": "the same of the best single caption, which sees nothing, in place of theirs",
    "exact": "fraction of these detections whose caption is a reference, word for word",
    "recall50": "fraction of the targets with such a detection",
    **{f"mAP@{overlap:g}": f"mean over caption scores, at IoU {overlap:g}" for overlap in OVERLAPS},
}
_DRAWS = 200
"""Number of bootstrap samples: each takes the precision at 35 pairs of thresholds."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class DenseCaptionResult:
    """The result of evaluating dense captions. `print(result)` shows it as a table.

    Detections are sorted by descending score over all images; those that do not count are left out.

    Attributes:
        scores: [D] float, score of each detection.
        overlaps: [D] float, IoU of each detection and its target; 0 without a target.
        language: [D] float, caption score by the references of the target; 0 for detections that cannot be right.
        first: [D] bool, whether the detection is the first of its target.
        blind: [D] float, what `sentence` scores in place of the caption; 0 for detections that do not find a target.
        exact: [D] bool, whether the detection finds a target and its caption is a reference of it, word for word.
        sentence: the best single caption.
        image_of: int64 [D], image of each detection.
        targets_in: int64 [images], number of targets of each image.
        per_pair: [5, 6] float, average precision by `OVERLAPS` and `LANGUAGE`; NaN without targets.
        box_ap: [5] float, average precision by `OVERLAPS` alone.
        classes: class names.
        names: the name of each image.
        targets, predictions: what was compared, if kept.
        task: "dense_captioning".
        notes: remarks for the reader of the metrics, one sentence each.
        measured: "data" and "split" of the evaluation, if known.
    """

    scores: Floats = field(repr=False)
    overlaps: Floats = field(repr=False)
    language: Floats = field(repr=False)
    first: NDArray[np.bool_] = field(repr=False)
    blind: Floats = field(repr=False)
    exact: NDArray[np.bool_] = field(repr=False)
    sentence: str = field(repr=False)
    image_of: Ints = field(repr=False)
    targets_in: Ints = field(repr=False)
    per_pair: Floats
    box_ap: Floats
    classes: Classes | None = None
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[Instances] | None = field(default=None, repr=False)
    predictions: Sequence[Instances] | None = field(default=None, repr=False)
    task: str = "dense_captioning"
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    headline: tuple[str, ...] = HEADLINE

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.targets_in)

    @property
    def objects(self) -> int:
        """Number of targets."""
        return int(self.targets_in.sum())

    @property
    def metrics(self) -> dict[str, float | None]:
        """All metrics by name, see `MEANINGS`; None without targets."""
        if not self.objects:
            return dict.fromkeys(MEANINGS)
        found = self.first & (self.overlaps >= RIGHT[0])
        values: dict[str, float | None] = {
            "mAP": float(self.per_pair.mean()),
            "box_mAP": float(self.box_ap.mean()),
            "caption_score": float(self.language[found].mean()) if found.any() else None,
            "caption_score_blind": float(self.blind[found].mean()) if found.any() else None,
            "exact": float(self.exact[found].mean()) if found.any() else None,
            "recall50": float(found.sum() / self.objects),
        }
        rows = zip(OVERLAPS, self.per_pair.mean(1).tolist(), strict=True)
        return values | {f"mAP@{overlap:g}": value for overlap, value in rows}

    @property
    def reasons(self) -> dict[str, str]:
        """For each metric that is None, the reason."""
        if not self.objects:
            return dict.fromkeys(MEANINGS, "no object of these labels has a caption")
        return {
            name: "no detection has an IoU of at least 0.5" for name, value in self.metrics.items() if value is None
        }

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Empty: captions are compared whatever the classes are."""
        return {}

    @property
    def right(self) -> NDArray[np.bool_]:
        """[D] bool, whether each detection is right at the thresholds of `RIGHT`."""
        return self.first & (self.overlaps >= RIGHT[0]) & (self.language > RIGHT[1])

    @property
    def threshold(self) -> float | None:
        """The score with the highest F1 at the thresholds of `RIGHT`; None without a right detection."""
        right = self.right.cumsum()
        if not right.size or not right[-1]:
            return None
        f1 = 2 * right / (np.arange(1, len(right) + 1) + self.objects)
        return float(self.scores[int(f1.argmax())])

    @property
    def image_f1(self) -> Floats:
        """[images] float, F1 of each image at the thresholds of `RIGHT` and the score `shown_threshold`.

        NaN for images without targets and detections.
        """
        shown = self.scores >= shown_threshold(self)
        right = np.bincount(self.image_of[shown & self.right], minlength=self.images)
        found = np.bincount(self.image_of[shown], minlength=self.images)
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * right / (found + self.targets_in))

    def worst_first(self) -> Ints:
        """Indices of the images by ascending `image_f1`; of equals, the one with more targets first."""
        return np.lexsort((-self.targets_in, self.image_f1)).astype(np.int64)  # NaN sorts last

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over images of the mAP and the box mAP; empty without targets."""
        if not self.objects:
            return {}
        samples: list[tuple[float, float]] = []
        for weights in resampled_weights(self.images, _DRAWS):
            for times in weights:
                drawn = np.repeat(np.arange(len(self.scores)), times[self.image_of])
                per_pair, box_ap = average_precisions(
                    self.overlaps[drawn], self.language[drawn], self.first[drawn], int((times * self.targets_in).sum())
                )
                samples.append((float(per_pair.mean()), float(box_ap.mean())))
        both = np.array(samples)
        return percentiles({"mAP": both[:, 0], "box_mAP": both[:, 1]}, level)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the average precision of each pair of thresholds."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "dense captioning, IoU 0.3 to 0.7 and METEOR-like caption scores above 0 to 0.25",
            "images": self.images,
            "objects": self.objects,
            "detections": len(self.scores),
            "classes": list(self.classes or ()),
            "metrics": self.metrics,
            "reasons": self.reasons,
            "per_class": {},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            f1 = [None if np.isnan(value) else round(value, 6) for value in self.image_f1.tolist()]
            out["image_f1"] = dict(zip(self.names, f1, strict=True)) if self.names else f1
            out["threshold"] = self.threshold
            if self.objects:
                out["precision"] = {
                    f"{overlap:g}": {
                        "any": round(float(alone), 4),
                        **{f"{score:g}": round(float(ap), 4) for score, ap in zip(LANGUAGE, row, strict=True)},
                    }
                    for overlap, row, alone in zip(OVERLAPS, self.per_pair, self.box_ap, strict=True)
                }
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        lines = [
            f"{counted(self.images)}, {counted(self.objects, 'described region')}, "
            f"{counted(len(self.scores), 'detection')}",
            "",
        ]
        cells = [
            ["  " + name, number(value), self.reasons.get(name) or MEANINGS[name]]
            for name, value in self.metrics.items()
        ]
        lines += aligned(cells, [False, True, False])
        if self.objects:
            heads = ["IoU \\ caption score", "any", *(f"> {score:g}" for score in LANGUAGE)]
            rows = [
                [f"{overlap:g}", number(float(alone)), *(number(float(value)) for value in row)]
                for overlap, row, alone in zip(OVERLAPS, self.per_pair, self.box_ap, strict=True)
            ]
            lines += ["", *aligned([heads, *rows], [False] + [True] * (len(heads) - 1))]
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines)


class DenseCaptionMeasure(CollectedMeasure[DenseCaptionResult]):
    """Collects the described objects and the captioned detections of each image."""

    def compared(self, names: Sequence[str] | None) -> DenseCaptionResult:
        return evaluate_dense_captions(self.targets, self.predictions, classes=self.classes, names=names)


def evaluate_dense_captions(
    targets: Sequence[Instances],
    predictions: Sequence[Instances],
    classes: Classes | None = None,
    names: Sequence[str] | None = None,
) -> DenseCaptionResult:
    """Compare captioned detections with described objects.

    Args:
        targets: labels of each image, with boxes and captions; an image without objects needs no captions.
        predictions: detections of each image, with boxes, scores and captions.
        classes: names of the labels' classes.
        names: the name of each image, for reports; by default the targets' sources.

    Raises:
        InputError: the numbers of targets, predictions and names differ, or objects have no captions at all.
    """
    if len(targets) != len(predictions):
        raise InputError(
            f"there are {len(targets)} targets but predictions for {len(predictions)} images; give equally many"
        )
    if names is not None and len(names) != len(targets):
        raise InputError(f"there are {len(names)} names but {len(targets)} images; give one for each image")
    matches = [match(target, found) for target, found in zip(targets, predictions, strict=True)]
    sentence = typical_caption(
        [
            target.captions[i]
            for target, own in zip(targets, matches, strict=True)
            for group in own.groups
            for i in group
        ]
    )
    scores = _joined([own.scores for own in matches])
    order = np.argsort(-scores, kind="stable")
    overlaps = _joined([own.overlaps for own in matches])[order]
    language = _joined([own.language for own in matches])[order]
    first = _joined([own.first for own in matches])[order].astype(bool)
    image_of = np.repeat(np.arange(len(matches)), [len(own.scores) for own in matches])
    targets_in = np.array([len(own.groups) for own in matches], np.int64)
    per_pair, box_ap = average_precisions(overlaps, language, first, int(targets_in.sum()))
    blind: list[list[float]] = []
    exact: list[list[bool]] = []
    said: list[str] = []
    for target, found, own in zip(targets, predictions, matches, strict=True):
        pairs = _found(target, found, own)
        blind.append([caption_score(sentence, references) if references else 0.0 for _, references in pairs])
        exact.append([is_exact(caption, references) for caption, references in pairs])
        said += [caption for caption, references in pairs if references]
    result = DenseCaptionResult(
        scores=scores[order],
        overlaps=overlaps,
        language=language,
        first=first,
        blind=_joined([np.array(own) for own in blind])[order],
        exact=_joined([np.array(own) for own in exact])[order].astype(bool),
        sentence=sentence,
        image_of=image_of[order].astype(np.int64),
        targets_in=targets_in,
        per_pair=per_pair,
        box_ap=box_ap,
        classes=classes,
        names=list(names) if names is not None else [t.source or f"image {i}" for i, t in enumerate(targets)],
    )
    metrics = result.metrics
    result.notes += caption_remarks(metrics["caption_score"], metrics["caption_score_blind"], sentence, said)
    return result


def _found(target: Instances, found: Instances, own: Matches) -> list[tuple[str, list[str]]]:
    """The caption of each detection that counts, and the references of the target that it finds, [] without one."""
    right = own.first & (own.overlaps >= RIGHT[0])
    return [
        (found.captions[place], [target.captions[i] for i in own.groups[nearest]] if hit else [])
        for place, nearest, hit in zip(own.places.tolist(), own.nearest.tolist(), right.tolist(), strict=True)
    ]


def _joined(parts: Sequence[NDArray[Any]]) -> Floats:
    return np.concatenate([np.zeros(0), *parts])
