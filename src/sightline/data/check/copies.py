"""Duplicate images: within a split, across splits, and with different classes or objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sightline.data.check import duplicates
from sightline.data.check.images import ImageInspection
from sightline.data.check.problems import Problem
from sightline.data.columns import Columns
from sightline.data.dataset import Dataset
from sightline.words import listed


def copies(dataset: Dataset, looks: Sequence[ImageInspection], columns: Columns) -> Iterator[Problem]:
    """Report duplicate images: exact duplicates first, then similar ones, one representative of each exact group.

    Args:
        dataset: the dataset with all its splits.
        looks: what was found in each image.
        columns: the dataset's columns.
    """
    by_digest: dict[bytes, list[int]] = {}
    for i, one in enumerate(looks):
        if one.digest is not None and one.rule is None:
            by_digest.setdefault(one.digest, []).append(i)
    classes = _classes(dataset, columns)
    for members in by_digest.values():
        if len(members) > 1:
            yield from _of_group(dataset, members, "duplicate", "is the same as", classes)
            if dataset.label_kind.has_objects and len({_objects(columns, i) for i in members}) > 1:
                yield _problem(dataset, members, "duplicate-in-objects", "is the same as", ())
    kinds = [members for members in by_digest.values() if looks[members[0]].thumbnail is not None]
    if len(kinds) < 2:
        return
    hashes = np.array([looks[members[0]].hash for members in kinds], dtype=np.uint64)
    thumbnails = np.stack([looks[members[0]].thumbnail for members in kinds])  # type: ignore[misc]
    pairs = duplicates.similar_pairs(hashes, thumbnails)
    for group in duplicates.groups(len(kinds), pairs):
        members = sorted(i for kind in group for i in kinds[kind])
        yield from _of_group(dataset, members, "similar", "looks like", classes)


def _classes(dataset: Dataset, columns: Columns) -> list[str] | None:
    """The class of each image if labels are one class per image, else None."""
    kind, names = dataset.label_kind, dataset.classes
    if kind.has_objects or kind.class_ids is None:
        return None
    labels, _ = kind.class_ids(columns)
    return [names[label] if 0 <= label < len(names) else f"class id {label}" for label in labels.tolist()]


def _objects(columns: Columns, image: int) -> tuple[tuple[float, ...], ...]:
    """The objects of an image in an order of their own: class and box in whole pixels."""
    rows = slice(columns.offsets[image], columns.offsets[image + 1])
    found = np.column_stack([columns.labels[rows], columns.boxes[rows].round()])
    return tuple(sorted(map(tuple, found.tolist())))


def _of_group(
    dataset: Dataset, members: Sequence[int], kind: str, verb: str, classes: Sequence[str] | None
) -> Iterator[Problem]:
    """Problems of a group of equal images: they are in several splits, have several classes, or are repeated."""
    splits = [dataset.split_of(i) for i in members]
    of = [] if classes is None else [classes[i] for i in members]
    if len(set(splits)) > 1:
        yield _problem(dataset, members, f"{kind}-across-splits", verb, splits)
    if len(set(of)) > 1:
        yield _problem(dataset, members, f"{kind}-in-classes", verb, of)
    elif len(set(splits)) == 1:
        yield _problem(dataset, members, f"{kind}-images", verb, ())


def _problem(dataset: Dataset, members: Sequence[int], rule: str, verb: str, parts: Sequence[str]) -> Problem:
    """One problem; if the images are in several parts (splits or classes), the part of each image is named."""
    first = dataset.name(members[0])
    if not parts:
        return Problem.of(rule, f"{verb} {listed([dataset.name(i) for i in members[1:]])}", first)
    # Images of other parts come first because they matter most.
    others = sorted(zip(members[1:], parts[1:], strict=True), key=lambda pair: pair[1] == parts[0])
    named = [f"{dataset.name(i)} ({part})" for i, part in others]
    return Problem.of(rule, f"in {parts[0]}, {verb} {listed(named)}", first)
