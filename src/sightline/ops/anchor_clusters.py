"""Anchors from the boxes of a dataset, by k-means clustering with an IoU distance.

Redmon and Farhadi, "YOLO9000: better, faster, stronger", CVPR 2017, section 2, "Dimension clusters".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.errors import InputError

_CHUNK = 1 << 22  # IoUs that are held at a time


class Clusters(NamedTuple):
    """Result of `cluster_shapes`.

    Attributes:
        shapes: [k, 2], width and height of each cluster centre, in ascending order of area.
        assigned: [N] int64, the cluster of each shape: the one with the highest IoU.
        ious: [N] IoU of each shape with its cluster centre; their mean is the paper's "Avg IOU".
    """

    shapes: Tensor
    assigned: Tensor
    ious: Tensor


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes with the same centre.

    Args:
        a: [N, 2] widths and heights.
        b: [M, 2] of the same unit.

    Returns:
        [N, M] in [0, 1]; 0 where both have no area.
    """
    inner = torch.minimum(a[:, None], b[None]).prod(-1)
    union = a.prod(-1)[:, None] + b.prod(-1)[None] - inner
    return torch.where(union > 0, inner / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def cluster_shapes(shapes: Tensor, k: int, *, seed: int = 0, starts: int = 3, iterations: int = 100) -> Clusters:
    """Cluster shapes by k-means with the distance 1 − IoU, so that small boxes count as much as large ones.

    Centres are initialised by k-means++ (Arthur and Vassilvitskii 2007). A centre is the mean width and height of its
    shapes. Since an update can decrease the mean IoU, the best centres of all steps and starts are returned. An empty
    cluster is moved to the shape with the lowest IoU with its centre.

    Args:
        shapes: [N, 2] float, widths and heights above 0, in any unit.
        k: number of clusters.
        seed: random seed.
        starts: number of initialisations.
        iterations: maximum number of steps per initialisation.

    Returns:
        The cluster centres and the assignment of each shape. If k is the number of distinct shapes, these are the
        centres.

    Raises:
        InputError: a shape is not above 0, or k is not between 1 and the number of distinct shapes.
    """
    if shapes.ndim != 2 or shapes.shape[1] != 2 or not bool((shapes.isfinite() & (shapes > 0)).all()):
        raise InputError(f"shapes {list(shapes.shape)} must be [N, 2]: finite widths and heights above 0")
    shapes = shapes.double()
    distinct = len(shapes.unique(dim=0))
    if not 1 <= k <= distinct:
        raise InputError(f"k is {k}, but there are {distinct} distinct shapes; give a k from 1 to {distinct}")
    best: tuple[float, Tensor] | None = None
    for start in range(starts):
        centres = _start(shapes, k, torch.Generator().manual_seed(seed + start))
        before = None
        for _ in range(iterations):
            assigned, ious = _assign(shapes, centres)
            mean = float(ious.mean())
            if best is None or mean > best[0] + 1e-12:
                best = mean, centres
            if before is not None and torch.equal(assigned, before):
                break
            before, centres = assigned, _update(shapes, assigned, ious, k)
    assert best is not None
    centres = best[1][best[1].prod(1).argsort(stable=True)]
    return Clusters(centres.float(), *_assign(shapes, centres))


def _start(shapes: Tensor, k: int, generator: torch.Generator) -> Tensor:
    chosen = [int(torch.randint(len(shapes), (), generator=generator))]
    apart = 1 - shape_iou(shapes, shapes[chosen])[:, 0]
    for _ in range(k - 1):
        weights = apart.clamp(min=0).square()
        total = weights.cumsum(0)
        at = torch.rand((), generator=generator, dtype=total.dtype) * total[-1]
        position = int(torch.searchsorted(total, at, right=True).clamp(max=len(shapes) - 1))
        if weights[position] == 0:  # rounding at the end of the sum
            position = int(weights.argmax())
        chosen.append(position)
        apart = torch.minimum(apart, 1 - shape_iou(shapes, shapes[position : position + 1])[:, 0])
    return shapes[chosen]


def _assign(shapes: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    rows = max(1, _CHUNK // len(centres))
    found = [shape_iou(part, centres).max(1) for part in shapes.split(rows)]
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found])


def _update(shapes: Tensor, assigned: Tensor, ious: Tensor, k: int) -> Tensor:
    counts = torch.bincount(assigned, minlength=k)
    centres = shapes.new_zeros(k, 2).index_add(0, assigned, shapes) / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero().flatten()
    if len(empty):
        centres[empty] = shapes[ious.argsort(stable=True)[: len(empty)]]
    return centres
