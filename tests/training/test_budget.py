"""A time budget that holds too few epochs is said, with what would do."""

from __future__ import annotations

import pytest
from torch import nn

from sightline.models.model import as_model
from sightline.training.budget import BudgetWatch, advice
from sightline.training.recipe import Recipe

QUICK = "faster_rcnn_mobilenet_v2_fpn"


@pytest.mark.parametrize(
    ("minutes", "epoch_seconds", "pretrained", "words"),
    [
        (3, 45, False, ("3 minutes hold about 4 epochs", "about 30", "--minutes 23", "--weights imagenet")),
        (3, 200, False, ("hold less than one epoch", "--minutes 100")),
        (3, 6, False, ()),  # exactly 30 epochs
        (3, 6.6, False, ()),  # 27
        (3, 6.8, False, ("hold about 26 epochs", "--minutes 4")),
        (3, 45, True, ("about 4 epochs", "training from weights needs about 5", "--minutes 4")),
        (3, 36, True, ()),
    ],
)
def test_what_is_said(minutes, epoch_seconds, pretrained, words):
    said = advice(Recipe(minutes=minutes), epoch_seconds, "sightline_n", pretrained, QUICK)
    assert bool(said) == bool(words)
    assert all(word in said for word in words), said
    if words and not pretrained:
        assert "--model faster_rcnn_mobilenet_v2_fpn --weights imagenet" in said


def test_epochs_that_fit_and_models_that_are_the_advice():
    assert advice(Recipe(minutes=3, epochs=2), 45, "sightline_n", False, QUICK) == ""
    assert advice(Recipe(minutes=3, epochs=9), 45, "sightline_n", False, QUICK) != ""
    own = advice(Recipe(minutes=3), 45, QUICK, False, QUICK)
    assert "start from weights (--weights imagenet)" in own
    assert "start from" not in advice(Recipe(minutes=3), 45, "x", False)


class _Clock:
    elapsed, steps_per_epoch, validation_share = 0.0, 20, 0.5


def test_the_first_step_does_not_count_and_it_is_said_once():
    said: list[str] = []
    clock = _Clock()
    watch = BudgetWatch(Recipe(minutes=3), clock, as_model(nn.Identity()), said.append)  # type: ignore[arg-type]
    for step in range(1, 12):
        clock.elapsed = 20 + 1.5 * (step - 1)  # an epoch is 30 s, 45 with its validation
        watch.step(step)
    assert len(said) == 1
    assert said[0].startswith("by its first steps, 3 minutes hold about 4 epochs")
