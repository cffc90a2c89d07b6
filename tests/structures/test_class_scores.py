"""Class scores as they are printed."""

from __future__ import annotations

import torch

import sightline as sl

FLOWERS = sl.Classes(["daisy", "rose", "tulip", "lily"])


def test_what_is_printed() -> None:
    scores = torch.tensor([0.125, 0.5, 0.0, 0.375])
    answer = sl.ClassScores((40, 60), scores=scores, classes=FLOWERS, source="a.png")
    assert repr(answer) == "ClassScores(of a.png: scores rose 0.500, lily 0.375, daisy 0.125 and 1 more; 60×40 pixels)"
    assert repr(sl.ClassScores((40, 60), 2, classes=FLOWERS)) == "ClassScores(label tulip; 60×40 pixels)"
    assert repr(sl.ClassScores((40, 60), 2, scores)) == "ClassScores(label 2; 4 scores; 60×40 pixels)"
