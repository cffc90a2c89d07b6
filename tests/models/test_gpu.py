"""Every model of the catalog on a GPU: as on the processor. Skipped where there is none.

pytest tests/models/test_gpu.py [-n 8]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.structures import Instances
from tests.models.test_contract import ALL, build, image, target

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here"),
    pytest.mark.timeout(120),
]
GPU = torch.device("cuda")
TIED = ("r_fcn", "fast_rcnn_vgg16", "faster_rcnn_vgg16")
"""With random weights a last bit of float32 decides what a region's edge snaps to, or which of two regions stays."""


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Float32 is float32, so that the devices can be compared."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def everywhere(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(model.named_parameters(), model.named_buffers())


@pytest.mark.parametrize("name", ALL)
def test_it_trains(name: str) -> None:
    """Losses are finite, in float32 and in bf16, and reach every learning parameter."""
    model = build(name).train().to(GPU)
    images = [image(90, 120).to(GPU), image(70, 64, seed=1).to(GPU)]
    targets = [target(model, (90, 120)).to(GPU), target(model, (70, 64)).to(GPU)]
    for half in (False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            losses: dict[str, Tensor] = model(images, targets)
        assert all(loss.device.type == "cuda" and loss.isfinite() for loss in losses.values())
        model.zero_grad()
        sum(losses.values()).backward()
        assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert {tensor.device.type for _, tensor in everywhere(model)} == {"cuda"}


@pytest.mark.parametrize("name", ALL)
def test_it_answers_as_on_the_processor(name: str) -> None:
    model: Any = build(name).eval()
    if name.startswith(TIED):
        model = model.double()
    images = [image(90, 120), image(65, 64, seed=2)]
    with torch.inference_mode():
        here = model(images)
        there = model.to(GPU)([picture.to(GPU) for picture in images])
    for a, b in zip(here, there, strict=True):
        assert b.scores.device.type == "cuda"
        b = b.to("cpu")
        assert b.image_size == a.image_size
        assert abs(len(b) - len(a)) <= 0.02 * len(a) + 1 if isinstance(a, Instances) else True
        few = min(len(a), len(b), 10) if isinstance(a, Instances) else None
        torch.testing.assert_close(b.scores[:few], a.scores[:few], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["sightline_n", "faster_rcnn_mobilenet_v2_fpn", "unet_mobilenet_v2", "resnet18"])
def test_the_losses_are_those_of_the_processor(name: str) -> None:
    """In eval mode, so that no draw and no batch decides."""
    model = build(name).eval()
    images = [image(90, 120), image(70, 64, seed=1)]
    targets = [target(model, (90, 120)), target(model, (70, 64))]
    with torch.no_grad():
        here = model(images, targets)
        there = model.to(GPU)([picture.to(GPU) for picture in images], [one.to(GPU) for one in targets])
    compared = set(here) - {"loss_classification", "loss_box"}  # of regions drawn at random
    assert compared
    for key in compared:
        torch.testing.assert_close(there[key].cpu(), here[key], atol=1e-3, rtol=1e-3)
