"""GeoJSON (RFC 7946): boxes and masks as polygons, in pixels or in the coordinates of a map.

A tile of a map has an affine transform from pixels to coordinates, (a, b, c, d, e, f) as in rasterio's `transform`:

    x = a · column + b · row + c,  y = d · column + e · row + f

where columns and rows are counted from the outer corner of the top-left pixel, like boxes. Coordinates are whatever the
transform yields; RFC 7946 requires longitude and latitude (WGS 84).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.interop._fields import (
    ClassNames,
    class_id,
    class_name,
    known_classes,
    number_of,
    require_keys,
    require_objects,
)
from sightline.ops.geometry import following
from sightline.ops.masks import polygons_to_mask
from sightline.ops.outlines import trace_parts
from sightline.structures import BACKGROUND, IGNORE, ClassMap, Instances, Size
from sightline.structures.size import as_size

Affine = Sequence[float]
"""(a, b, c, d, e, f); additional numbers, as in rasterio's `Affine` (0, 0, 1), are ignored."""
PIXELS: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
"""The transform that leaves pixels as they are: x to the right and y down."""
_TINY = 1e-6
"""Rounding of coordinates, in pixels."""
_SHOWN = ("boxes", "labels", "masks")


def to_geojson(result: Any, transform: Affine = PIXELS) -> dict[str, Any]:
    """Objects, or the areas of a class map, as a GeoJSON feature collection.

    Args:
        result: objects (`Instances`) or a class map (`ClassMap`). An object with a mask becomes the outlines of its
            pixels, with holes; any other object its box.
        transform: affine transform from pixels to coordinates; by default coordinates are pixels.

    Returns:
        A `FeatureCollection` whose features have a Polygon or MultiPolygon (None for an empty mask), and the
        properties "class", "label" and the object's other fields, such as "score". Outlines are counterclockwise and
        holes clockwise in the coordinates, as the RFC asks. A class map has one feature per class, without ignored
        pixels and the class "background".

    Raises:
        InputError: the transform cannot be inverted, or the result has another type.
    """
    matrix = _matrix(transform)
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": list(_features(result, matrix))}
    return collection if result.source is None else collection | {"image": result.source}


@singledispatch
def _features(result: Any, matrix: np.ndarray) -> Iterator[dict[str, Any]]:
    result = require_objects(result, "GeoJSON")
    more = [
        (row.json or row.name, row, geometry, values)
        for row, geometry, values in following(result)
        if row.name not in _SHOWN and row.json is not None
    ]
    for i, label in enumerate(result.labels.tolist()):
        properties: dict[str, Any] = {"class": class_name(label, result.classes), "label": label}
        properties |= {name: geometry.written(values[i], row) for name, row, geometry, values in more}
        if "masks" in result:
            shape = _outlines(result.masks[i].numpy(), matrix)
        else:
            x1, y1, x2, y2 = result.boxes[i].double().tolist()
            shape = _polygon([np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])], matrix)
        yield {"type": "Feature", "geometry": shape, "properties": properties}


@_features.register
def _of_map(result: ClassMap, matrix: np.ndarray) -> Iterator[dict[str, Any]]:
    labels = result.labels.cpu()
    for label in labels.unique().tolist():
        name = class_name(label, result.classes) if label != IGNORE else ""
        if label == IGNORE or name == BACKGROUND:
            continue
        inside = labels == label
        properties = {"class": name, "label": label, "pixels": int(inside.sum())}
        yield {"type": "Feature", "geometry": _outlines(inside.numpy(), matrix), "properties": properties}


def _outlines(inside: np.ndarray, matrix: np.ndarray) -> dict[str, Any] | None:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return None
    corner = np.array([columns[0], rows[0]], dtype=np.float64)
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    polygons = [_polygon([ring + corner for ring in part], matrix) for part in trace_parts(inside)]
    if len(polygons) == 1:
        return polygons[0]
    return {"type": "MultiPolygon", "coordinates": [polygon["coordinates"] for polygon in polygons]}


def _polygon(rings: Sequence[np.ndarray], matrix: np.ndarray) -> dict[str, Any]:
    """A polygon from an outline and its holes, [P, 2] in pixels."""
    coordinates = []
    for number, ring in enumerate(rings):
        points = ring @ matrix[:, :2].T + matrix[:, 2]
        x, y = points.T
        counterclockwise = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0  # with y up, as on a map
        points = points if counterclockwise == (number == 0) else points[::-1]
        coordinates.append([*points.tolist(), points[0].tolist()])
    return {"type": "Polygon", "coordinates": coordinates}


def _matrix(transform: Affine) -> np.ndarray:
    try:
        numbers = [float(value) for value in transform]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (6, 9) or not all(map(math.isfinite, numbers)):
        raise InputError(
            f"transform must be six numbers (a, b, c, d, e, f) with x = a · column + b · row + c and y = d · column + "
            f"e · row + f, not {str(transform)[:80]}"
        )
    matrix = np.array(numbers[:6]).reshape(2, 3)
    if np.linalg.det(matrix[:, :2]) == 0:
        raise InputError(f"the transform {numbers[:6]} maps the image onto a line; correct its numbers")
    return matrix


def from_geojson(
    collection: Mapping[str, Any],
    image_size: Size,
    classes: ClassNames = None,
    transform: Affine = PIXELS,
    *,
    class_property: str = "class",
    source: str | None = None,
) -> Instances:
    """Objects with boxes and masks from the polygons of a feature collection; the inverse of `to_geojson`.

    Args:
        collection: a `FeatureCollection` of Polygon and MultiPolygon features.
        image_size: (height, width) of the image in pixels. Parts of polygons outside the image are cut off.
        classes: names of the classes in the order of their ids; None takes them from the features, sorted.
        transform: affine transform from pixels to coordinates, as for `to_geojson`.
        class_property: the property with the class name. Without it, the property "label" has the class id.
        source: file or item, for messages.

    Returns:
        Objects with boxes, labels, masks, and scores if all features have one.

    Raises:
        InputError: it is no feature collection, a geometry is no polygon or lies wholly outside the image, or a class
            is unknown.
    """
    what = source or "the GeoJSON"
    collection = require_keys(collection, ("features",), what)
    matrix, image_size = _matrix(transform), as_size(image_size)
    if not isinstance(collection["features"], list | tuple):
        raise InputError(f"{what}: features is {str(collection['features'])[:60]}, but must be a list of features")
    features = [
        require_keys(one, ("geometry", "properties"), f"{what}: feature {i}")
        for i, one in enumerate(collection["features"])
    ]
    names = [_class_of(one["properties"], class_property, f"{what}: feature {i}") for i, one in enumerate(features)]
    if classes is None and all(isinstance(name, str) for name in names):
        classes = sorted(set(names))
    known = known_classes(classes)
    shapes = [_read(one["geometry"], matrix, image_size, f"{what}: feature {i}") for i, one in enumerate(features)]
    fields: dict[str, Any] = {
        "boxes": torch.stack([box for box, _ in shapes]) if shapes else torch.zeros(0, 4),
        "labels": torch.tensor([class_id(name, known, what) for name in names], dtype=torch.int64),
        "masks": torch.stack([mask for _, mask in shapes]) if shapes else torch.zeros(0, *image_size, dtype=torch.bool),
    }
    scores = [one["properties"]["score"] for one in features if "score" in one["properties"]]
    if scores and len(scores) == len(features):
        fields["scores"] = torch.tensor(
            [number_of(score, f"{what}: feature {i}: score") for i, score in enumerate(scores)]
        )
    return Instances(image_size, classes=known, source=source, **fields)


def _class_of(properties: Any, key: str, what: str) -> Any:
    properties = require_keys({} if properties is None else properties, (), f"{what}: properties")
    found = properties.get(key, properties.get("label"))
    if found is None:
        raise InputError(f"{what} has no property {key!r}; name the one with the class by class_property=…")
    return found


def _read(geometry: Any, matrix: np.ndarray, size: Size, what: str) -> tuple[Tensor, Tensor]:
    """Box [4] in pixels, clipped to the image, and mask [H, W] of a geometry."""
    if geometry is None:
        return torch.zeros(4), torch.zeros(size, dtype=torch.bool)
    geometry = require_keys(geometry, ("type", "coordinates"), f"{what}: geometry")
    if str(geometry["type"]) not in ("Polygon", "MultiPolygon"):
        raise InputError(f"{what} is a {geometry['type']}, but only a Polygon or MultiPolygon is an area; remove it")
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    parts = _rings(parts, what)
    if not parts:  # RFC 7946, section 3.1: empty coordinates are a null geometry
        return torch.zeros(4), torch.zeros(size, dtype=torch.bool)
    inverse = np.linalg.inv(matrix[:, :2])
    mask = torch.zeros(size, dtype=torch.bool)
    points = []
    for part in parts:
        rings = [(ring - matrix[:, 2]) @ inverse.T for ring in part]
        points.append(rings[0])
        area = polygons_to_mask([rings[0]], size)
        for hole in rings[1:]:
            area &= ~polygons_to_mask([hole], size)
        mask |= area
    corners = np.concatenate(points)
    low, high, limit = corners.min(0), corners.max(0), np.array([size[1], size[0]])
    box = np.concatenate((low.clip(0, limit), high.clip(0, limit)))
    nothing_left = (box[:2] == box[2:]) & (high - low > _TINY)  # not an object that has no area itself
    if (nothing_left | (low > limit + _TINY) | (high < -_TINY)).any():
        raise InputError(
            f"{what} lies outside the image of {size[1]} × {size[0]} pixels: x {low[0]:g} to {high[0]:g}, y {low[1]:g} "
            f"to {high[1]:g}; give the transform from pixels to its coordinates, or leave the feature out"
        )
    return torch.from_numpy(box).float(), mask


def _rings(parts: Any, what: str) -> list[list[np.ndarray]]:
    """The rings [P, 2] of each polygon that has any.

    Raises:
        InputError: they are no lists of positions.
    """
    try:
        found = [[np.array(ring, dtype=np.float64)[:, :2] for ring in part] for part in parts]
        if all(ring.shape == (len(ring), 2) for part in found for ring in part):
            return [part for part in found if part and len(part[0])]
    except (TypeError, ValueError, IndexError):
        pass
    raise InputError(f"{what} has coordinates that are no rings of positions [x, y]; correct or remove it")
