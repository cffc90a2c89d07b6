"""Sliding over a grid against plain loops: its regions, its losses, what it keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.detection.grid_sliding import GridSettings, GridSliding
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import box_iou
from sightline.structures import Classes, Instances

NAMES = Classes(["circle", "square", "star"])


def build(**settings: object) -> GridSliding:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
    arguments = {"cells": 5, "regions": (3, 4), "crop": 16, **settings}
    return GridSliding(
        NAMES,
        Preprocess(min_size=60, max_size=100, divisor=1),
        backbone,
        32,
        GridSettings(**arguments),  # type: ignore[arg-type]
    )


def test_regions_against_a_loop() -> None:
    wanted = []
    for side in (3, 4):
        for row in range(5 - side + 1):
            for column in range(5 - side + 1):
                wanted.append([column * 20, row * 12, (column + side) * 20, (row + side) * 12])
    assert build().regions((60, 100)).tolist() == wanted  # nine regions of 3×3 cells, four of 4×4


def test_losses_against_a_plain_loop() -> None:
    model = build()
    images = [torch.randint(0, 256, (3, 60, 100), dtype=torch.uint8) for _ in range(2)]
    truth = [[2.0, 1.0, 55.0, 40.0], [70.0, 20.0, 99.0, 59.0]]
    targets = [
        Instances((60, 100), classes=NAMES, boxes=truth, labels=[0, 2]),
        Instances((60, 100), classes=NAMES),
    ]
    losses = {name: float(v.detach()) for name, v in model(images, targets).items()}
    batch, _ = model.prepare(images, None)
    regions = model.regions((60, 100))
    with torch.no_grad():
        objectness, logits, deltas = model.network(batch.tensor, [regions, regions])
    iou = box_iou(torch.tensor(truth), regions)
    best = iou.argmax(1).tolist()
    binary, classes, boxes, held = 0.0, 0.0, 0.0, 0
    for i in range(26):
        of = None
        if i < 13:
            overlaps = iou[:, i].tolist()
            of = overlaps.index(max(overlaps)) if max(overlaps) >= 0.4 else None
            of = best.index(i) if i in best else of
        p = 1 / (1 + math.exp(-float(objectness[i])))
        binary -= math.log(p if of is not None else 1 - p)
        if of is None:
            continue
        held += 1
        row, label = logits[i].tolist(), (0, 2)[of]
        classes += math.log(sum(math.exp(v) for v in row)) - row[label]
        (x1, y1, x2, y2), (u1, v1, u2, v2) = regions[i].tolist(), truth[of]
        wanted = [
            10 * ((u1 + u2) / 2 - (x1 + x2) / 2) / (x2 - x1),
            10 * ((v1 + v2) / 2 - (y1 + y2) / 2) / (y2 - y1),
            5 * math.log((u2 - u1) / (x2 - x1)),
            5 * math.log((v2 - v1) / (y2 - y1)),
        ]
        for have, want in zip(deltas[i].tolist(), wanted, strict=True):
            d = abs(have - want)
            boxes += d - 0.5 if d > 1 else d * d / 2
    assert held >= 2
    assert losses["loss_objectness"] == pytest.approx(binary / 26, rel=1e-4)
    assert losses["loss_classification"] == pytest.approx(classes / held, rel=1e-4)
    assert losses["loss_box"] == pytest.approx(boxes / held, rel=1e-4)


def test_chunks_change_nothing() -> None:
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    whole, parts = build(), build(chunk=3)
    a, b = whole([image])[0], parts([image])[0]
    assert whole.regions_classified == parts.regions_classified == 13
    torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(a.scores, b.scores)


def test_it_learns_two_images() -> None:
    model = build()

    def picture(box: list[float], channel: int) -> Tensor:
        image = torch.full((3, 60, 80), 60, dtype=torch.uint8)
        image[channel, int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 250
        return image

    boxes = [[8.0, 16.0, 44.0, 48.0], [34.0, 24.0, 72.0, 56.0]]
    images = [picture(box, channel) for box, channel in zip(boxes, (0, 2), strict=True)]
    targets = [Instances((60, 80), classes=NAMES, boxes=[b], labels=[k]) for b, k in zip(boxes, (0, 2), strict=True)]
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    for result, box, label in zip(model(images), boxes, (0, 2), strict=True):
        assert int(result.labels[0]) == label
        assert float(box_iou(result.boxes[:1], torch.tensor([box]))) > 0.7


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match=r"regions of \(6,\) cells do not fit a grid of 5×5"):
        build(regions=(6,))


def test_detections_by_hand() -> None:
    """Of 4 regions one is an object: a score is the objectness times the class's share; the box moves by the deltas."""
    model = build(cells=2, regions=(1,), min_score=0.25, nms_iou=0.5)
    objectness = torch.tensor([0.0, math.log(3), -9.0, -9.0])  # 1/2 and 3/4
    logits = torch.tensor([[0.0, math.log(2), 0.0], [math.log(6), 0.0, 0.0], [0.0, 0, 0], [0.0, 0, 0]])
    deltas = torch.zeros(4, 4)
    deltas[1] = torch.tensor([1.0, -2.0, 5 * math.log(0.5), 5 * math.log(0.8)])  # a tenth, a fifth, half, four fifths
    model.network = lambda *_: (objectness, logits, deltas)  # type: ignore[method-assign, assignment]
    found = model.scan(torch.zeros(3, 60, 80), (60, 80))  # regions of 40 × 30
    assert model.regions_classified == 4
    assert found["scores"].tolist() == pytest.approx([0.75 * 6 / 8])
    assert found["labels"].tolist() == [1]
    # the region 40 … 80 × 0 … 30: its centre (60, 15) moves to (64, 9), its sides become 20 and 24; cut at the border
    assert found["boxes"][0].tolist() == pytest.approx([54, 0, 74, 21])
    lower = build(cells=2, regions=(1,), min_score=0.2, max_detections=2)
    lower.network = model.network  # type: ignore[method-assign]
    found = lower.scan(torch.zeros(3, 60, 80), (60, 80))
    assert found["scores"].tolist() == pytest.approx([0.5625, 0.25])
    assert found["labels"].tolist() == [1, 2]
