"""Mirroring, against the framework's where it can and by hand where it cannot."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sightline.ops.padding import mirror_pad


def test_mirrored_once_it_is_the_framework_s() -> None:
    x = torch.rand(2, 3, 5, 7)
    assert torch.equal(mirror_pad(x, 1, 4, 2, 3), F.pad(x, (2, 3, 1, 4), mode="reflect"))


def test_mirrored_again_and_again() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert mirror_pad(x, 0, 0, 5, 4).tolist() == [[2, 1, 2, 3, 2, 1, 2, 3, 2, 1, 2, 3]]
    assert mirror_pad(x, 1, 1, 0, 0).tolist() == [[1, 2, 3]] * 3
