"""EfficientDet: published counts and scaling; its assignment, losses and decoding against loops."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.catalog import find
from sightline.models.creation import create_model
from sightline.models.detection.efficientdet import EfficientDet, EfficientDetSettings, efficientdet
from sightline.nn.backbones import efficientnet, named
from sightline.nn.heads.efficientdet import EfficientDetHead
from sightline.nn.layers import fuse
from sightline.nn.necks.bifpn import WeightedFusion
from sightline.ops.boxes import box_iou, decode_boxes, encode_boxes
from sightline.ops.suppression import soft_nms
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances

NAMES = ["circle", "square", "star"]
NINETY = [f"class {i}" for i in range(90)]
# table 1: image, width and layers of the BiFPN, layers of the head; parameters in millions (table 2)
TABLE = {
    "d0": (512, 64, 3, 3, 3.9),
    "d1": (640, 88, 4, 3, 6.6),
    "d2": (768, 112, 5, 3, 8.1),
    "d3": (896, 160, 6, 4, 12.0),
    "d4": (1024, 224, 7, 4, 20.7),
    "d5": (1280, 288, 7, 4, 33.7),
    "d6": (1280, 384, 8, 5, 51.9),
    "d7": (1536, 384, 8, 5, 51.9),
}
# parameters of the classifier, C of its maps of stride 8, 16 and 32: 40, 112 and 320 times its width to multiples of 8
BACKBONES = (
    (5_288_548, 40, 112, 320),
    (7_794_184, 40, 112, 320),
    (9_109_994, 48, 120, 352),
    (12_233_232, 48, 136, 384),
    (19_341_616, 56, 160, 448),
    (30_389_784, 64, 176, 512),
    (43_040_704, 72, 200, 576),
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", TABLE)
def test_each_has_the_paper_s_sizes_and_parameters(name: str) -> None:
    """And the exact number by hand: separable convolutions of 9·C + C·D + D, norms of 2·C, nodes of 2 or 3 weights."""
    image, width, layers, depth, millions = TABLE[name]
    with shapes_only():
        model = create_model(f"efficientdet_{name}", NINETY)
    assert (model.preprocess.min_size, model.preprocess.max_size, model.preprocess.divisor) == (image, image, 128)
    assert (model.neck.out_channels, len(model.neck.layers)) == (width, layers)
    assert len(model.head.classification.tower.convolutions) == depth
    assert round(count(model) / 1e6, 1) == millions

    def separable(c: int, out: int) -> int:
        return 9 * c + c * out + out

    weights = 0 if name in ("d6", "d7") else 5 * 2 + 3 * 3
    assert len([m for m in model.modules() if isinstance(m, WeightedFusion) and m.weights is not None]) == (
        8 * layers if weights else 0
    )
    neck = layers * (8 * (separable(width, width) + 2 * width) + weights)
    classifier, c3, c4, c5 = BACKBONES[min(int(name[1]), 6)]
    neck += sum(n * (c * width + width + 2 * width) for c, n in ((c3, 1), (c4, 2), (c5, 3)))
    head = 2 * depth * (separable(width, width) + 5 * 2 * width)
    head += separable(width, 9 * 90) + separable(width, 9 * 4)
    body = classifier - (4 * c5 * 1000 + 1000) - (4 * c5 * c5 + 2 * 4 * c5)  # dense layer, last 1×1 with its norm
    assert count(model) == body + neck + head


def test_d0_has_the_authors_number_of_parameters() -> None:
    with shapes_only():
        assert count(efficientdet(NINETY)) == 3_880_067


@pytest.fixture(scope="module")
def model() -> EfficientDet:
    torch.manual_seed(0)
    return efficientdet(NAMES, image_size=256).eval()


def test_images_keep_their_aspect_and_are_padded_to_the_coarsest_stride(model: EfficientDet) -> None:
    images = [torch.zeros(3, 120, 200), torch.zeros(3, 100, 50), torch.zeros(3, 300, 310)]
    batch, _ = model.prepare(images[:1], None)
    assert batch.sizes == [(153, 256)]
    assert batch.tensor.shape == (1, 3, 256, 256)
    assert model.prepare(images[1:2], None)[0].tensor.shape == (1, 3, 256, 128)
    assert model.prepare(images, None)[0].sizes == [(153, 256), (256, 128), (247, 256)]


def test_anchors_are_three_sizes_in_three_shapes_around_the_middle_of_each_cell(model: EfficientDet) -> None:
    """Anchors of 4 times the stride; 49,104 of them for 512 pixels: 9 · (64² + 32² + 16² + 8² + 4²)."""
    batch, _ = model.prepare([torch.zeros(3, 256, 256)], None)
    maps = [torch.zeros(1, 1, 256 // s, 256 // s) for s in (8, 16, 32, 64, 128)]
    anchors = model.anchors(maps, batch)
    assert len(anchors) * 4 == 49_104
    start = 0
    for stride in (8, 16, 32, 64, 128):
        side = 256 // stride
        level = anchors[start : start + 9 * side**2].reshape(side, side, 9, 4)
        start += 9 * side**2
        centres = (level[..., :2] + level[..., 2:]) / 2
        rows = (torch.arange(side) + 0.5) * stride
        torch.testing.assert_close(centres[..., 0], rows[None, :, None].expand(side, side, 9))
        torch.testing.assert_close(centres[..., 1], rows[:, None, None].expand(side, side, 9))
        sides = level[0, 0, :, 2:] - level[0, 0, :, :2]
        areas = sorted((sides[:, 0] * sides[:, 1]).sqrt().tolist())
        wanted = [4 * stride * 2 ** (k / 3) for k in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
        assert areas == pytest.approx(wanted, rel=0.04)
        shapes = sorted((sides[:, 1] / sides[:, 0]).tolist())
        assert shapes == pytest.approx([0.5] * 3 + [1] * 3 + [2] * 3, rel=0.07)
    assert model.anchor_shapes((512, 400))[:9].tolist() == (2 * sides_of(anchors[:9])).tolist()


def sides_of(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]


def test_d7_is_d6_with_anchors_of_five_times_the_stride() -> None:
    d6, d7 = find("efficientdet_d6").fixed, find("efficientdet_d7").fixed
    assert d7 == {**d6, "anchor_scale": 5}
    large = efficientdet(NAMES, image_size=128, channels=8, repeats=1, depth=1, anchor_scale=5)
    assert sides_of(large.anchor_bases[0])[3].tolist() == [40, 40]
    assert sides_of(large.anchor_bases[4])[3].tolist() == [640, 640]


def anchors_and_outputs(seed: int, classes: int = 3) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Two levels of 60 and 12 anchors, and outputs of two images for them."""
    generator = torch.Generator().manual_seed(seed)
    anchors, logits, deltas = [], [], []
    for number, side in ((60, 20.0), (12, 50.0)):
        corners = torch.rand(number, 2, generator=generator) * 80
        sides = side * (0.5 + torch.rand(number, 2, generator=generator))
        anchors.append(torch.cat([corners, corners + sides], 1))
        logits.append(torch.randn(2, number, classes, generator=generator))
        deltas.append(torch.randn(2, number, 4, generator=generator) * 0.3)
    return torch.cat(anchors), logits, deltas


TARGETS = [
    Instances((100, 100), boxes=[[10.0, 12.0, 40.0, 37.0], [30.0, 30.0, 90.0, 85.0], [0, 0, 3, 99]], labels=[1, 3, 2]),
    Instances((100, 100), boxes=torch.zeros(0, 4), labels=[]),
]


def test_every_object_has_its_best_anchor_and_those_that_overlap_it_by_half(model: EfficientDet) -> None:
    anchors, _, _ = anchors_and_outputs(0)
    matches = model.assign(anchors, TARGETS)
    iou = box_iou(TARGETS[0].boxes, anchors)
    expected = [int(iou[:, n].argmax()) if float(iou[:, n].max()) >= 0.5 else -1 for n in range(72)]
    for i in range(3):
        expected[int(iou[i].argmax())] = i
    assert matches[0].tolist() == expected
    assert expected.count(2) == 1  # nothing overlaps the narrow one by half
    assert set(matches[1].tolist()) == {-1}


def test_losses_equal_a_loop_over_anchors_and_classes(model: EfficientDet) -> None:
    """Focal loss of α = ¼ and γ = 1.5; 50 times the Huber loss of δ = 0.1; over the batch's objects' anchors and 1."""
    anchors, logits, deltas = anchors_and_outputs(0)
    matches = model.assign(anchors, TARGETS)
    losses = model.losses(logits, deltas, anchors, matches, TARGETS)
    focal = huber = 0.0
    objects = 1
    for i, target in enumerate(TARGETS):
        for n in range(72):
            match = int(matches[i, n])
            for k in range(3):
                p = 1 / (1 + math.exp(-float(torch.cat(logits, 1)[i, n, k])))
                if match >= 0 and int(target.labels[match]) == k + 1:
                    focal += 0.25 * (1 - p) ** 1.5 * -math.log(p)
                else:
                    focal += 0.75 * p**1.5 * -math.log(1 - p)
            if match >= 0:
                objects += 1
                wanted = encode_boxes(target.boxes[match], anchors[n])
                for d in (torch.cat(deltas, 1)[i, n] - wanted).abs().tolist():
                    huber += d**2 / 2 if d <= 0.1 else 0.1 * (d - 0.05)
    assert objects == 4
    assert float(losses["loss_classification"]) == pytest.approx(focal / objects, rel=1e-5)
    assert float(losses["loss_box"]) == pytest.approx(50 * huber / (4 * objects), rel=1e-5)


@pytest.mark.parametrize("suppression", ["soft", "hard"])
def test_decoding_equals_a_loop(model: EfficientDet, suppression: str) -> None:
    anchors, logits, deltas = anchors_and_outputs(3)
    usual, model.settings = (
        model.settings,
        EfficientDetSettings(min_score=0.4, candidates=40, nms_iou=0.3, suppression=suppression, max_detections=25),  # type: ignore[arg-type]
    )
    results = model.decode(logits, deltas, anchors, [(90, 100), (100, 70)])
    model.settings = usual
    for i, (height, width) in enumerate([(90, 100), (100, 70)]):
        pairs = []
        for n in range(72):
            box = decode_boxes(torch.cat(deltas, 1)[i, n], anchors[n]).tolist()
            box = [min(max(v, 0), limit) for v, limit in zip(box, (width, height) * 2, strict=True)]
            pairs += [(float(torch.cat(logits, 1)[i, n, k].sigmoid()), k + 1, box) for k in range(3)]
        waiting = [x for x in sorted(pairs, reverse=True)[:40] if x[0] > 0.4]
        kept = []
        while waiting:
            score, label, box = max(waiting)
            waiting.remove((score, label, box))
            kept.append((score, label, box))
            left = []
            for s, k, b in waiting:
                iou = float(box_iou(torch.tensor([box]), torch.tensor([b])).nan_to_num(0)) if k == label else 0.0
                if suppression == "soft":
                    s *= math.exp(-(iou**2) / 0.5)
                elif iou > 0.3:
                    continue
                if s >= 0.4:
                    left.append((s, k, b))
            waiting = left
        kept = sorted(kept, reverse=True)[:25]
        assert results[i]["labels"].tolist() == [k for _, k, _ in kept]
        assert results[i]["scores"].tolist() == pytest.approx([s for s, _, _ in kept], rel=1e-5)
        torch.testing.assert_close(results[i]["boxes"], torch.tensor([b for _, _, b in kept]))
        assert len(kept) > 10


def test_soft_suppression_class_by_class_is_that_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 30
    boxes = torch.cat([corners, corners + 5 + 20 * torch.rand(60, 2, generator=generator)], 1)
    scores, labels = torch.rand(60, generator=generator), torch.randint(0, 4, (60,), generator=generator)
    together = dict(zip(*(x.tolist() for x in soft_nms(boxes, scores, labels=labels)), strict=True))
    apart: dict[int, float] = {}
    for label in range(4):
        ids = (labels == label).nonzero()[:, 0]
        kept, left = soft_nms(boxes[ids], scores[ids])
        apart |= dict(zip(ids[kept].tolist(), left.tolist(), strict=True))
    assert together == pytest.approx(apart)
    with pytest.raises(InputError, match="labels have shape"):
        soft_nms(boxes, scores, labels=labels[:3])


def test_levels_share_convolutions_and_have_norms_of_their_own() -> None:
    torch.manual_seed(0)
    head = EfficientDetHead(8, 9, 3, 2, levels=3).eval()
    maps = [torch.rand(1, 8, 4 >> i, 4 >> i) for i in range(3)]
    with torch.inference_mode():
        before = head(maps)
        assert [tuple(x.shape) for x in before[0]] == [(1, 144, 3), (1, 36, 3), (1, 9, 3)]
        assert [tuple(x.shape) for x in before[1]] == [(1, 144, 4), (1, 36, 4), (1, 9, 4)]
        head.classification.tower.norms[1][0].bias.add_(1)
        after = head(maps)
        same = [torch.equal(a, b) for a, b in zip(before[0] + before[1], after[0] + after[1], strict=True)]
        assert same == [True, False, True, True, True, True]
        head.regression.tower.convolutions[1][1].bias.add_(1)
        moved = head(maps)[1]
        assert not any(torch.equal(a, b) for a, b in zip(before[1], moved, strict=True))


def test_every_class_starts_at_a_score_of_a_hundredth() -> None:
    torch.manual_seed(0)
    head = EfficientDetHead(16, 9, 4, 3)
    scores, corrections = head([torch.rand(2, 16, 16 >> i, 16 >> i) for i in range(5)])
    assert torch.cat(scores, 1).sigmoid().mean().item() == pytest.approx(0.01, rel=0.1)
    assert torch.cat(corrections, 1).abs().mean().item() < 0.1


def test_fused_it_answers_the_same(model: EfficientDet) -> None:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    fused = fuse(model)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    x = torch.rand(1, 3, 128, 256)
    with torch.inference_mode():
        for a, b in zip(model.network(x), fused.network(x), strict=True):
            for one, other in zip(a, b, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


@pytest.mark.parametrize(("size", "near"), [(500, 512), (64, 128), (0, 128), (-128, 128), (700, 640)])
def test_the_image_size_is_a_multiple_of_the_coarsest_stride(size: int, near: int) -> None:
    with pytest.raises(InputError, match=f"image_size is {size}, but must be a multiple of 128.*give {near}"):
        create_model("efficientdet_d0", NAMES, image_size=size)


def test_a_suppression_that_there_is_not() -> None:
    with pytest.raises(InputError, match="suppression is 'none', but must be 'soft' or 'hard'"):
        EfficientDetSettings(suppression="none")  # type: ignore[arg-type]


def test_it_overfits_two_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small relative of D0. Predictions are by the batch's statistics: a P7 of one cell an image gives no others."""
    torch.manual_seed(0)
    net = efficientnet.EfficientNet(0.5, 0.4, 0.0, drop=0.0)
    monkeypatch.setitem(named.BACKBONES, "efficientnet_b0", lambda *_, **__: net)
    model = efficientdet(NAMES, image_size=128, channels=32, repeats=1, depth=1).train()
    images = [torch.full((3, 96, 96), 60, dtype=torch.uint8) for _ in range(2)]
    boxes, labels, targets = [[16.0, 16.0, 64.0, 64.0], [40.0, 24.0, 88.0, 72.0]], (0, 2), []
    for picture, box, label in zip(images, boxes, labels, strict=True):
        x1, y1, x2, y2 = map(int, box)
        picture[label, y1:y2, x1:x2] = 250
        targets.append(Instances((96, 96), classes=model.classes, boxes=[box], labels=[label]))
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(30):
        optimizer.zero_grad()
        sum(model(images, targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        results = model(images)
    for result, box, label in zip(results, boxes, labels, strict=True):
        assert int(result.labels[0]) == label
        assert float(result.scores[0]) > 0.5
        assert result.boxes[0].tolist() == pytest.approx(box, abs=10)


def test_half_an_overlap_makes_an_anchor_the_object_s() -> None:
    """At an IoU of 1/2 and above; below it, even at 0.49, an anchor is background (the authors' code)."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [50, 50, 60, 60]])
    target = Instances((64, 64), boxes=[[0.0, 0, 10, 10]], labels=[1])
    numbers = SimpleNamespace(settings=EfficientDetSettings())
    assert EfficientDet.assign(numbers, anchors, [target]).tolist() == [[0, 0, -1, -1]]  # type: ignore[arg-type]
