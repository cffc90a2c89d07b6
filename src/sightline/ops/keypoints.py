"""Similarity of keypoints, as COCO measures it (OKS)."""

from __future__ import annotations

import torch
from torch import Tensor

PERSON_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
"""COCO's tolerance of each of the 17 keypoints of a person: standard deviation of labels, in √area of the object."""
OTHER_SIGMA = 0.067
"""For keypoints other than those of a person: the mean of the 17, as in `sightline.evaluation`."""


def keypoint_sigmas(count: int) -> Tensor:
    """[count] float32, the tolerance of each keypoint: COCO's for 17 keypoints, one for all otherwise."""
    return torch.tensor(PERSON_SIGMAS if count == len(PERSON_SIGMAS) else (OTHER_SIGMA,) * count)


def keypoint_similarity(points: Tensor, targets: Tensor, areas: Tensor, sigmas: Tensor) -> Tensor:
    """Similarity of each keypoint: exp(−d² / (2 area (2σ)²)), 1 if it is at its target's place.

    COCO's OKS of an object is the mean over its labelled keypoints (https://cocodataset.org/#keypoints-eval).

    Args:
        points, targets: [N, P, 2] x, y in pixels.
        areas: [N] areas of the objects in pixels.
        sigmas: [P] tolerances.

    Returns:
        [N, P] in [0, 1].
    """
    distance = (points - targets).square().sum(-1)
    return torch.exp(-distance / (8 * areas.clamp(min=1)[:, None] * sigmas.square()))
