"""How plans divide a time budget."""

from __future__ import annotations

import re

import pytest

from sightline.errors import InputError
from sightline.models.budget_rules import images_within, require_steps, validation_interval


def test_images_within_a_budget():
    assert images_within(3, 0.1) == pytest.approx(1440)  # four fifths of 180 s
    assert images_within(6, 0.2) == pytest.approx(1440)


@pytest.mark.parametrize(
    ("epoch", "validation", "every"), [(100, 5, 1), (100, 10, 1), (8, 3, 4), (1, 60, 600), (5, 0, 1)]
)
def test_validation_takes_at_most_a_tenth(epoch: float, validation: float, every: int):
    assert validation_interval(epoch, validation) == every
    assert validation <= 0.1 * every * epoch + 1e-9


def test_a_budget_too_small_names_one_that_is_not():
    require_steps(1, 10, "a model")
    with pytest.raises(InputError, match=r"minutes is 0.5, which holds about 4 training steps of unet_lite0") as info:
        require_steps(0.5, 4, "unet_lite0")
    enough = float(re.search(r"at least ([\d.]+) minutes", str(info.value))[1])
    require_steps(enough, 4 * enough / 0.5, "unet_lite0")
    with pytest.raises(InputError, match="give at least 63 minutes"):
        require_steps(5, 1, "a model")
