"""Relations between the objects of one image: "ring on box".

A relation belongs to its subject and names its other object by key, so that relations stay right when objects are
selected, reordered or removed. `Instances` stores them in two fields: `keys` [N] int64, one distinct number per object,
and `relations`, one list of `Relation` per object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sightline.errors import InputError
from sightline.structures.instances import Instances

FIELDS = ("keys", "relations")
"""The fields of `Instances` that hold relations."""


class Relation(NamedTuple):
    """A relation of one object, its subject, to another object of the same image.

    Attributes:
        predicate: its name, such as "on".
        object: key of the other object (`Instances.keys`).
        score: confidence in [0, 1]; 1 for labels.
    """

    predicate: str
    object: int
    score: float = 1.0


class Triplet(NamedTuple):
    """A relation with both of its objects, as rows of their `Instances`."""

    subject: int
    predicate: str
    object: int
    score: float = 1.0


def triplets_of(objects: Instances) -> list[Triplet]:
    """The relations between the objects of an image, in the order of their subjects.

    A relation to an object that was removed, such as one outside of a cropped image, is left out.

    Args:
        objects: with the fields `keys` and `relations`; without them, there are no relations.
    """
    if "relations" not in objects or "keys" not in objects:
        return []
    rows = {key: row for row, key in enumerate(objects.keys.tolist())}
    return [
        Triplet(row, own.predicate, rows[own.object], own.score)
        for row, relations in enumerate(objects.relations)
        for own in map(Relation._make, relations)
        if own.object in rows
    ]


def ranked(objects: Instances) -> list[Triplet]:
    """The relations of `triplets_of`, by descending score; of equals, in the order of their subjects."""
    return sorted(triplets_of(objects), key=lambda triplet: -triplet.score)


def likely(objects: Instances, least: float = 0.5) -> list[Triplet]:
    """The relations of `ranked` that hold rather than not: the probability of the predicate is at least `least`.

    The score of a predicted relation is this probability times the scores of both objects.
    """
    scores = objects.scores.tolist() if "scores" in objects else [1.0] * len(objects)
    return [t for t in ranked(objects) if t.score >= least * scores[t.subject] * scores[t.object]]


def with_triplets(objects: Instances, triplets: Sequence[Triplet]) -> Instances:
    """The objects with the fields `keys` and `relations`; the keys are their rows.

    Args:
        objects: N objects.
        triplets: relations between rows 0 … N−1.

    Raises:
        InputError: a relation names an object that does not exist.
    """
    count = len(objects)
    relations: list[list[Relation]] = [[] for _ in range(count)]
    for triplet in triplets:
        for row in (triplet.subject, triplet.object):
            if not 0 <= row < count:
                raise InputError(
                    f"{objects.source or 'an image'} has the relation {triplet.subject} {triplet.predicate} "
                    f"{triplet.object}, but its objects are numbered 0 to {count - 1}; correct or remove the relation"
                )
        relations[triplet.subject].append(Relation(triplet.predicate, triplet.object, triplet.score))
    device = objects.boxes.device if "boxes" in objects else None
    return objects.replace(keys=torch.arange(count, device=device), relations=relations)


def with_distinct_keys(parts: Sequence[Instances]) -> list[Instances]:
    """The same objects of several images with keys that are distinct in all of them, for joining the objects."""
    found, first = [], 0
    for part in parts:
        if "keys" in part and len(part):
            low = first - int(part.keys.min())
            if "relations" in part:
                relations = [[own._replace(object=own.object + low) for own in row] for row in part.relations]
                part = part.replace(relations=relations)
            part = part.replace(keys=part.keys + low)
            first = int(part.keys.max()) + 1
        found.append(part)
    return found
