"""Match predicted relations to labelled ones, by the rule of `sightline.evaluation.scene_graphs`; and their recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.ops.boxes import box_iou
from sightline.structures import Classes, Instances
from sightline.structures.relations import Triplet, ranked, triplets_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Combination = tuple[str, str, str]
"""The class of the subject, the predicate, and the class of the object."""

_IOU = 0.5
_NEVER = np.iinfo(np.int64).max
"""The rank of a relation that was not found."""


def distinct_relations(target: Instances) -> list[Triplet]:
    """The distinct relations of an image between two objects."""
    return list(dict.fromkeys(t._replace(score=1.0) for t in triplets_of(target) if t.subject != t.object))


def relation_ranks(target: Instances, truths: Sequence[Triplet], found: Instances, classes: Classes) -> Ints:
    """[2, G] int64: the rank, from 1, of the best predicted relation that finds each of the G labelled ones.

    The first row is with graph constraint, the second without.
    """
    predicted = ranked(found)
    if not truths or not predicted:
        return np.full((2, len(truths)), _NEVER)
    names = {name: i for i, name in enumerate(dict.fromkeys(t.predicate for t in (*truths, *predicted)))}
    same = _same_objects(renumbered(found, None, classes), target)  # [predicted objects, labelled objects]
    a, b = (np.array([(t.subject, t.object, names[t.predicate]) for t in own]) for own in (predicted, truths))
    finds = same[a[:, 0][:, None], b[:, 0]] & same[a[:, 1][:, None], b[:, 1]] & (a[:, 2][:, None] == b[:, 2])
    pair = a[:, 0] * len(found) + a[:, 1]
    best = np.zeros(len(a), bool)
    best[np.unique(pair, return_index=True)[1]] = True
    ranks = np.stack([best.cumsum(), np.arange(1, len(a) + 1)])  # [2, predicted]
    usable = np.stack([finds & best[:, None], finds])
    first: Ints = np.where(usable, ranks[:, :, None], _NEVER).min(1)
    return first


def _same_objects(found: Instances, target: Instances) -> Bools:
    """[N, G] bool: whether predicted objects have the class of labelled ones and a box of IoU at least 0.5."""
    iou = box_iou(found.boxes.double().cpu(), target.boxes.double().cpu())
    same: Bools = ((iou >= _IOU - 1e-9) & (found.labels.cpu()[:, None] == target.labels.cpu())).numpy()
    return same


def renumbered(objects: Instances, own: Classes | None, classes: Classes) -> Instances:
    """The objects with the ids that their classes have among other classes; −1 for a class that is not among them."""
    known = objects.classes if objects.classes is not None else own
    if known is None or known == classes:
        return objects
    ids = torch.tensor([classes.id(name) if name in classes else -1 for name in known])
    return objects.replace(labels=ids.to(objects.labels.device)[objects.labels])


def unseen_relations(
    targets: Sequence[Instances], truths: Sequence[Sequence[Triplet]], classes: Classes, seen: frozenset[Combination]
) -> Bools:
    """[relations] bool: whether the classes and predicate of a relation did not occur together in training."""
    found = []
    for target, own in zip(targets, truths, strict=True):
        known = [classes[i] for i in target.labels.tolist()]
        found += [(known[t.subject], t.predicate, known[t.object]) not in seen for t in own]
    return np.array(found, bool)


def recall_per_image(hits: Bools, image: Ints, images: int) -> Floats:
    """[images], the fraction of each image's relations that are found; NaN without relations."""
    count = np.bincount(image, minlength=images)
    right = np.bincount(image, weights=hits, minlength=images)
    return np.divide(right, count, out=np.full(images, np.nan), where=count > 0)


def recall_per_predicate(hits: Bools, image: Ints, predicate: Ints) -> Floats:
    """[predicates], the recall of each, averaged over the images in which it occurs."""
    total = int(predicate.max(initial=-1)) + 1
    cell, place = np.unique(image * max(total, 1) + predicate, return_inverse=True)
    recall = np.bincount(place, weights=hits) / np.bincount(place)
    at = cell % max(total, 1)
    found: Floats = np.bincount(at, weights=recall, minlength=total) / np.bincount(at, minlength=total)
    return found
