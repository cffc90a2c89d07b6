"""What labels are about besides objects: how much of it there is, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from sightline.data.cameras import needs_cameras
from sightline.data.check.images import ImageInspection
from sightline.data.check.problems import Problem
from sightline.data.dataset import Dataset
from sightline.data.events import TABLE as EVENTS
from sightline.data.relations import TABLE as RELATIONS
from sightline.errors import InputError
from sightline.structures.meshes import Mesh
from sightline.structures.vocabulary import tokens_of
from sightline.words import counted

_CAPTIONS, _MESHES = "captions", "meshes"
_DIFFERENT = 0.1
"""A stated duration is wrong if it differs from that of the video by more than this fraction, and a second."""


def described(dataset: Dataset) -> str:
    """What the labels are about, in a line, such as "relations: 486 relations, 9 predicates"; "" for objects alone."""
    columns = dataset.columns
    if EVENTS in columns.tables:
        return f"events: {_with_words(_sentences(dataset), 'event')}"
    if dataset.about == _CAPTIONS and columns.captions is not None:
        return f"captions: {_with_words([text for text in columns.captions.texts() if text], 'caption')}"
    if dataset.about == RELATIONS and RELATIONS in columns.tables:
        predicates = columns.tables[RELATIONS].columns["predicate"]
        found = [predicate.decode() for predicate in predicates]
        return f"relations: {counted(len(found), 'relation')}, {counted(len(set(found)), 'predicate')}"
    column = columns.extra.get(dataset.about)
    if needs_cameras((dataset.about,)) and isinstance(column, np.ndarray):
        known = np.isfinite(column).all(1).sum() if column.dtype.kind == "f" else len(column)
        return f"{dataset.about}: {counted(int(known), 'object')} with one"
    return dataset.about if dataset.about in dataset.source.later else ""


def _sentences(dataset: Dataset) -> list[str]:
    table = dataset.columns.tables[EVENTS]
    return [row["caption"] for i in range(table.images) for row in table.of(i)]


def open_meshes(target: Any) -> int:
    """The number of a target's meshes whose surface has a border, so that they have no inside."""
    from sightline.ops.meshes.voxelise import is_closed

    return sum(not is_closed(Mesh.of(mesh)) for mesh in target.meshes) if _MESHES in target else 0


def _with_words(texts: list[str], what: str) -> str:
    words = {word for text in texts for word in tokens_of(text)}
    return f"{counted(len(texts), what)}, {counted(len(words), 'different word')}"


def captions_without_words(dataset: Dataset) -> Iterator[Problem]:
    """Captions of labels about captions that are empty, or have no word, from which nothing can be learned."""
    columns = dataset.columns
    if dataset.about != _CAPTIONS or columns.captions is None:
        return
    empty = np.array([not tokens_of(text) for text in columns.captions.texts()], dtype=bool)
    for i in np.unique(columns.image_of[empty]).tolist():
        rows = np.flatnonzero(empty & (columns.image_of == i))
        text = columns.captions.text(int(rows[0]))
        of = f"{len(rows)} of its {counted(int((columns.image_of == i).sum()), 'object')}"
        has = "has" if len(rows) == 1 else "have"
        yield Problem.of("caption-without-words", f"{of} {has} a caption without words, {text!r}", dataset.name(i))


def unknown_cameras(dataset: Dataset) -> Iterator[Problem]:
    """Images without a camera, among labels in metres."""
    if not needs_cameras((dataset.about,)):
        return
    without = []
    for i in range(len(dataset)):
        try:
            without += [] if dataset.camera(i) is not None else [dataset.name(i)]
        except InputError:  # reported as a label that cannot be used
            continue
    if without:
        of = f"{counted(len(without), 'image')} of {len(dataset)}, such as {without[0]}"
        yield Problem.of("camera-unknown", of)


def depth_problems(dataset: Dataset, sizes: Any, full: bool) -> Iterator[Problem]:
    """Depth maps that are missing, or cannot be read as one depth per pixel of their image.

    Args:
        dataset: the dataset.
        sizes: [N, 2] (height, width) of the images.
        full: read the depth maps; otherwise only look whether they are there.
    """
    if not needs_cameras((dataset.about,)):
        return
    for i in range(len(dataset)):
        name = dataset.name(i)
        try:
            path = dataset.depth_path(i)
            if path is None:
                continue
            if not path.is_file():
                raise InputError(f"its depth map {path} does not exist")
            if full and min(sizes[i]) > 0:
                dataset.camera(i, (int(sizes[i][0]), int(sizes[i][1])))
        except InputError as error:
            yield Problem.of("depth-invalid", str(error).removeprefix(f"{name}: "), name)


def wrong_durations(dataset: Dataset, looks: list[ImageInspection]) -> Iterator[Problem]:
    """Videos whose labels state another duration, by which the times of their events are meant."""
    extra = dataset.columns.image_extra
    if EVENTS not in dataset.columns.tables or extra is None:
        return
    for i, one in enumerate(looks):
        stated = float(json.loads(extra[i])["duration"])
        if one.duration is not None and abs(stated - one.duration) > max(1.0, _DIFFERENT * one.duration):
            value = f"the label says {stated:g} s, but the video is {one.duration:.4g} s long"
            yield Problem.of("duration-differs", value, dataset.name(i))
