"""Evaluate dense video captioning: captions at several temporal IoUs, and proposals.

Krishna, Hata, Ren, Fei-Fei, Niebles, "Dense-captioning events in videos", ICCV 2017, section 5.1, with the rules of the
ActivityNet Captions evaluator:

- At a temporal IoU τ, each prediction is paired with every labelled event that it overlaps by at least τ, and its
  caption is scored by the sentence of that event. A prediction without such an event counts as one pair of score 0.
- The caption score of a video is the mean over its pairs, 0 without predictions; "caption_score@τ" is the mean over the
  videos, and "caption_score" the mean over τ = 0.3, 0.5, 0.7 and 0.9.
- "recall@τ" is the fraction of a video's labelled events that a prediction overlaps by τ, "precision@τ" the fraction of
  its predictions that overlap an event by τ; both are means over the videos.

Captions are scored by `sightline.evaluation.caption_scores`, not by the Java program METEOR, so that the figures are
not comparable with published ones. Videos without labelled events, which the evaluator's data does not have, count in
the precision alone.

Sentences of one form share most of their words, so that the caption score flatters. Beside it stand the fraction of the
captions of found events that are exactly right (`exact`), and the caption score of a baseline that sees no picture
(`caption_score_blind`, `sightline.evaluation.event_baseline`): the same sentence at the same time of every video. Both
are chosen by the labels that are evaluated, so that it is hardly worse than the baseline of the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.evaluation._table import aligned, number, short
from sightline.evaluation.blind_captions import caption_remarks, is_exact
from sightline.evaluation.caption_scores import caption_score
from sightline.evaluation.event_baseline import OVERLAPS as OVERLAPS
from sightline.evaluation.event_baseline import BlindBaseline
from sightline.evaluation.intervals import percentiles, resampled_sums
from sightline.evaluation.pairing import require_pairs
from sightline.ops.intervals import interval_iou
from sightline.structures import Classes, Events
from sightline.structures.tabular import html_of
from sightline.words import counted

HEADLINE = ("caption_score", "recall", "precision", "exact")
"""The metrics recorded after each epoch; the first decides which epoch is best."""
EVENT_METRICS = {
    "caption_score": "score of the captions, mean over temporal IoU 0.3, 0.5, 0.7 and 0.9",
    "recall": "fraction of the events that are found, mean over these temporal IoUs",
    "precision": "fraction of the predictions that find an event, mean over these temporal IoUs",
    **{f"caption_score@{o:g}": f"score of the captions at temporal IoU {o:g}" for o in OVERLAPS},
    **{f"recall@{o:g}": f"fraction of the events that are found at temporal IoU {o:g}" for o in OVERLAPS},
    **{f"precision@{o:g}": f"fraction of the predictions that find an event at temporal IoU {o:g}" for o in OVERLAPS},
    "caption_score_matched": "score of the captions of predictions that find an event at temporal IoU 0.5",
    "exact": "fraction of these captions that are the event's sentence, word for word",
    "caption_score_blind": "caption_score of a baseline that sees no picture",
}
"""The metrics with their meanings."""
_MATCHED = ("caption_score_matched", "exact")
RIGHT = 0.5
"""The temporal IoU by which the score threshold of `predict` is chosen."""

Floats = NDArray[np.float64]


@dataclass
class EventResult:
    """The result of evaluating events in videos. `print(result)` shows it as a table.

    Attributes:
        captions: [videos, 4] float, caption score of each video by `OVERLAPS`; NaN without labelled events.
        recall: [videos, 4] float, fraction of its events that are found; NaN without labelled events.
        precision: [videos, 4] float, fraction of its predictions that find an event; NaN without predictions.
        matched: [videos, 3] float, sum and number of the caption scores of pairs at temporal IoU 0.5, and number of
            those that are exactly right.
        events_in: int64 [videos], number of labelled events.
        predicted_in: int64 [videos], number of predictions.
        threshold: the score threshold with the highest F1 of events at temporal IoU 0.5; None without scores.
        blind: caption score of the baseline that sees no picture; None without labelled events.
        names: the name of each video.
        targets, predictions: what was compared, if kept.
        task: "video_captioning".
        notes: remarks for the reader of the metrics, one sentence each.
        measured: "data" and "split" of the evaluation, if known.
    """

    captions: Floats = field(repr=False)
    recall: Floats = field(repr=False)
    precision: Floats = field(repr=False)
    matched: Floats = field(repr=False)
    events_in: NDArray[np.int64] = field(repr=False)
    predicted_in: NDArray[np.int64] = field(repr=False)
    threshold: float | None = None
    blind: float | None = None
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[Events] | None = field(default=None, repr=False)
    predictions: Sequence[Events] | None = field(default=None, repr=False)
    task: str = "video_captioning"
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    headline: tuple[str, ...] = HEADLINE

    @property
    def images(self) -> int:
        """Number of videos."""
        return len(self.events_in)

    @property
    def events(self) -> int:
        """Number of labelled events."""
        return int(self.events_in.sum())

    @property
    def metrics(self) -> dict[str, float | None]:
        """All metrics by name, see `EVENT_METRICS`; None where there is nothing to count."""
        rows = {"caption_score": self.captions, "recall": self.recall, "precision": self.precision}
        means = {name: _means(values) for name, values in rows.items()}
        values: dict[str, float | None] = {}
        for name, own in means.items():
            values[name] = None if own is None else float(own.mean())
        for name, own in means.items():
            for place, overlap in enumerate(OVERLAPS):
                values[f"{name}@{overlap:g}"] = None if own is None else float(own[place])
        total, pairs, exact = self.matched.sum(0)
        return values | {
            "caption_score_matched": float(total / pairs) if pairs else None,
            "exact": float(exact / pairs) if pairs else None,
            "caption_score_blind": self.blind,
        }

    @property
    def reasons(self) -> dict[str, str]:
        """For each metric that is None, the reason."""
        why = {"precision": "there are no predictions"} if self.events else {}
        why |= {} if self.predicted_in.any() else dict.fromkeys(_MATCHED, "there are no predictions")
        none = "there are no events in these labels" if not self.events else "no prediction finds an event"
        return {n: why.get(n.partition("@")[0], none) for n, value in self.metrics.items() if value is None}

    @property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Empty: events have no classes."""
        return {}

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the videos by ascending mean of caption score and recall; videos without events come last."""
        with np.errstate(invalid="ignore"):
            own = (self.captions.mean(1) + self.recall.mean(1)) / 2
        return np.argsort(own, kind="stable").astype(np.int64)  # NaN is sorted last

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over videos of the metrics that are means over videos."""
        samples: dict[str, Floats] = {}
        for name, values in (
            ("caption_score", self.captions),
            ("recall", self.recall),
            ("precision", self.precision),
        ):
            known = ~np.isnan(values)
            sums = resampled_sums(np.stack([np.where(known, values, 0), known], 1))
            with np.errstate(invalid="ignore"):
                own = sums[:, 0] / sums[:, 1]
            samples[name] = own.mean(1)
            samples |= {f"{name}@{overlap:g}": own[:, place] for place, overlap in enumerate(OVERLAPS)}
        return percentiles(samples, level)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the figures of each video."""
        out: dict[str, Any] = {
            "task": self.task,
            "images": self.images,
            "events": self.events,
            "predictions": int(self.predicted_in.sum()),
            "classes": [],
            "metrics": self.metrics,
            "reasons": self.reasons,
            "per_class": {},
            "threshold": self.threshold,
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            rows = {"caption_score": self.captions, "recall": self.recall, "precision": self.precision}
            out["videos"] = {name: [[_json(v) for v in row] for row in values] for name, values in rows.items()}
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        first = (
            f"{counted(self.images, 'video')}, {counted(self.events, 'event')}, "
            f"{counted(int(self.predicted_in.sum()), 'prediction')}"
        )
        rows = [
            ["  " + name, number(value), self.reasons.get(name) or EVENT_METRICS[name]]
            for name, value in self.metrics.items()
        ]
        return "\n".join([first, *aligned(rows, [False, True, False]), *(f"Note: {note}." for note in self.notes)])


class EventMeasure:
    """Collects the events of videos and their predictions, and computes an `EventResult`.

    Args:
        classes: the classes of the labels, which events do not have.
        keep: whether to keep targets and predictions for reports.
    """

    def __init__(self, classes: Classes | None = None, keep: bool = False):
        self._keep = keep
        self._rows: list[tuple[Floats, Floats, Floats, Floats]] = []
        self._counts: list[tuple[int, int]] = []
        self._scored: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._found: list[NDArray[Any]] = []
        self._targets: list[Events] = []
        self._said: list[str] = []
        self._pairs: list[tuple[Events, Events]] = []

    def add(self, target: Events, prediction: Events) -> None:
        """Add a video.

        Raises:
            InputError: the prediction has no scores.
        """
        if prediction.scores is None:
            raise InputError(f"the predictions for {target.source or 'a video'} have no scores; give one per event")
        overlaps = interval_iou(prediction.times.double(), target.times.double()).numpy()
        close = overlaps[..., None] >= np.array(OVERLAPS)  # [predictions, events, 4]
        self._rows.append(_video(target, prediction, close))
        self._counts.append((len(target), len(prediction)))
        scores, right = prediction.scores.double().numpy(), overlaps >= RIGHT
        self._scored.append((scores, np.asarray(right.any(1))))
        self._found.append(np.where(right, scores[:, None], -np.inf).max(0, initial=-np.inf))
        self._targets.append(target)
        self._said += prediction.captions
        if self._keep:
            self._pairs.append((target, prediction))

    def join(self, other: EventMeasure) -> None:
        """Add the videos of another measure after those of this one."""
        for name in ("_rows", "_counts", "_scored", "_found", "_targets", "_said", "_pairs"):
            getattr(self, name).extend(getattr(other, name))

    def result(self, names: Sequence[str] | None = None) -> EventResult:
        """The result over all videos added; `names` has a name for each."""
        captions, recall, precision, matched = (
            np.array([row[k] for row in self._rows]).reshape(len(self._rows), -1) for k in range(4)
        )
        counts = np.array(self._counts, np.int64).reshape(-1, 2)
        baseline, blind = _baseline(self._targets)
        result = EventResult(
            captions,
            recall,
            precision,
            matched.reshape(-1, 3),
            counts[:, 0],
            counts[:, 1],
            self._threshold(),
            blind,
            None if names is None else list(names),
            [target for target, _ in self._pairs] if self._keep else None,
            [prediction for _, prediction in self._pairs] if self._keep else None,
        )
        if baseline is not None:
            result.notes += caption_remarks(result.metrics["caption_score"], blind, baseline.caption, self._said)
        return result

    def _threshold(self) -> float | None:
        """The score at which the F1 of all videos together is highest."""
        scores = np.concatenate([own for own, _ in self._scored] or [np.zeros(0)])
        right = np.concatenate([own for _, own in self._scored] or [np.zeros(0, bool)])
        found = np.sort(np.concatenate(self._found or [np.zeros(0)]))
        if not len(scores) or not len(found):
            return None
        order = np.argsort(-scores, kind="stable")
        precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        recall = 1 - np.searchsorted(found, scores[order]) / len(found)
        with np.errstate(invalid="ignore"):
            f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
        last = np.append(scores[order][1:] < scores[order][:-1], True)  # equal scores are accepted together
        return float(scores[order][np.where(last, f1, -1).argmax()])


def evaluate_events(
    targets: Sequence[Events], predictions: Sequence[Events], names: Sequence[str] | None = None
) -> EventResult:
    """Compare predicted events with labelled ones.

    Args:
        targets, predictions: one per video, in the same order; predictions have scores.
        names: the name of each video.

    Raises:
        InputError: their numbers differ, or a prediction has no scores.
    """
    require_pairs(targets, predictions, item="video")
    measure = EventMeasure(keep=True)
    for target, prediction in zip(targets, predictions, strict=True):
        measure.add(target, prediction)
    return measure.result(names)


def _video(target: Events, prediction: Events, close: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
    """Caption score, recall and precision of a video by `OVERLAPS`, and `matched` of `EventResult`."""
    nothing = np.full(len(OVERLAPS), np.nan)
    pairs = {
        (int(p), int(e)): caption_score(prediction.captions[p], [target.captions[e]])
        for p, e in np.argwhere(close[..., 0])
    }
    captions = np.zeros(len(OVERLAPS))
    matched = np.zeros(3)
    for place, overlap in enumerate(OVERLAPS):
        own = [score for (p, e), score in pairs.items() if close[p, e, place]]
        alone = int((~close[..., place].any(1)).sum())
        captions[place] = sum(own) / (len(own) + alone) if own else 0.0
        if overlap == RIGHT:
            exact = sum(is_exact(prediction.captions[p], [target.captions[e]]) for p, e in pairs if close[p, e, place])
            matched[:] = sum(own), len(own), exact
    recall = close.any(0).mean(0) if len(target) else nothing
    precision = close.any(1).mean(0) if len(prediction) else nothing
    return captions if len(target) else nothing, recall, precision, matched


def _baseline(targets: Sequence[Events]) -> tuple[BlindBaseline | None, float | None]:
    """The better of two baselines that see no picture, with one event and with the mean number of events, and its
    caption score; None without labelled events."""
    own = [target for target in targets if len(target)]
    if not own:
        return None, None
    scored = []
    for count in (1, None):
        baseline = BlindBaseline.of(own, count)
        rows = []
        for target in own:
            found = baseline.predict(target)
            overlaps = interval_iou(found.times.double(), target.times.double()).numpy()
            rows.append(_video(target, found, overlaps[..., None] >= np.array(OVERLAPS))[0].mean())
        scored.append((float(np.mean(rows)), baseline))
    best = max(scored, key=lambda pair: pair[0])
    return best[1], best[0]


def _means(values: Floats) -> Floats | None:
    """The mean over the videos that have a value, [4]; None if none has."""
    known = values[~np.isnan(values).any(1)]
    return known.mean(0) if len(known) else None


def _json(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
