"""The localiser: its box form, its losses against plain loops, which object it learns from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.localiser import Localiser, decode_place, encode_place
from sightline.models.preprocess import Preprocess
from sightline.structures import Classes, Instances

NAMES = Classes(["circle", "square", "star"])


def small(weights: tuple[float, float] = (0.8, 0.2)) -> Localiser:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1)
    )
    return Localiser(NAMES, Preprocess(fixed_size=(64, 64), divisor=1), backbone, 32, weights=weights)


def square(x: int, y: int, side: int, channel: int) -> Tensor:
    image = torch.full((3, 96, 128), 40, dtype=torch.uint8)
    image[channel, y : y + side, x : x + side] = 250
    return image


def test_the_box_form_by_hand() -> None:
    boxes = torch.tensor([[20.0, 10.0, 60.0, 90.0]])  # centre (40, 50), 40 × 80, in an image of 200 × 100
    place = encode_place(boxes, (100, 200))
    torch.testing.assert_close(place, torch.tensor([[0.2, 0.5, math.sqrt(0.2), math.sqrt(0.8)]]))
    torch.testing.assert_close(decode_place(place, (100, 200)), boxes)
    outside = decode_place(torch.tensor([0.9, 0.1, 1.0, 1.0]), (100, 200))
    assert outside.tolist() == pytest.approx([80, 0, 200, 60])  # cut at the border


def test_an_error_costs_less_on_a_large_box() -> None:
    sizes = torch.tensor([[0.0, 0.0, 50.0, 50.0], [0.0, 0.0, 200.0, 200.0]])
    wrong = sizes + torch.tensor([0.0, 0.0, 10.0, 10.0])
    error = (encode_place(sizes, (400, 400)) - encode_place(wrong, (400, 400)))[:, 2:].square().sum(1)
    assert error[0] > 3 * error[1]


def test_losses_against_a_plain_loop() -> None:
    model = small()
    targets = [
        Instances((96, 128), classes=NAMES, boxes=[[0, 0, 20, 20], [30, 10, 90, 80], [5, 5, 9, 9]], labels=[0, 2, 1]),
        Instances((96, 128), classes=NAMES),
        Instances((96, 128), classes=NAMES, boxes=[[64, 48, 128, 96]], labels=[1]),
    ]
    images = [square(30, 10, 60, 2), square(0, 0, 1, 0), square(64, 48, 48, 1)]
    batch, moved = model.prepare(images, targets)
    logits, places = model.network(batch.tensor)
    losses = {k: v.detach() for k, v in model(images, targets).items()}
    classes = boxes = 0.0
    for i, label, place in (
        (0, 2, (60 / 128, 45 / 96, math.sqrt(60 / 128), math.sqrt(70 / 96))),  # the largest of three
        (2, 1, (96 / 128, 72 / 96, math.sqrt(0.5), math.sqrt(0.5))),
    ):
        row = [float(v) for v in logits[i].detach()]
        classes += math.log(sum(math.exp(v) for v in row)) - row[label]
        boxes += sum((float(p) - q) ** 2 for p, q in zip(places[i].detach(), place, strict=True))
    assert float(losses["loss_classification"]) == pytest.approx(0.8 * classes / 2, rel=1e-4)
    assert float(losses["loss_box"]) == pytest.approx(0.2 * boxes / 2, rel=1e-4)
    assert moved is not None


def test_images_without_objects_teach_nothing() -> None:
    model = small()
    losses = model([square(0, 0, 9, 0)], [Instances((96, 128), classes=NAMES)])
    assert [v.item() for v in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_one_object_in_every_image_and_it_learns_four() -> None:
    model = small((1.0, 4.0))
    boxes = [(10, 10, 50), (60, 30, 40), (20, 50, 30), (70, 5, 36)]
    images = [square(x, y, side, i % 3) for i, (x, y, side) in enumerate(boxes)]
    targets = [
        Instances((96, 128), classes=NAMES, boxes=[[x, y, x + side, y + side]], labels=[i % 3])
        for i, (x, y, side) in enumerate(boxes)
    ]
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    for result, target in zip(model(images), targets, strict=True):
        assert len(result) == 1
        assert result.labels.tolist() == target.labels.tolist()
        assert result.scores[0] > 0.9
        assert result.boxes[0].tolist() == pytest.approx(target.boxes[0].tolist(), abs=6)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="weights are"):
        small((0.0, 0.0))
    with pytest.raises(InputError, match="image_size is 32, but must be at least 33"):
        create_model("localiser_mobilenet_v2", NAMES, image_size=32)
