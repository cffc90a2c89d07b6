"""Ordered pairs of objects: their indices, the boxes around both, and their geometry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.ops.boxes import elementwise_iou

GEOMETRY = 18
"""Number of values of `pair_geometry`."""
_LEAST = 1e-3  # of the image's longer side: the least side of a box, for logarithms


def ordered_pairs(counts: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """All ordered pairs of two different objects of the same image.

    Args:
        counts: number of objects of each image.
        device: of the result.

    Returns:
        [E, 2] int64, subject and object of each pair as indices among the objects of all images. Pairs are ordered by
        image, then by subject, then by object.
    """
    found, first = [torch.zeros(0, 2, dtype=torch.int64, device=device)], 0
    for count in counts:
        rows = torch.arange(count, device=device)
        pairs = torch.cartesian_prod(rows, rows).reshape(-1, 2)
        found.append(pairs[pairs[:, 0] != pairs[:, 1]] + first)
        first += count
    return torch.cat(found)


def union_boxes(first: Tensor, second: Tensor) -> Tensor:
    """The smallest box around both boxes of each pair: [E, 4] and [E, 4] xyxy → [E, 4]."""
    return torch.cat([torch.minimum(first[:, :2], second[:, :2]), torch.maximum(first[:, 2:], second[:, 2:])], 1)


def pair_geometry(subjects: Tensor, objects: Tensor, sizes: Tensor) -> Tensor:
    """What the boxes of each pair say about where one is, seen from the other.

    Positions and sizes are fractions of the image's longer side, so that images of other sizes and aspect ratios have
    the same values for the same arrangement.

    Args:
        subjects, objects: [E, 4] xyxy.
        sizes: [E, 2], (height, width) of the image of each pair.

    Returns:
        [E, 18] float: centre, width and height of the subject (4) and of the object (4); offset of the object's centre
        in sides of the image (2), and in sides of the subject (2); differences of the bottom edges (1) and of the top
        edges (1); logarithms of the ratios of widths, heights and areas (3); IoU (1).
    """
    side = sizes.amax(1, keepdim=True).to(subjects.dtype)
    a, b = subjects / side, objects / side
    centre_a, centre_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    size_a, size_b = ((box[:, 2:] - box[:, :2]).clamp(min=_LEAST) for box in (a, b))
    offset = centre_b - centre_a
    ratios = (size_b / size_a).log()
    return torch.cat(
        [
            *(centre_a, size_a, centre_b, size_b),
            *(offset, (offset / size_a).clamp(-10, 10)),
            *(b[:, 3:] - a[:, 3:], b[:, 1:2] - a[:, 1:2]),
            *(ratios, ratios.sum(1, keepdim=True)),
            elementwise_iou(subjects, objects).nan_to_num()[:, None],
        ],
        1,
    )
