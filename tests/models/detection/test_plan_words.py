"""The sentences in which Sightline's own detector tells its choices."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.errors import InputError
from sightline.models.budget_rules import require_steps
from sightline.models.detection import plan
from sightline.models.plan import Budget, Facts

FEW = Facts(images=16, validation=4, image_size=(480, 640), objects=np.full((9, 2), 0.25))


@pytest.mark.parametrize(("epochs", "words"), [(1, "all 4 steps"), (2, "all 8 steps"), (5, "the last 10 of 20 steps")])
def test_the_average_reaches_back_over_no_more_steps_than_there_are(epochs: int, words: str):
    said = {choice.name: choice.reason for choice in plan.plan(FEW, Budget(epochs=epochs, pretrained=True))}
    assert said["ema"] == f"it averages the weights of {words}"


def test_one_epoch_is_told_in_the_singular():
    said = {choice.name: str(choice) for choice in plan.plan(FEW, Budget(epochs=1, pretrained=True))}
    assert said["augmentation"] == "augmentation light: 1 epoch is too few for stronger changes"
    assert said["batch_size"] == "batch_size 4: batches of 8 would be 2 steps, fewer than 280"


def test_sizes_of_objects_are_told_at_the_chosen_size():
    said = {choice.name: str(choice) for choice in plan.plan(FEW, Budget(epochs=1, pretrained=True))}
    assert said["image_size"] == (
        "image_size 320: small objects measure 80 pixels at this size, and 160 in the images, whose longer side is 640"
    )


def test_too_few_minutes_name_whole_steps():
    with pytest.raises(InputError, match=r"which holds about 3 training steps of this model on this machine"):
        require_steps(0.02, 3.02, "this model")
