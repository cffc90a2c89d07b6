"""The geometric change of an image, as far as its target needs it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.resample import warp_labels
from sightline.structures import Size


class Motion(ABC):
    """A mapping of pixels from a source image to an image of `size`.

    Attributes:
        size: (height, width) of the resulting image.
        mirrored: True if the image was mirrored, so that left and right are swapped.
        with_camera: True if the camera of the image follows, so that values in scene coordinates stay valid.
    """

    size: Size
    mirrored: bool
    with_camera: bool = False

    @property
    def moves(self) -> bool:
        """False if no pixel changed its position."""
        return True

    @abstractmethod
    def boxes(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """The transformed boxes, not clipped.

        Args:
            boxes: [N, 4] float64 xyxy in the source image.

        Returns:
            boxes [N, 4] float64; the factor [N] of each area; and whether the mapping is not axis-aligned, so that the
            boxes are loose.
        """

    @abstractmethod
    def points(self, name: str, points: Tensor) -> Tensor:
        """The points [N, …, 2] of the part `name` in the resulting image."""

    @abstractmethod
    def pixels(self, name: str, values: Tensor, outside: int | bool = 0, rows: Tensor | None = None) -> Tensor:
        """The values [N, H, W] or [H, W] of the part `name` in the resulting image, from the nearest pixel.

        Args:
            name: name of the part.
            values: values in the source image.
            outside: value for pixels outside the source.
            rows: [N] bool, the only rows that are needed; None for all.
        """


class Affine(Motion):
    """Source pixels → output pixels through `matrix` [3, 3]."""

    def __init__(self, matrix: np.ndarray, size: Size, with_camera: bool = False):
        self.matrix, self.size, self.with_camera = matrix, size, with_camera
        self.determinant = float(np.linalg.det(matrix[:2, :2]))
        self.mirrored = self.determinant < 0

    def boxes(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        growth = np.full(len(boxes), abs(self.determinant))
        turned = abs(self.matrix[0, 1]) + abs(self.matrix[1, 0]) > 1e-9
        return transform_boxes(boxes, self.matrix), growth, bool(turned)

    def points(self, name: str, points: Tensor) -> Tensor:
        affine = torch.from_numpy(np.ascontiguousarray(self.matrix[:2])).to(points.dtype)
        return points @ affine[:, :2].T + affine[:, 2]

    def pixels(self, name: str, values: Tensor, outside: int | bool = 0, rows: Tensor | None = None) -> Tensor:
        return warp_labels(values if rows is None else values[rows], self.matrix, self.size, outside)


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The bounding boxes [N, 4] of `boxes` [N, 4] xyxy after the affine `matrix`; not clipped."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2
    centres = centres @ matrix[:2, :2].T + matrix[:2, 2]
    halves = halves @ np.abs(matrix[:2, :2]).T  # a box is mapped to a parallelogram with the mapped centre
    return np.concatenate([centres - halves, centres + halves], axis=1)
