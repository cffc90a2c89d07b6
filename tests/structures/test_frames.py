"""Where preprocessing places an image in its batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.darknet.preprocess import DarknetPreprocess
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.structures import ImageBatch


@pytest.fixture(scope="module")
def classifier() -> Model:
    return create_model("mobilenet_v2", classes=["a", "b"], image_size=64)


def ramp(height: int, width: int) -> Tensor:
    """Channels whose values are the position of the pixel's centre in the image: x / W, y / H, 0."""
    x, y = ((torch.arange(n) + 0.5) / n for n in (width, height))
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.zeros(height, width)])


@pytest.mark.parametrize("size", [(90, 120), (120, 77), (20, 300), (500, 31), (64, 64)])
@pytest.mark.parametrize("kind", ["classifier", "letterbox", "stretched", "usual"])
def test_the_frame_is_where_the_image_lies(size: tuple[int, int], kind: str, classifier: Model) -> None:
    image = ramp(*size)
    if kind == "classifier":
        batch, _ = classifier.prepare([image], None)
        pre = classifier.preprocess
    else:
        usual = Preprocess(min_size=48, max_size=96)
        pre = usual if kind == "usual" else DarknetPreprocess(3, (64, 96), kind == "letterbox")
        batch, _ = pre([image])
    x1, y1, x2, y2 = batch.frame(0)
    height, width = batch.tensor.shape[-2:]
    inside = batch.tensor[0] * pre.std + pre.mean
    y, x = ((max(0, low) + min(high, n)) // 2 for low, high, n in ((y1, y2, height), (x1, x2, width)))
    # the batch's pixel (y, x) shows this part of the image
    assert float(inside[0, y, x]) == pytest.approx((x + 0.5 - x1) / (x2 - x1), abs=1 / (x2 - x1))
    assert float(inside[1, y, x]) == pytest.approx((y + 0.5 - y1) / (y2 - y1), abs=1 / (y2 - y1))


def test_copies_of_an_image_keep_its_sizes() -> None:
    batch = ImageBatch(torch.zeros(1, 3, 8, 8), [(8, 6)], [(16, 12)], frames=[(0, 1, 6, 9)])
    copies = batch.with_copies(torch.ones(3, 3, 8, 8))
    assert (copies.sizes, copies.original_sizes) == ([(8, 6)] * 3, [(16, 12)] * 3)
    assert [copies.frame(i) for i in range(3)] == [(0, 1, 6, 9)] * 3
    with pytest.raises(InputError, match="the batch has 3 images"):
        copies.with_copies(torch.zeros(1, 3, 8, 8))
