"""Scenes as a dataset in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sightline.data.blob import Blob
from sightline.data.dataset import Dataset
from sightline.data.scenes.catalog import CLASSES, SEMANTIC_CLASSES
from sightline.data.scenes.events import video_scenes
from sightline.data.scenes.scene import Scene
from sightline.data.scenes.still import render
from sightline.data.tables import Table
from sightline.errors import InputError
from sightline.ops.masks import mask_to_rle
from sightline.progress import progress_bar
from sightline.structures import Instances
from sightline.structures.view import View

STREAMS = ("memory", "train", "val", "test")
"""Streams of seeds: each has its own seeds, so that no scene is in two of them."""

_BLOCK = 1_000_000
_KEPT = ("keypoints", "cuboids", "captions", "visibility", "colours", "materials", "sizes")
ABOUT = ("captions", "relations", "cuboids", "meshes")
"""Kinds of scenes whose labels are objects with one field for another task than detection."""
WRITTEN = ("instances", *ABOUT, "events")
"""Kinds of scenes that `write_scenes` can write."""
Kind = Literal["instances", "class_map", "class_scores", "captions", "relations", "cuboids", "meshes", "events"]


def scene_seeds(n: int, seed: int, stream: str) -> range:
    """The seeds for `render` of `n` scenes of a stream; different seeds and streams never overlap.

    Raises:
        InputError: n or seed is out of range.
    """
    if not isinstance(n, int) or not 0 <= n <= _BLOCK:
        raise InputError(f"the number of scenes is {n!r}, but must be between 0 and a million")
    if not isinstance(seed, int) or not 0 <= seed < 1 << 40:
        raise InputError(f"the seed of a set of scenes is {seed!r}, but must be between 0 and 2⁴⁰ − 1")
    start = (len(STREAMS) * seed + STREAMS.index(stream)) * _BLOCK
    return range(start, start + n)


def render_all(seeds: Sequence[int], size: int | tuple[int, int], progress: bool, **options: Any) -> Iterator[Scene]:
    """Render the scenes of `seeds` one after the other, optionally with a progress bar on stderr."""
    with progress_bar(len(seeds), "rendering", progress) as advance:
        for seed in seeds:
            yield render(seed, size, **options)
            advance(1)


def scenes(
    n: int,
    size: int | tuple[int, int] = 160,
    seed: int = 0,
    *,
    fields: Sequence[str] = (),
    kind: Kind = "instances",
    objects: tuple[int, int] = (2, 7),
    progress: bool = False,
) -> Dataset:
    """Create a dataset of rendered scenes in memory, with about 10 ms and 80 kB per scene at 160×160.

    It contains the mask, keypoints, cuboid, caption, visibility, colour, material and size of each object; targets
    include them after `with_fields("masks", …)`, or directly with `fields`. `table("relations", i)` contains the
    relations between objects; `image_extra(i)` contains the "captions" of the image, the "matrix" and "extrinsics" of
    its camera, and the "seed" with which `render` creates the same scene again, with depth and meshes.

    Args:
        n: number of scenes.
        size: (height, width) in pixels, or one number for both.
        seed: random seed; different seeds give different scenes, none of which is used by `write_scenes`.
        fields: fields of targets besides boxes, labels, crowd, difficult and areas: "masks", "keypoints", "cuboids",
            "captions", "visibility", "colours", "materials", "sizes".
        kind: type of target: objects; the semantic map (classes `catalog.SEMANTIC_CLASSES`); or one label per image,
            the class with the largest visible area (with objects=(1, 1): the class of the object); or objects for
            another task, one of `ABOUT`. With "cuboids" and "meshes" images are a `View` with the camera, with
            "cuboids" also with its depth map; with "meshes" objects have their mesh in the camera frame. With
            "events" there are `n` videos of 2 seconds with at most 5 objects, some of which move.
        objects: minimum and maximum number of objects per scene.
        progress: show a progress bar.

    Raises:
        InputError: an argument is out of range, or a field is unknown.
    """
    if kind not in _MAKERS and kind != "events":
        raise InputError(f"kind is {kind!r}, but must be one of {', '.join(_MAKERS)}, events")
    for name in fields:
        if name not in (*_KEPT, "masks"):
            raise InputError(f"scenes have no field {name!r}; available: masks, {', '.join(_KEPT)}")
    if kind == "events":
        return video_scenes(scene_seeds(n, seed, "memory"), size, objects, progress)
    dataset = _MAKERS[kind](render_all(scene_seeds(n, seed, "memory"), size, progress, objects=objects))
    return dataset.with_fields(*fields) if n and dataset.label_kind.has_objects else dataset


def _of_objects(rendered: Iterable[Scene], about: str = "") -> Dataset:
    images: list[Tensor] = []
    truths: list[Instances] = []
    outlines: list[str] = []
    extra: list[dict[str, Any]] = []
    relations: list[list[dict[str, Any]]] = []
    for scene in rendered:
        images.append(_view(scene, about) if about in ("cuboids", "meshes") else _image_tensor(scene))
        truths.append(scene.instances((*_KEPT, "meshes") if about == "meshes" else _KEPT))
        # Masks are packed scene by scene: as bitmaps, those of all scenes would take more memory than the images.
        outlines += [json.dumps(mask_to_rle(o.mask), separators=(",", ":")) for o in scene.objects]
        extra.append(image_facts(scene))
        relations.append([asdict(relation) for relation in scene.relations])
    tables = {
        "relations": Table.from_rows(relations, ("subject", "object"), columns=("subject", "predicate", "object"))
    }
    dataset = Dataset.from_instances(images, truths, CLASSES, image_extra=extra, tables=tables, about=about)
    return dataset.with_columns(dataset.columns.replace(segmentations=Blob.of(outlines)))


def _of_maps(rendered: Iterable[Scene]) -> Dataset:
    pairs = [(_image_tensor(scene), scene.class_map().labels) for scene in rendered]
    return Dataset.from_class_maps([image for image, _ in pairs], [labels for _, labels in pairs], SEMANTIC_CLASSES)


def _of_labels(rendered: Iterable[Scene]) -> Dataset:
    pairs = [(_image_tensor(scene), _largest(scene)) for scene in rendered]
    return Dataset.from_labels([image for image, _ in pairs], [label for _, label in pairs], CLASSES)


def _largest(scene: Scene) -> int:
    """The class with the largest visible area in a scene."""
    return int(np.bincount(scene.labels, [o.area for o in scene.objects], len(CLASSES)).argmax())


def _image_tensor(scene: Scene) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(scene.image.transpose(2, 0, 1)))


def _view(scene: Scene, about: str) -> Tensor:
    depth = torch.from_numpy(scene.depth) if about == "cuboids" else None
    return View(_image_tensor(scene), scene.camera.matrix, depth)


_MAKERS: dict[str, Callable[[Iterable[Scene]], Dataset]] = {
    "instances": _of_objects,
    "class_map": _of_maps,
    "class_scores": _of_labels,
    **{about: partial(_of_objects, about=about) for about in ABOUT},
}
"""Functions that create a dataset of rendered scenes, by kind of label."""


def image_facts(scene: Scene) -> dict[str, Any]:
    """Data about the whole image, as JSON values."""
    return {
        "captions": [scene.caption],
        "camera": {
            "matrix": scene.camera.matrix.round(6).tolist(),
            "extrinsics": scene.camera.extrinsics.round(9).tolist(),
        },
        "seed": scene.seed,
    }
