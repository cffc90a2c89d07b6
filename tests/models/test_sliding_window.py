"""The sliding window against plain loops: its windows, its crops, what it keeps, and what it learns from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.detection.sliding_window import SlidingWindow, WindowSettings, crop_regions, shifted, slide
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import box_iou
from sightline.ops.suppression import batched_nms
from sightline.structures import Classes, Instances

NAMES = Classes(["circle", "square", "star"])


class Tiny(nn.Module):
    """Crops → logits, of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(32 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.body(x), 4).flatten(1))


def build(**settings: object) -> SlidingWindow:
    torch.manual_seed(0)
    arguments = {"sizes": (16.0, 32.0), "ratios": (0.5, 1.0), "crop": 16, "stride": 0.5, **settings}
    return SlidingWindow(
        NAMES,
        Preprocess(min_size=64, max_size=96, divisor=1),
        Tiny(),
        WindowSettings(**arguments),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("size", "shape", "stride"), [((20, 31), (7, 5), 0.5), ((9, 9), (9, 4), 0.1), ((8, 8), (8, 8), 1)]
)
def test_positions_against_a_loop(size: tuple[int, int], shape: tuple[int, int], stride: float) -> None:
    def starts(length: int, side: int) -> list[int]:
        found, step = [], max(1, round(stride * side))
        for start in range(length):
            if start + side <= length and (start % step == 0 or start + side == length):
                found.append(start)
        return found

    wanted = [[x, y, x + shape[1], y + shape[0]] for y in starts(size[0], shape[0]) for x in starts(size[1], shape[1])]
    assert slide(size, shape, stride).tolist() == wanted


def test_one_pixel_at_a_time_is_300_000_windows() -> None:
    assert len(slide((480, 640), (1, 1), 1)) == 307_200


def test_windows_have_every_size_and_ratio() -> None:
    windows = build().windows((64, 96))
    shapes = {(round(float(x2 - x1)), round(float(y2 - y1))) for x1, y1, x2, y2 in windows}
    assert shapes == {(23, 11), (16, 16), (45, 23), (32, 32)}
    assert len(windows) == len(windows.unique(dim=0))


def test_an_image_smaller_than_a_window_is_one_window() -> None:
    assert build(sizes=(100.0, 200.0), ratios=(1.0,)).windows((30, 40)).tolist() == [[0, 0, 40, 30]]


def test_crops_are_the_pixels_under_the_window() -> None:
    images = torch.rand(2, 3, 40, 50)
    regions = [torch.tensor([[3.0, 5.0, 19.0, 21.0]]), torch.tensor([[10.0, 0.0, 26.0, 16.0], [8.0, 8.0, 40.0, 40.0]])]
    crops = crop_regions(images, regions, 16)
    torch.testing.assert_close(crops[0], images[0, :, 5:21, 3:19], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(crops[1], images[1, :, :16, 10:26], atol=1e-5, rtol=1e-5)
    halved = F.avg_pool2d(images[1, :, 8:40, 8:40], 2)  # two by two samples at the centres of the pixels
    torch.testing.assert_close(crops[2], halved, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_scanning_against_a_loop(chunk: int) -> None:
    model = build(chunk=chunk, min_score=0.24).eval()
    image = torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8)
    result = model([image])[0]
    windows = model.windows((64, 80))
    assert model.windows_classified == len(windows)
    batch, _ = model.prepare([image], None)
    boxes, labels, scores = [], [], []
    for x1, y1, x2, y2 in windows.tolist():
        crop = crop_regions(batch.tensor, [torch.tensor([[x1, y1, x2, y2]])], 16)
        row = [math.exp(v) for v in model.network(crop)[0].tolist()]
        for k in (1, 2, 3):
            if row[k] / sum(row) > 0.24:
                boxes.append([x1, y1, x2, y2])
                labels.append(k - 1)
                scores.append(row[k] / sum(row))
    keep = batched_nms(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), 0.3)[:100]
    assert 0 < len(keep) < len(boxes)
    torch.testing.assert_close(result.scores, torch.tensor(scores)[keep], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result.boxes, torch.tensor(boxes)[keep])


def test_a_million_windows_in_bounded_memory() -> None:
    model = build(sizes=(1.0,), ratios=(1.0,), crop=1, chunk=1 << 17, min_score=0.0, candidates=50).eval()
    seen = []

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return torch.cat([x.mean((2, 3)), -x.mean((2, 3))[:, :1]], 1)

    model.network = Mean()
    found = model.scan(torch.rand(3, 1000, 1050), (1000, 1050))
    assert model.windows_classified == sum(seen) == 1_050_000
    assert max(seen) == 1 << 17
    assert len(found["boxes"]) <= 50


def test_what_it_learns_from() -> None:
    model = build(samples=40, positive_fraction=0.5, random=5)
    target = Instances((64, 96), boxes=[[10, 10, 40, 40], [60, 30, 90, 50]], labels=[1, 3])  # outputs of the head
    windows, labels, counted = model.sample([(64, 96), (64, 96)], [target, Instances((64, 96))])
    assert [len(w) for w in windows] == [40, 40]
    iou = box_iou(target.boxes, windows[0])
    for row, label, sure in zip(iou.T.tolist(), labels[:40].tolist(), counted[:40].tolist(), strict=True):
        if label:
            assert row[(1, 3).index(label)] == max(row) >= 0.6
            assert sure
        else:
            assert max(row) < 0.4
    assert set(labels[:40].tolist()) == {0, 1, 3}
    assert not labels[40:].any()
    assert counted[40:].sum() == 5
    assert (windows[0] >= 0).all()
    assert (windows[0] <= torch.tensor([96, 64, 96, 64])).all()


def test_the_loss_counts_objects_chance_and_the_hardest() -> None:
    model = build(samples=6, hard=2)
    logits = torch.randn(6, 4)
    labels = torch.tensor([2, 0, 0, 0, 0, 0])
    counted = torch.tensor([True, True, False, False, False, False])
    terms = [math.log(sum(math.exp(v) for v in row)) - row[k] for row, k in zip(logits.tolist(), labels, strict=True)]
    wanted = terms[:2] + sorted(terms[2:])[-2:]
    loss = model.losses(logits, labels, counted)["loss_classification"]
    assert float(loss) == pytest.approx(sum(wanted) / 4, rel=1e-5)


def test_shifted_boxes_stay_near() -> None:
    boxes = torch.tensor([[10.0, 20.0, 50.0, 40.0]]).repeat(200, 1)
    moved = shifted(boxes, 0.2)
    centres, sides = (moved[:, :2] + moved[:, 2:]) / 2, moved[:, 2:] - moved[:, :2]
    assert ((centres - torch.tensor([30.0, 30.0])).abs() <= torch.tensor([8.01, 4.01])).all()
    assert ((sides / torch.tensor([40.0, 20.0]) - 1).abs() <= 0.201).all()
    assert shifted(boxes[:0]).shape == (0, 4)


def test_it_learns_two_images() -> None:
    model = build(stride=0.25, sizes=(24.0, 32.0), ratios=(1.0,))
    images = [torch.full((3, 64, 80), 60, dtype=torch.uint8) for _ in range(2)]
    boxes = [[8.0, 16.0, 40.0, 48.0], [40.0, 24.0, 72.0, 56.0]]
    for image, (x1, y1, x2, y2), channel in zip(images, boxes, (0, 2), strict=True):
        image[channel, int(y1) : int(y2), int(x1) : int(x2)] = 250
    targets = [Instances((64, 80), classes=NAMES, boxes=[b], labels=[k]) for b, k in zip(boxes, (0, 2), strict=True)]
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    for result, box, label in zip(model(images), boxes, (0, 2), strict=True):
        assert int(result.labels[0]) == label
        assert float(box_iou(result.boxes[:1], torch.tensor([box]))) > 0.5


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="must be above 0"):
        build(stride=0.0)
