"""OverFeat: its locations against crops and plain loops, its losses, its two phases, the paper's counts."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection import overfeat
from sightline.models.detection.overfeat import (
    OverFeat,
    OverFeatSettings,
    location_head,
    overfeat_mobilenet_v2,
)
from sightline.models.preprocess import Preprocess
from sightline.models.saving import save
from sightline.ops.boxes import box_iou
from sightline.runtime.shapes import shapes_only
from sightline.structures import Classes, Instances
from tests.models import parity

NAMES = Classes(["circle", "square", "star"])


def build(pool: int = 2, phase: str = "both", **settings: object) -> OverFeat:
    """Windows of 4 · (2 · pool) − 1 pixels without padding, 4 pixels apart."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
    return OverFeat(
        NAMES,
        Preprocess(min_size=48, max_size=64, divisor=1),
        features,
        location_head(16, (32,), 4, cells=2, pool=pool),
        location_head(16, (32, 16), 4, cells=2, pool=pool),
        pool=pool,
        window=8 * pool + 1,
        stride=4,
        settings=OverFeatSettings(**{"scales": (1.0,), **settings}),  # type: ignore[arg-type]
        phase=phase,  # type: ignore[arg-type]
    )


def coarse(head: nn.Sequential, pooled: Tensor) -> Tensor:
    """A head made for offset pooling, on a map pooled at one offset: the same numbers, taps side by side."""
    x = F.conv2d(pooled, head[0].weight, head[0].bias)
    for layer in list(head)[1:]:
        x = layer(x)
    return x


@pytest.mark.parametrize("pool", [2, 3])
def test_offset_pooling_against_a_loop_over_the_offsets(pool: int) -> None:
    head = location_head(5, (7, 6), 3, cells=2, pool=pool)
    maps = torch.randn(2, 5, 13, 16)
    with torch.no_grad():
        found = head(F.max_pool2d(maps, pool, 1))
        for dy in range(pool):
            for dx in range(pool):
                wanted = coarse(head, F.max_pool2d(maps[:, :, dy:, dx:], pool))
                torch.testing.assert_close(found[:, :, dy::pool, dx::pool], wanted)


def test_every_location_equals_its_window_alone() -> None:
    model = build().eval()
    image = torch.randn(1, 3, 33, 41)
    with torch.no_grad():
        logits, edges, windows = model.network(image)
        assert logits.shape == (1, 35, 4)
        assert windows[0].tolist() == [0, 0, 17, 17]
        for i, (x1, y1, x2, y2) in enumerate(windows.long().tolist()):
            one = model.network(image[:, :, y1:y2, x1:x2])
            torch.testing.assert_close(logits[:, i], one[0][:, 0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(edges[:, i], one[1][:, 0], atol=1e-5, rtol=1e-4)


def test_scales_see_windows_of_other_sizes() -> None:
    model = build(scales=(0.5, 1.0, 2.0)).eval()
    logits, _, windows = model.network(torch.randn(1, 3, 40, 48))
    sides = (windows[:, 2:] - windows[:, :2]).unique(dim=0)
    assert sides.tolist() == [[8.5, 8.5], [17, 17], [34, 34]]
    assert logits.shape[1] == len(windows)


@pytest.mark.parametrize(("name", "count"), [("overfeat_fast", 145_920_872), ("overfeat_accurate", 144_656_488)])
def test_the_papers_networks(name: str, count: int) -> None:
    with shapes_only():
        model = create_model(name, [str(i) for i in range(999)])
        parameters = [*model.backbone.parameters(), *model.class_head.parameters()]
        assert sum(p.numel() for p in parameters) == count
        for more, locations in ((0, 1), (model.stride, 2), (3 * model.stride, 4)):
            side = model.window + more
            maps = model.backbone(torch.empty(1, 3, side, side))
            assert maps.shape[-1] == {231: 12, 221: 15}[model.window] + more // model.stride
            found = model.class_head(F.max_pool2d(maps, model.pool, 1))
            assert found.shape == (1, 1000, locations, locations)


def test_losses_against_a_plain_loop() -> None:
    model = build(random=0, hard=2.0, scales=(1.0, 0.7))
    images = [torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8) for _ in range(2)]
    truth = [[4.0, 4.0, 20.0, 22.0], [30.0, 10.0, 50.0, 34.0]]
    targets = [
        Instances((48, 64), classes=NAMES, boxes=truth, labels=[0, 2]),
        Instances((48, 64), classes=NAMES),
    ]
    batch, _ = model.prepare(images, None)
    model.eval()
    losses = {name: float(v.detach()) for name, v in model(images, targets).items()}
    with torch.no_grad():
        logits, edges, windows = model.network(batch.tensor)
    iou = box_iou(torch.tensor(truth), windows)
    classes, negatives, boxes, positives = 0.0, [], 0.0, 0
    for i in range(len(windows)):
        overlaps = iou[:, i].tolist()
        row = logits[0, i].tolist()
        total = math.log(sum(math.exp(v) for v in row))
        of = overlaps.index(max(overlaps))
        best = any(overlaps[g] == float(iou[g].max()) for g in range(2))
        if max(overlaps) >= 0.5 or best:
            positives += 1
            classes += total - row[(1, 3)[of]]
            window = windows[i].tolist()
            for k in range(4):
                side = window[2 + k % 2] - window[k % 2]
                boxes += (float(edges[0, i, k]) - (truth[of][k] - window[k]) / side) ** 2
        elif max(overlaps) < 0.3:
            negatives.append(total - row[0])
    hardest = sorted(negatives)[-2 * positives :]
    assert positives >= 2
    assert losses["loss_classification"] == pytest.approx((classes + sum(hardest)) / (3 * positives), rel=1e-4)
    assert losses["loss_box"] == pytest.approx(boxes / positives, rel=1e-4)


def test_random_negatives_teach_where_there_is_no_object() -> None:
    image, empty = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8), Instances((48, 64), classes=NAMES)
    losses = build(random=4)([image], [empty])
    assert losses["loss_classification"] > 0
    assert losses["loss_box"] == 0


def test_padding_is_no_background() -> None:
    model = build()
    *_, windows = model.network(torch.zeros(1, 3, 48, 64))
    match = model.assign(windows, [(48, 64), (10, 30)], [Instances((48, 64)), Instances((10, 30))])
    assert (match[0] == -1).sum() > 0
    for window, state in zip(windows.tolist(), match[1].tolist(), strict=True):
        x, y = (window[0] + window[2]) / 2, (window[1] + window[3]) / 2
        assert state == (-1 if (x < 30 or window[0] == 0) and (y < 10 or window[1] == 0) else -2)


def test_the_box_loss_never_reaches_the_features() -> None:
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    target = Instances((48, 64), classes=NAMES, boxes=[[4, 4, 24, 22]], labels=[0])
    model = build()
    model([image], [target])["loss_box"].backward()
    assert all(p.grad is None for part in (model.backbone, model.class_head) for p in part.parameters())
    assert all(p.grad is not None for p in model.box_head.parameters())


def test_two_phases() -> None:
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8)
    target = Instances((48, 64), classes=NAMES, boxes=[[4, 4, 24, 22]], labels=[0])
    model = build(phase="classification").train()
    assert set(model([image], [target])) == {"loss_classification"}
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"backbone", "class_head"}
    model.set_phase("boxes")
    before = model.backbone[1].running_mean.clone()
    assert set(model.train()([image], [target])) == {"loss_box"}
    assert torch.equal(model.backbone[1].running_mean, before)
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"box_head"}
    model.set_phase("both")
    assert all(p.requires_grad for p in model.parameters())
    assert model.backbone.training


def test_the_second_phase_starts_from_the_saved_first(tmp_path: Path) -> None:
    first = create_model("overfeat_mobilenet_v2", NAMES, min_size=64, phase="classification")
    file = save(first, tmp_path / "first.safetensors")
    second: OverFeat = create_model("overfeat_mobilenet_v2", NAMES, file, phase="boxes")  # type: ignore[assignment]
    assert (second.phase, second.preprocess.min_size) == ("boxes", 64)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


@parity.float64()  # rounding decides which windows are merged
def test_it_learns_two_images() -> None:
    model = build(scales=(1.0, 0.7, 0.5))
    images = [torch.full((3, 48, 64), 60, dtype=torch.uint8) for _ in range(2)]
    boxes = [[8.0, 10.0, 30.0, 28.0], [34.0, 14.0, 56.0, 38.0]]
    for image, (x1, y1, x2, y2), channel in zip(images, boxes, (0, 2), strict=True):
        image[channel, int(y1) : int(y2), int(x1) : int(x2)] = 250
    targets = [Instances((48, 64), classes=NAMES, boxes=[b], labels=[k]) for b, k in zip(boxes, (0, 2), strict=True)]
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    for result, box, label in zip(model.eval()(images), boxes, (0, 2), strict=True):
        assert int(result.labels[0]) == label
        # right by the usual rule; how far beyond it depends on which windows the average of the merge takes in
        assert float(box_iou(result.boxes[:1], torch.tensor([box]))) > 0.5
        assert result.scores[0] > 0.6  # of several windows: one alone has at most a half


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="phase is 'box'"):
        overfeat_mobilenet_v2(NAMES, phase="box")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="scales must be factors above 0"):
        build(scales=())


def test_decoding_by_hand() -> None:
    """Two windows say one square, a third one a star with its edges the wrong way round, a fourth nothing surely.

    The score of the square is 1 − 1 / (1 + 0.75 + 0.5), that of the star 1 − 1 / 1.625; the merged box is the mean.
    """
    windows = torch.tensor([[0.0, 0, 20, 20], [2, 0, 22, 20], [40, 40, 60, 60], [80, 80, 100, 100]])
    probabilities = torch.tensor(
        [
            [0.125, 0.0625, 0.75, 0.0625],
            [0.375, 0.0625, 0.5, 0.0625],
            [0.25, 0.0625, 0.0625, 0.625],
            [0.91, 0.03, 0.03, 0.03],
        ]
    )
    edges = torch.tensor([[0.0, 0, 0, 0], [0.0, 0.1, 0.0, 0.1], [1.0, 0.5, -0.5, 0.0], [0.0, 0, 0, 0]])
    model = SimpleNamespace(settings=OverFeatSettings(min_score=0.2, merge=0.8, candidates=9))
    (found,) = OverFeat.decode(model, probabilities.log()[None], edges[None], windows, [(70, 70)])  # type: ignore[arg-type]
    assert found["labels"].tolist() == [2, 3]
    assert found["scores"].tolist() == pytest.approx([1 - 1 / 2.25, 1 - 1 / 1.625])
    assert found["boxes"][0].tolist() == pytest.approx([1, 1, 21, 21])
    assert found["boxes"][1].tolist() == pytest.approx([50, 50, 60, 60])  # from 60 to 50, and from 50 to 60
    few = SimpleNamespace(settings=OverFeatSettings(min_score=0.2, merge=0.8, candidates=1, max_detections=1))
    (found,) = OverFeat.decode(few, probabilities.log()[None], edges[None], windows, [(70, 70)])  # type: ignore[arg-type]
    assert found["scores"].tolist() == pytest.approx([1 - 1 / 1.75])


def test_random_negatives_are_drawn_of_those_that_may_be() -> None:
    allowed = torch.tensor([[True, False, True, True], [False, False, True, False], [False] * 4])
    found = overfeat._random(allowed, 2)
    assert found.sum(1).tolist() == [2, 1, 0]
    assert not (found & ~allowed).any()
    drawn = torch.stack([overfeat._random(allowed, 1)[0] for _ in range(100)]).sum(0)
    assert drawn[1] == 0
    assert (drawn[[0, 2, 3]] > 10).all()
