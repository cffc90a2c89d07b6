"""Data that COCO stores in files beside the instances: person keypoints, captions, and meshes (an extension)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.blob import Blob, column_of_objects
from sightline.data.formats.coco_columns import read_file
from sightline.data.keypoint_pairs import of_categories
from sightline.data.mesh_files import MeshFile
from sightline.data.source import Source
from sightline.errors import InputError

Files = Sequence[tuple[Path, str]]
"""Files, each with the folder that is put before its image names."""


def add_keypoints(files: Files, source: Source) -> Source:
    """Load keypoints for annotations with the same id and image in `files`; other annotations get zeros."""
    columns = source.columns
    rows = {name: row for row, name in enumerate(columns.names.texts())}
    found: list[tuple[np.ndarray, np.ndarray]] = []
    categories: list[dict[str, Any]] = []
    for path, folder in files:
        file = read_file(path, folder, 0, None)
        more = file.columns
        categories += file.categories
        if more.keypoints is None:
            continue
        image = np.array([rows.get(name, -1) for name in more.names.texts()], np.int64)[more.image_of]
        place = _match(columns.image_of, columns.ids, image, more.ids)
        found.append((place[place >= 0], more.keypoints[place >= 0]))
    points = max((values.shape[1] for _, values in found), default=0)
    keypoints = np.zeros((columns.objects, points, 3), np.float32)
    for place, values in found:
        keypoints[place, : values.shape[1]] = values
    return with_keypoint_names(replace(source, columns=columns.replace(keypoints=keypoints)), categories)


def with_keypoint_names(source: Source, categories: Iterable[Mapping[str, Any]]) -> Source:
    """Add the names and the mirror permutation of the categories' keypoints, if they fit the objects' keypoints.

    If the objects have fewer keypoints than the longest list of names, absent ones are added. If they have more, there
    are no names and no permutation, and a note says so.

    Raises:
        InputError: the keypoints seem to have two numbers each instead of three.
    """
    categories = list(categories)
    names, swap = of_categories(categories)
    keypoints = source.columns.keypoints
    if keypoints is None or not keypoints.shape[1]:
        return replace(source, keypoint_names=names, keypoint_swap=swap)
    points = keypoints.shape[1]
    lists = [category.get("keypoints") for category in categories]
    totals = {len(own) for own in lists if isinstance(own, list) and own}
    named = max([*totals, 0 if swap is None else len(swap)])
    if totals and points not in totals and {3 * points} & {2 * total for total in totals}:
        where = source.label_files[0] if source.label_files else source.root
        raise InputError(
            f"{where}: the annotations have {3 * points} numbers for "
            f"{3 * points // 2} keypoints, but each point has three: x, y, visibility; add a 2 after each x, y"
        )
    if points < named:
        padded = np.zeros((len(keypoints), named, 3), np.float32)
        padded[:, :points] = keypoints
        source = replace(source, columns=source.columns.replace(keypoints=padded))
    elif named and points > named:
        note = (
            f"objects have {points} keypoints, but the categories name {named}: the names are not used, and images "
            "with keypoints are not mirrored in training"
        )
        return replace(source, notes=tuple(dict.fromkeys([*source.notes, note])))
    return replace(source, keypoint_names=names, keypoint_swap=swap if swap is None or len(swap) == named else None)


def _match(images: np.ndarray, ids: np.ndarray, more_images: np.ndarray, more_ids: np.ndarray) -> np.ndarray:
    """For each of (more_images, more_ids), the row of the same pair in (images, ids), or −1."""
    _, small = np.unique(np.concatenate([ids, more_ids]), return_inverse=True)  # so that a pair fits into one int64
    keys = np.concatenate([images, more_images]) * (len(small) + 1) + small
    own, queries = keys[: len(ids)], keys[len(ids) :]
    if not len(own):
        return np.full(len(queries), -1, np.int64)
    order = np.argsort(own, kind="stable")
    place = order[np.minimum(np.searchsorted(own[order], queries), len(own) - 1)]
    return np.where(own[place] == queries, place, -1)


def add_captions(files: Files, source: Source) -> Source:
    """Load captions of images with the same name in `files`, under "captions" in `image_extra`."""
    columns = source.columns
    rows = {name: row for row, name in enumerate(columns.names.texts())}
    extra = list(columns.image_extra) if columns.image_extra is not None else [b""] * columns.images
    for path, folder in files:
        more = read_file(path, folder, 0, None).columns
        if more.image_extra is None:
            continue
        for name, entry in zip(more.names.texts(), more.image_extra, strict=True):
            captions = json.loads(entry).get("captions") if entry else None
            if captions and name in rows:
                known = json.loads(extra[rows[name]] or b"{}") | {"captions": captions}
                extra[rows[name]] = json.dumps(known, separators=(",", ":"), ensure_ascii=False).encode()
    return replace(source, columns=columns.replace(image_extra=Blob.of(extra)))


def add_meshes(root: Path, source: Source) -> Source:
    """Find the mesh of each annotation: its "mesh" names a file relative to the root, in the frame of the camera."""
    columns = source.columns
    extra = dict(columns.extra)
    names = list(extra.pop("mesh"))
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name:
            image = columns.names.text(int(columns.image_of[row]))
            raise InputError(
                f'{image}: the "mesh" of annotation {columns.ids[row]} is {str(name)[:60]!r}, but must be the path of '
                "a mesh file; correct it"
                if name
                else f'{image}: annotation {columns.ids[row]} has no mesh, although others have one; add its "mesh", '
                "or remove the annotation"
            )
    meshes = column_of_objects([MeshFile(str(root / name)) for name in names])
    return replace(source, columns=columns.replace(extra={**extra, "meshes": meshes}))
