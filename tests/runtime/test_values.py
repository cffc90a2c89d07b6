"""Numbers that callers give: of any numeric type, and within their range."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.runtime.values import plain_number, require_number, require_whole


def test_numbers_of_any_type() -> None:
    for value in (8, 8.0, np.int64(8), np.float32(8), torch.tensor(8), np.array(8), torch.tensor(8.0), Decimal(8)):
        assert require_whole("n", value, 1, "count") == 8
        assert type(require_whole("n", value, 1, "count")) is int
        assert require_number("n", value, 0, 10) == 8.0
    for wrong in (True, "8", None, 8.5, np.bool_(True), torch.tensor([8, 9]), float("nan"), [8], 0, torch.tensor(True)):
        with pytest.raises(InputError, match=r"n is .*but it must be a whole number of at least 1; give 8"):
            require_whole("n", wrong, 1, "count", "give 8")
    assert plain_number(1j) is None


def test_numbers_beyond_their_range() -> None:
    for number in (10_000_001, 10**30, 1e30, 10**5000):
        with pytest.raises(InputError, match=r"n is .*above the limit of 10 000 000"):
            require_whole("n", number, 1, "count")
    with pytest.raises(InputError, match="n is 11, but it must be at most 10; give 5"):
        require_whole("n", 11, 1, 10, "give 5")
    for number in (-0.1, 1.1, math.inf, math.nan, 10**400, "0.5", True):
        with pytest.raises(InputError, match=r"n is .*, but it must be a score from 0 to 1; give 0.5"):
            require_number("n", number, 0, 1, "give 0.5", "a score")
