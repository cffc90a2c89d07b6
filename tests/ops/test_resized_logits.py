"""Class maps are made a few rows at a time, and equal those of logits that are resized as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.ops import resized_logits
from sightline.ops.resized_logits import ResizedLogits
from sightline.structures import Size

Sizes = tuple[Size, Size, Size, Size]
SIZES: dict[str, Sizes] = {  # grid, batch, image in it, original image
    "a grid of stride 8": ((12, 16), (96, 128), (96, 128), (96, 128)),
    "padding and a larger image": ((12, 16), (96, 128), (90, 121), (133, 180)),
    "a smaller image": ((12, 16), (96, 128), (96, 120), (31, 40)),
    "its own size": ((40, 56), (40, 56), (40, 56), (40, 56)),
    "its own size, padded": ((40, 56), (40, 56), (33, 50), (33, 50)),
    "rows alone": ((10, 56), (40, 56), (40, 56), (40, 56)),
    "columns alone": ((40, 14), (40, 56), (40, 56), (40, 56)),
    "one pixel": ((1, 1), (32, 32), (1, 1), (1, 1)),
    "a finer grid": ((64, 80), (32, 40), (30, 40), (60, 80)),
}


def as_a_whole(logits: Tensor, sizes: Sizes) -> Tensor:
    _, batch_size, (height, width), image_size = sizes
    for size in (batch_size, image_size):
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
        logits = logits[:, :height, :width] if size is batch_size else logits
    return logits


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("at_once", [1, 1 << 9, 1 << 30])
def test_they_equal_logits_resized_as_a_whole(
    sizes: Sizes, last: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resized_logits, "_CACHE", at_once)
    logits = torch.randn(1, 7, *sizes[0], generator=torch.Generator().manual_seed(0))
    logits = logits.contiguous(memory_format=torch.channels_last) if last else logits
    expected = as_a_whole(logits[0], sizes)
    found = ResizedLogits(logits[0], *sizes[1:])
    torch.testing.assert_close(found(), expected.softmax(0), atol=1e-6, rtol=1e-6)
    assert torch.equal(found.labels(), found().argmax(0))
    best, second = expected.topk(2, 0).values
    clear = best - second > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(found.labels()[clear], expected.argmax(0)[clear])


def test_the_first_of_equal_classes_wins() -> None:
    found = ResizedLogits(torch.zeros(4, 3, 5), (12, 20), (12, 20), (12, 20))
    assert not found.labels().any()


def test_half_precision_is_computed_as_float() -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    sizes = ((8, 10), (8, 10), (9, 9))
    torch.testing.assert_close(ResizedLogits(logits, *sizes)(), ResizedLogits(logits.float(), *sizes)())
