"""Similarity of keypoints: COCO's constants, and against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from pycocotools.cocoeval import Params

from sightline.evaluation import shapes
from sightline.ops.keypoints import OTHER_SIGMA, PERSON_SIGMAS, keypoint_sigmas, keypoint_similarity


def test_tolerances_are_those_of_the_evaluation() -> None:
    assert pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist()) == PERSON_SIGMAS
    assert shapes.OTHER_SIGMA == OTHER_SIGMA
    assert keypoint_sigmas(17).tolist() == pytest.approx(PERSON_SIGMAS)
    assert keypoint_sigmas(3).tolist() == pytest.approx([OTHER_SIGMA] * 3)


def test_similarity_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(4, 3, 2, generator=generator) * 50
    points = targets + torch.randn(4, 3, 2, generator=generator) * 3
    areas, sigmas = torch.tensor([100.0, 400, 2500, 0]), torch.tensor([0.03, 0.07, 0.1])
    found = keypoint_similarity(points, targets, areas, sigmas)
    for n in range(4):
        for p in range(3):
            d = math.dist(points[n, p].tolist(), targets[n, p].tolist())
            k = 2 * float(sigmas[p])
            expected = math.exp(-(d**2) / (2 * max(float(areas[n]), 1) * k**2))
            assert float(found[n, p]) == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert keypoint_similarity(targets, targets, areas, sigmas).eq(1).all()
