"""Evaluate scene graphs: recall of relations, in the three protocols of Visual Genome.

The protocols (Xu et al., "Scene graph generation by iterative message passing", CVPR 2017, section 5.1) differ in what
the model is given: "PredCls" (predicate classification), the boxes and classes of the objects; "SGCls" (scene graph
classification), the boxes; "SGDet" (scene graph detection), the image only.

A relation (subject, predicate, object) is found if one of the K best predicted relations of the image has the same
predicate, and the same class and a box of IoU at least 0.5 for the subject and for the object. This rule is the same in
all protocols. A predicted relation may find several labelled ones. Recall R@K is the fraction of the relations of an
image that are found, averaged over the images with relations. Mean recall mR@K is computed for each predicate alone,
over the images in which it occurs, and averaged over the predicates (Tang et al., "Learning to compose dynamic tree
structures for visual contexts", CVPR 2019, section 4.1). Zero-shot recall zR@K is that of the relations whose
combination of classes and predicate never occurred in training (Lu et al., "Visual relationship detection with language
priors", ECCV 2016, section 5.2).

Metrics with the prefix "ng" are without graph constraint (Newell, Deng, "Pixels to graphs by associative embedding",
NeurIPS 2017, section 4.2): every predicate of a pair is a prediction of its own. Others use only the best predicate of
each pair, so that they cannot find more than one of several that hold between two objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sightline.errors import InputError
from sightline.evaluation._table import aligned, number, short
from sightline.evaluation.averages import nanmean, none_if_nan
from sightline.evaluation.detection import DetectionMeasure, DetectionResult
from sightline.evaluation.intervals import percentiles, resampled_sums
from sightline.evaluation.relation_matching import (
    Bools,
    Combination,
    Floats,
    Ints,
    distinct_relations,
    recall_per_image,
    recall_per_predicate,
    relation_ranks,
    renumbered,
    unseen_relations,
)
from sightline.structures import Classes, Instances
from sightline.structures.tabular import html_of
from sightline.words import counted

PROTOCOLS = ("PredCls", "SGCls", "SGDet")
COUNTS = (20, 50, 100)
"""K: numbers of best relations per image at which recall is computed."""
HEADLINE = ("SGDet/ngR@50", "PredCls/ngR@50", "SGCls/ngR@50", "PredCls/R@50", "SGDet/R@50", "PredCls/ngmR@50", "AP50")
"""The metrics recorded after each epoch, if available; the first decides which epoch is best."""
_WORDS = {
    "PredCls": "boxes and classes given",
    "SGCls": "boxes given",
    "SGDet": "only the image given",
    "R": "recall of relations",
    "mR": "mean recall of predicates",
    "zR": "recall of combinations not seen in training",
}
MEANINGS = {
    f"{protocol}/{free}{kind}@{k}": f"{_WORDS[kind]} with {k} relations per image, {_WORDS[protocol]}"
    + (", without graph constraint" if free else "")
    for protocol in PROTOCOLS
    for free in ("", "ng")
    for kind in ("R", "mR", "zR")
    for k in COUNTS
} | {"AP50": "average precision of the detected objects at IoU 0.50 (COCO)"}


@runtime_checkable
class RelationModel(Protocol):
    """What the protocols with given boxes ask of a model."""

    def predict_relations(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor] | None = None
    ) -> list[Instances]: ...

    def seen_combinations(self) -> Iterable[Combination]: ...


@dataclass
class SceneGraphResult:
    """Recall of relations. `print(result)` shows it as a table.

    Attributes:
        metrics: by name, such as "PredCls/ngmR@50" (see `MEANINGS`), and "AP50" of the objects; None if not available.
        reasons: for each metric that is None, the reason; metrics of one predicate have the key "predicate/metric".
        per_class: for each predicate, the most frequent first, "relations" (their number in the labels) and its recall
            without graph constraint at 50 in each protocol.
        image_recall: [images], recall SGDet/ngR@50 of each image; NaN without relations.
        relations, images: number of relations and images.
        classes: names of the objects' classes.
        objects: the evaluation of the detected objects.
        names: the name of each image.
        targets, predictions: what was compared, if kept.
        task: "scene_graph".
        notes: remarks for the reader of the metrics, one sentence each.
        measured: "data" and "split" of the evaluation, if known.
    """

    metrics: dict[str, float | None]
    reasons: dict[str, str]
    per_class: dict[str, dict[str, Any]]
    image_recall: Floats = field(repr=False)
    relations: int
    images: int
    classes: Classes
    objects: DetectionResult = field(repr=False)
    names: list[str] | None = field(default=None, repr=False)
    targets: Sequence[Instances] | None = field(default=None, repr=False)
    predictions: Sequence[Instances] | None = field(default=None, repr=False)
    task: str = "scene_graph"
    notes: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    _of_images: dict[str, Floats] = field(default_factory=dict, repr=False)

    @property
    def headline(self) -> tuple[str, ...]:
        """The metrics of `HEADLINE` that are available, else all of them."""
        return tuple(name for name in HEADLINE if self.metrics[name] is not None) or HEADLINE

    @property
    def threshold(self) -> float | None:
        """The score of objects with the highest F1 at IoU 0.50; None if no detected object is correct."""
        return self.objects.threshold

    def worst_first(self) -> NDArray[np.int64]:
        """Indices of the images by ascending recall (SGDet/ngR@50); images without relations come last."""
        return np.argsort(self.image_recall, kind="stable").astype(np.int64)  # NaN sorts last

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Bootstrap intervals over images of recall and zero-shot recall, by name."""
        samples = {}
        for name, values in self._of_images.items():
            there = ~np.isnan(values)
            if there.any():
                sums = resampled_sums(np.stack([np.nan_to_num(values), there], 1))
                with np.errstate(invalid="ignore", divide="ignore"):
                    samples[name] = sums[:, 0] / sums[:, 1]
        return percentiles(samples, level)

    def to_dict(self, details: bool = True) -> dict[str, Any]:
        """The result as JSON values; with `details`, also the recall of each image."""
        out: dict[str, Any] = {
            "task": self.task,
            "protocol": "Visual Genome",
            "images": self.images,
            "relations": self.relations,
            "classes": list(self.classes),
            "metrics": dict(self.metrics),
            "reasons": dict(self.reasons),
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "notes": list(self.notes),
        } | ({"measured": dict(self.measured)} if self.measured else {})
        if details:
            found = [None if np.isnan(value) else round(value, 6) for value in self.image_recall.tolist()]
            out["image_recall"] = dict(zip(self.names, found, strict=True)) if self.names else found
        return out

    def __repr__(self) -> str:
        return short(self)

    _repr_html_ = html_of

    def __str__(self) -> str:
        lines = [f"{counted(self.images)}, {counted(self.relations, 'relation')}", ""]
        kinds = [f"{free}{kind}@{k}" for free in ("", "ng") for kind in ("R", "mR", "zR") for k in COUNTS]
        rows = [[kind, *(number(self.metrics[f"{protocol}/{kind}"]) for protocol in PROTOCOLS)] for kind in kinds]
        lines += aligned([["", *PROTOCOLS], *rows], [False, True, True, True])
        lines += ["", f"AP50 of objects: {number(self.metrics['AP50'])}"]
        lines += ["", *aligned(_predicate_rows(self.per_class), [False, *[True] * 4])]
        lines += [f"Note: {note}." for note in self.notes]
        return "\n".join(lines)


def _predicate_rows(per_class: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    heads = ["predicate", "relations", *(f"{protocol}/ngR@50" for protocol in PROTOCOLS)]
    return [
        heads,
        *([name, str(row["relations"]), *(number(row[h]) for h in heads[2:])] for name, row in per_class.items()),
    ]


class SceneGraphMeasure:
    """Collects the relations of each image, and asks the model for those between the labelled objects.

    Args:
        classes: names of the labels' classes.
        keep: keep targets and predictions in the result, for reports.
    """

    def __init__(self, classes: Classes, keep: bool = False):
        self.classes, self.keep = classes, keep
        self.objects = DetectionMeasure(classes)
        self.targets: list[Instances] = []
        self.found: dict[str, list[Instances]] = {protocol: [] for protocol in PROTOCOLS}
        self.seen: frozenset[Combination] | None = None
        self._given: dict[str, deque[Instances]] = {protocol: deque() for protocol in PROTOCOLS[:2]}

    def ask(self, model: Any, images: Sequence[Tensor], targets: Sequence[Instances]) -> None:
        """Predict the relations between the labelled objects of a batch, before its images are added."""
        if not isinstance(model, RelationModel):
            return
        if self.seen is None:
            self.seen = frozenset(model.seen_combinations())
        boxes = [target.boxes for target in targets]
        labels = [renumbered(target, self.classes, model.classes).labels for target in targets]  # type: ignore[attr-defined]
        for protocol, known in (("PredCls", labels), ("SGCls", None)):
            self._given[protocol] += [found.to("cpu") for found in model.predict_relations(images, boxes, known)]

    def add(self, target: Instances, prediction: Instances) -> None:
        """Add an image: its labels and its detected objects and relations."""
        self.objects.add(target, prediction)
        self.targets.append(target)
        self.found["SGDet"].append(prediction)
        for protocol, given in self._given.items():
            if given:
                self.found[protocol].append(given.popleft())

    def join(self, other: SceneGraphMeasure) -> None:
        """Add the images of another measure after those of this one."""
        self.objects.join(other.objects)
        self.targets += other.targets
        for protocol, found in other.found.items():
            self.found[protocol] += found
        self.seen = other.seen if self.seen is None else self.seen

    def result(self, names: Sequence[str] | None = None) -> SceneGraphResult:
        """Compare all images added so far; see `evaluate_scene_graphs`."""
        found = {protocol: own for protocol, own in self.found.items() if own}
        result = evaluate_scene_graphs(
            self.targets, found, self.classes, self.seen, names, objects=self.objects.result(names)
        )
        if self.keep:
            result.targets, result.predictions = self.targets, self.found["SGDet"]
        return result


def evaluate_scene_graphs(
    targets: Sequence[Instances],
    found: Mapping[str, Sequence[Instances]],
    classes: Classes | Sequence[str],
    seen: Iterable[Combination] | None = None,
    names: Sequence[str] | None = None,
    *,
    objects: DetectionResult | None = None,
) -> SceneGraphResult:
    """Compare predicted relations with labels; see the module for the rule.

    Args:
        targets: labels of each image, with `keys` and `relations`. A relation of an object to itself does not count,
            and of several equal relations of the same two objects only one.
        found: by protocol, the predictions for each image, with boxes, labels, `keys` and `relations`. Their classes
            are matched by name.
        classes: names of the labels' classes.
        seen: the combinations of classes and predicates that occurred in training, for zero-shot recall; None if they
            are unknown.
        names: the name of each image, for reports; by default the targets' sources.
        objects: the evaluation of the detected objects; by default it is made from the predictions of "SGDet".

    Raises:
        InputError: there are no images, a protocol is unknown, or the numbers of targets and predictions differ.
    """
    classes = classes if isinstance(classes, Classes) else Classes(classes)
    if not len(targets):
        raise InputError("there are no images to evaluate; give at least one target and its prediction")
    for protocol, own in found.items():
        if protocol not in PROTOCOLS:
            raise InputError(f"there is no protocol {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
        if len(own) != len(targets):
            raise InputError(
                f"{protocol} has predictions for {len(own)} images, but there are {len(targets)} targets; give one for "
                "each"
            )
    truths = [distinct_relations(target) for target in targets]
    counts = [len(own) for own in truths]
    image = np.repeat(np.arange(len(targets)), counts)
    predicate_names = [triplet.predicate for own in truths for triplet in own]
    predicates = {name: i for i, name in enumerate(dict.fromkeys(predicate_names))}
    predicate = np.array([predicates[name] for name in predicate_names], np.int64)
    unseen = None if seen is None else unseen_relations(targets, truths, classes, frozenset(seen))
    metrics: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    of_images: dict[str, Floats] = {}
    hits_at_50: dict[str, Bools] = {}
    for protocol in PROTOCOLS:
        ranks = None
        if protocol in found:
            pairs = zip(targets, truths, found[protocol], strict=True)
            ranks = np.concatenate(
                [np.zeros((2, 0), np.int64), *(relation_ranks(t, own, f, classes) for t, own, f in pairs)], 1
            )
        for row, free in enumerate(("", "ng")):
            for k in COUNTS:
                hits = None if ranks is None else ranks[row] <= k
                stem = f"{protocol}/{free}"
                if hits is not None and free and k == 50:
                    hits_at_50[protocol] = hits
                recall = None if hits is None else recall_per_image(hits, image, len(targets))
                zero = (
                    None
                    if hits is None or unseen is None
                    else recall_per_image(hits[unseen], image[unseen], len(targets))
                )
                mean = None if hits is None else recall_per_predicate(hits, image, predicate)
                for kind, values in (("R", recall), ("mR", mean), ("zR", zero)):
                    metrics[f"{stem}{kind}@{k}"] = None if values is None else none_if_nan(nanmean(values))
                    if metrics[f"{stem}{kind}@{k}"] is None:
                        reasons[f"{stem}{kind}@{k}"] = _reason(kind, hits is None, len(image), unseen)
                    elif kind != "mR" and values is not None:
                        of_images[f"{stem}{kind}@{k}"] = values
    objects = objects or _objects(targets, found, classes, names)
    metrics["AP50"] = objects.metrics["AP50"]
    reasons |= {"AP50": objects.reasons["AP50"]} if "AP50" in objects.reasons else {}
    image_recall = of_images.get("SGDet/ngR@50", recall_per_image(np.zeros(len(image), bool), image, len(targets)))
    per_class = _per_predicate(predicates, predicate, hits_at_50)
    return SceneGraphResult(
        metrics=metrics,
        reasons=reasons | _per_predicate_reasons(per_class),
        per_class=per_class,
        image_recall=image_recall,
        relations=len(image),
        images=len(targets),
        classes=classes,
        objects=objects,
        names=list(names) if names is not None else [t.source or f"image {i}" for i, t in enumerate(targets)],
        notes=list(objects.notes),
        _of_images=of_images,
    )


def _reason(kind: str, unasked: bool, relations: int, unseen: Bools | None) -> str:
    if unasked:
        return "the model does not predict relations between given objects (predict_relations)"
    if not relations:
        return "there are no relations in these labels"
    assert kind == "zR", "recall and mean recall exist wherever there are relations"
    return "what was seen in training is unknown" if unseen is None else "all combinations occurred in training"


def _per_predicate(names: Mapping[str, int], predicate: Ints, hits: Mapping[str, Bools]) -> dict[str, dict[str, Any]]:
    counts = np.bincount(predicate, minlength=len(names))
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted(names, key=lambda name: (-counts[names[name]], name)):
        own = predicate == names[name]
        recall = {f"{p}/ngR@50": float(hits[p][own].mean()) if p in hits else None for p in PROTOCOLS}
        rows[name] = {"relations": int(own.sum()), **recall}
    return rows


def _per_predicate_reasons(per_class: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"{name}/{key}": _reason("R", True, 1, None)
        for name, row in per_class.items()
        for key, value in row.items()
        if value is None
    }


def _objects(
    targets: Sequence[Instances],
    found: Mapping[str, Sequence[Instances]],
    classes: Classes,
    names: Sequence[str] | None,
) -> DetectionResult:
    measure = DetectionMeasure(classes)
    for target, prediction in zip(targets, found.get("SGDet", [t[:0] for t in targets]), strict=True):
        measure.add(target, prediction)
    return measure.result(names)
