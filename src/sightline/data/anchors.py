"""Anchor shapes for a dataset, from clustering the shapes of its boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sightline.data.dataset import Dataset
from sightline.errors import InputError
from sightline.ops.anchor_clusters import cluster_shapes
from sightline.runtime.values import require_seed, require_whole
from sightline.words import counted

_MOST = 200_000
"""The largest number of boxes that are clustered. If there are more, a random sample of this size is used."""


@dataclass(frozen=True)
class AnchorReport:
    """Anchors of a dataset.

    Attributes:
        image_size: side in pixels of the square model input.
        relative: float64 [k, 2], width and height of each anchor as a fraction of the image, by increasing area.
        shares: float64 [k], the fraction of boxes whose nearest anchor is this one.
        mean_iou: mean IoU between each box and its nearest anchor, both centred.
        by_k: the mean IoU with 1, 2, …, k anchors.
        boxes: float64 [M, 2], the width and height of each box as a fraction of its image.
        assigned: int64 [M], the index of the nearest anchor of each box.
    """

    image_size: int
    relative: np.ndarray
    shares: np.ndarray
    mean_iou: float
    by_k: tuple[float, ...]
    boxes: np.ndarray
    assigned: np.ndarray

    @property
    def pixels(self) -> np.ndarray:
        """float64 [k, 2], the anchors in pixels of the model input."""
        return self.relative * self.image_size

    def cells(self, stride: int = 32) -> list[list[float]]:
        """The anchors in cells of a feature map with this stride, as YOLOv2 expects them."""
        return [[round(float(v), 4) for v in row] for row in self.pixels / stride]

    def __str__(self) -> str:
        lines = [
            f"{len(self.relative)} anchors for {len(self.boxes)} boxes, at {self.image_size}×{self.image_size} pixels",
            "    width  height   of the image     boxes",
        ]
        for (w, h), (rw, rh), share in zip(self.pixels, self.relative, self.shares, strict=True):
            lines.append(f"  {w:7.1f} {h:7.1f}   {rw:6.3f} {rh:6.3f}   {100 * share:5.1f} %")
        lines += ["", f"mean IoU between a box and its nearest anchor: {self.mean_iou:.3f}"]
        lines.append("with 1, 2, … anchors: " + " ".join(f"{v:.3f}" for v in self.by_k))
        return "\n".join(lines)


def anchors(data: Dataset, k: int = 5, image_size: int = 416, seed: int = 0) -> AnchorReport:
    """Cluster the shapes of a dataset's boxes by IoU (see `cluster_shapes`).

    Box sizes are fractions of the image, as seen by a model that resizes every image to one square. Crowd regions and
    boxes that are not finite or have no area are ignored.

    Args:
        data: a dataset with objects.
        k: number of anchors.
        image_size: side in pixels of the model input.
        seed: random seed of the clustering.

    Raises:
        InputError: the dataset has no boxes, k is larger than the number of distinct boxes, or a number is below 1.
    """
    require_whole("k", k, 1, 10_000, "give the number of anchors, such as 5")
    require_whole("image_size", image_size, 1, "image_side", "give the side of the model input, such as 416")
    require_seed(seed)
    if not data.label_kind.has_objects:
        noun = data.label_kind.noun
        raise InputError(f"anchors are computed from boxes, but the labels here are {noun}; give a dataset with boxes")
    shapes = relative_shapes(data)
    if not len(shapes):
        raise InputError("the dataset has no boxes to compute anchors from; label some, or open the right label files")
    if len(shapes) > _MOST:
        shapes = shapes[np.sort(np.random.default_rng(seed).choice(len(shapes), _MOST, replace=False))]
    distinct = len(np.unique(shapes, axis=0))
    if k > distinct:
        raise InputError(
            f"k is {k}, but the boxes have only {counted(distinct, 'distinct shape')}; give a k of at most {distinct} "
            f"(-k {distinct})"
        )
    found = [cluster_shapes(torch.from_numpy(shapes), count, seed=seed) for count in range(1, k + 1)]
    best = found[-1]
    return AnchorReport(
        image_size,
        best.shapes.double().numpy(),
        np.bincount(best.assigned.numpy(), minlength=k) / len(shapes),
        float(best.ious.mean()),
        tuple(float(f.ious.mean()) for f in found),
        shapes,
        best.assigned.numpy(),
    )


def relative_shapes(data: Dataset) -> np.ndarray:
    """float64 [M, 2]: width and height of every usable box as a fraction of its image."""
    columns = data.columns
    image = columns.image_of
    sizes = np.stack([columns.widths, columns.heights], 1).astype(np.float64)
    for i in np.unique(image[(sizes[image] == 0).any(1)]):  # size missing from the labels: read the image header
        sizes[i] = data.image_size(int(i))[::-1]
    corners = columns.boxes.reshape(-1, 4)
    usable = np.isfinite(corners).all(1) & ~columns.crowd
    lower, upper = np.zeros(2), sizes[image]
    sides = np.clip(corners[:, 2:], lower, upper) - np.clip(corners[:, :2], lower, upper)
    with np.errstate(invalid="ignore"):
        usable &= (sides > 0).all(1)
    return sides[usable] / sizes[image][usable]
