"""Join the objects found in overlapping tiles of an image, so that each object is there once and whole.

Two tiles that overlap both see the whole of their overlap. So an object found in both has the same part there: two
objects of one class are the same if the parts of their masks, or else of their boxes, inside the overlap agree. Of an
object that several tiles found, the result of the tile that sees it whole and furthest from its border is kept; if all
tiles cut it, their boxes and masks are united. An object that no border comes near is exactly what its tile predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.ops.boxes import box_area, box_iou
from sightline.ops.geometry import following, place_instances
from sightline.structures import Instances, Size

AGREEMENT = 0.5
"""Minimum IoU, inside the overlap of two tiles, of the masks or boxes of one object."""
COVERED = 0.7
"""A cut object without a counterpart is dropped if an object of its class covers this fraction of its box."""
MARGIN = 0.02
"""A box that comes nearer to an inner border than this fraction of the tile's side (at least 2 pixels) is cut by it."""


@dataclass(frozen=True)
class Tile:
    """Rows `top` … `bottom` and columns `left` … `right` of an image."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Part:
    """The objects found in one tile.

    Attributes:
        tile: the tile.
        result: the objects, on the CPU, in pixels of the tile.
        coarse: whether they were found in a smaller picture of the whole image, so that small objects are less exact.
    """

    tile: Tile
    result: Instances
    coarse: bool = False


@dataclass(frozen=True)
class _Found:
    """All objects, in pixels of the image.

    Attributes:
        boxes: [N, 4]. labels, part: [N] int64. scores: [N]. depth: [N], distance from the box to the nearest inner
            border of its tile. cut, coarse: [N] bool.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    part: Tensor
    depth: Tensor
    cut: Tensor
    coarse: Tensor


def join_parts(parts: Sequence[Part], size: Size, overlap: int) -> Instances:
    """The objects of an image from those of its tiles.

    Args:
        parts: at least one; tiles that overlap their neighbours.
        size: (height, width) of the image.
        overlap: pixels shared by neighbouring tiles. A coarse object that is not larger and was found in no tile is
            left out, since a tile would have shown it whole.

    Returns:
        The objects in pixels of the image, by descending score. An object cut by all its tiles has the union of their
        boxes and masks, the highest score, and its other fields from the part with the largest box.
    """
    found = _found(parts, size)
    kept, groups = [], []
    for group in _groups(parts, found):
        best = _best(found, group)
        if len(group) > 1 or not found.coarse[best] or _longer_side(found.boxes[best]) > overlap:
            kept.append(best)
            groups.append(group)
    united = [group if bool(found.cut[group].all()) else [best] for group, best in zip(groups, kept, strict=True)]
    rows = torch.tensor(kept, dtype=torch.int64)
    boxes = torch.stack([_union(found.boxes[group]) for group in united]) if united else found.boxes[:0]
    scores = torch.stack([found.scores[group].max() for group in united]) if united else found.scores[:0]
    alone = torch.tensor([len(group) == 1 for group in groups], dtype=torch.bool)
    order = (~_covered(found, rows, boxes, alone)).nonzero().flatten()
    order = order[scores[order].argsort(descending=True, stable=True)]
    return _gathered(parts, found, size, [united[i] for i in order.tolist()], rows[order], boxes[order], scores[order])


def _found(parts: Sequence[Part], size: Size) -> _Found:
    boxes, depths, cuts = [], [], []
    for part in parts:
        tile, own = part.tile, part.result.boxes.float()
        own = own + own.new_tensor([tile.left, tile.top, tile.left, tile.top])
        ends = own.new_tensor([tile.left, tile.top, tile.right, tile.bottom])
        inner = torch.tensor([tile.left > 0, tile.top > 0, tile.right < size[1], tile.bottom < size[0]])
        depth = (own - ends) * own.new_tensor([1, 1, -1, -1])
        depth = depth.masked_fill(~inner, float("inf")).amin(1)
        boxes.append(own)
        depths.append(depth)
        cuts.append(depth < max(2.0, MARGIN * min(tile.bottom - tile.top, tile.right - tile.left)))
    counts = torch.tensor([len(part.result) for part in parts])
    number = torch.arange(len(parts)).repeat_interleave(counts)
    scores = [p.result.scores if "scores" in p.result else torch.ones(len(p.result)) for p in parts]
    labels = [p.result.labels if "labels" in p.result else torch.zeros(len(p.result)).long() for p in parts]
    return _Found(
        torch.cat(boxes),
        torch.cat(labels),
        torch.cat(scores),
        number,
        torch.cat(depths),
        torch.cat(cuts),
        torch.tensor([part.coarse for part in parts])[number],
    )


def _groups(parts: Sequence[Part], found: _Found) -> list[list[int]]:
    """The objects that are one, as lists of their numbers; no two of a group are of one tile."""
    matches: list[tuple[float, int, int]] = []
    rows = [(found.part == k).nonzero().flatten() for k in range(len(parts))]
    for s in range(len(parts)):
        for t in range(s + 1, len(parts)):
            zone = _overlap(parts[s].tile, parts[t].tile)
            if zone is not None:
                matches += _matches(parts, found, rows[s], rows[t], zone)
    group_of = list(range(len(found.boxes)))
    members = {i: [i] for i in group_of}
    tiles = {i: {int(part)} for i, part in enumerate(found.part.tolist())}
    for _, a, b in sorted(matches, key=lambda match: -match[0]):
        one, other = group_of[a], group_of[b]
        if one == other or tiles[one] & tiles[other]:
            continue  # a tile that found two objects knows that they are two
        for member in members[other]:
            group_of[member] = one
        members[one] += members.pop(other)
        tiles[one] |= tiles.pop(other)
    return list(members.values())


def _overlap(a: Tile, b: Tile) -> Tile | None:
    """What both tiles see; None if that is nothing."""
    zone = Tile(max(a.top, b.top), max(a.left, b.left), min(a.bottom, b.bottom), min(a.right, b.right))
    return zone if zone.left < zone.right and zone.top < zone.bottom else None


def _matches(
    parts: Sequence[Part], found: _Found, rows: Tensor, columns: Tensor, zone: Tile
) -> list[tuple[float, int, int]]:
    """(agreement, object, object) of pairs of one class, each object at most once, the best first."""
    low, high = torch.tensor([[zone.left, zone.top] * 2, [zone.right, zone.bottom] * 2], dtype=torch.float32)
    rows, columns = (
        ids[(found.boxes[ids, :2] < high[:2]).all(1) & (found.boxes[ids, 2:] > low[:2]).all(1)]
        for ids in (rows, columns)
    )
    if not len(rows) or not len(columns):
        return []
    masks = [_masks_inside(parts, found, ids, zone) for ids in (rows, columns)]
    if masks[0] is not None and masks[1] is not None:
        shared = masks[0] @ masks[1].T
        agreement = shared / (masks[0].sum(1)[:, None] + masks[1].sum(1) - shared).clamp(min=1)
    else:
        agreement = box_iou(found.boxes[rows].clamp(low, high), found.boxes[columns].clamp(low, high)).nan_to_num(
            nan=0.0
        )
    agreement *= found.labels[rows][:, None] == found.labels[columns]
    pairs: list[tuple[float, int, int]] = []
    a, b = (agreement >= AGREEMENT).nonzero(as_tuple=True)
    values = agreement[a, b]
    taken: tuple[set[int], set[int]] = (set(), set())
    for k in values.argsort(descending=True, stable=True).tolist():
        i, j = int(a[k]), int(b[k])
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            pairs.append((float(values[k]), int(rows[i]), int(columns[j])))
    return pairs


def _masks_inside(parts: Sequence[Part], found: _Found, ids: Tensor, zone: Tile) -> Tensor | None:
    """[n, pixels] float: the masks of objects of one tile inside a zone of it; None if they have none."""
    number = int(found.part[ids[0]])
    part = parts[number]
    if "masks" not in part.result:
        return None
    own = ids - int((found.part < number).sum())
    top, left = part.tile.top, part.tile.left
    inside: Tensor = part.result.masks[own, zone.top - top : zone.bottom - top, zone.left - left : zone.right - left]
    return inside.flatten(1).float()


def _best(found: _Found, group: list[int]) -> int:
    """The object of a group that is shown best: not cut, in full detail, far from the border, with a high score.

    Of objects that are all cut, the one with the largest box.
    """
    if bool(found.cut[group].all()):
        return max(group, key=lambda i: float(box_area(found.boxes[i])))
    return max(
        group,
        key=lambda i: (not found.cut[i], not found.coarse[i], float(found.depth[i]), float(found.scores[i])),
    )


def _covered(found: _Found, kept: Tensor, boxes: Tensor, alone: Tensor) -> Tensor:
    """[K] bool: cut objects without a counterpart that lie inside an object of their class from another tile."""
    if not len(kept):
        return torch.zeros(0, dtype=torch.bool)
    corner = torch.maximum(boxes[:, None, :2], boxes[:, :2])
    sides = (torch.minimum(boxes[:, None, 2:], boxes[:, 2:]) - corner).clamp(min=0)
    shared = sides.prod(-1) / box_area(boxes)[:, None].clamp(min=1e-6)
    other = found.part[kept][:, None] != found.part[kept]
    same = found.labels[kept][:, None] == found.labels[kept]
    larger = box_area(boxes)[:, None] < box_area(boxes)
    return alone & found.cut[kept] & ((shared >= COVERED) & other & same & larger).any(1)


def _union(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])


def _longer_side(box: Tensor) -> float:
    return float((box[2:] - box[:2]).max())


def _gathered(
    parts: Sequence[Part],
    found: _Found,
    size: Size,
    groups: Sequence[Sequence[int]],
    kept: Tensor,
    boxes: Tensor,
    scores: Tensor,
) -> Instances:
    """The kept objects with all their fields, the masks of united ones joined."""
    first = torch.tensor([0, *(len(part.result) for part in parts)]).cumsum(0)
    pieces: list[Instances] = []
    places: list[Tensor] = []
    for k, part in enumerate(parts):
        own = (found.part[kept] == k).nonzero().flatten()
        if len(own) or not pieces:
            rows = kept[own] - first[k]
            pieces.append(place_instances(part.result[rows], (part.tile.left, part.tile.top), size))
            places.append(own)
    back = torch.cat(places).argsort()
    result = _joined(pieces, size)[back]
    pixels = [(row, values) for row, geometry, values in following(result) if geometry.raster]
    for i, group in enumerate(groups):
        for member in group if len(group) > 1 else ():
            part = parts[int(found.part[member])]
            across = slice(part.tile.left, part.tile.right)
            for row, values in pixels:
                own_values = part.result.fields[row.name][member - int(first[found.part[member]])]
                if own_values.dtype == torch.bool:
                    values[i, part.tile.top : part.tile.bottom, across] |= own_values
    changed: dict[str, Any] = {"boxes": boxes} | ({"scores": scores} if "scores" in result else {})
    return result.replace(**changed)


def _joined(pieces: Sequence[Instances], size: Size) -> Instances:
    """The objects of several results, with the fields that all of them have."""
    full = [piece for piece in pieces if len(piece)] or list(pieces[:1])
    names = [name for name in full[0].fields if all(name in piece for piece in full)]
    fields: dict[str, Any] = {}
    for name in names:
        values = [piece.fields[name] for piece in full]
        if isinstance(values[0], Tensor):
            fields[name] = torch.cat(values)
        else:
            fields[name] = [value for part in values for value in part]
    return Instances.unchecked(size, classes=full[0].classes, source=full[0].source, **fields)
