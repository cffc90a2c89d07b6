"""Heads and the pyramid against loops written out here; worked counts of boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.models.detection.ssd import SSD, SSDSettings
from sightline.models.preprocess import Preprocess
from sightline.nn.heads.box import BoxPredictor, BoxSettings, ConvHead, RegionHeads, TwoLayerHead
from sightline.nn.heads.decoupled import DecoupledHead
from sightline.nn.heads.retinanet import group_norm
from sightline.nn.heads.rpn import ProposalSettings, RegionProposalNetwork, RPNHead
from sightline.nn.heads.ssd import MapPredictor, SSDHead
from sightline.nn.heads.yolo_v1 import GridHead, YOLOv1Head
from sightline.nn.layers import batch_norm
from sightline.nn.necks.fpn import FeaturePyramid
from sightline.ops.anchors import default_box_shapes, default_boxes
from sightline.runtime.shapes import shapes_only
from sightline.structures import ImageBatch, Instances

Box = list[float]
Found = list[tuple[float, int, Box]]
"""(score, label, box), best first."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# The loops


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def suppress(found: Found, threshold: float) -> Found:
    """The highest score of a label is kept and strikes out what overlaps it too much; so on."""
    kept: Found = []
    for score, label, box in sorted(found, key=lambda f: -f[0]):
        if all(other != label or iou(box, large) <= threshold for _, other, large in kept):
            kept.append((score, label, box))
    return kept


def encode(box: Box, anchor: Box, weights: Sequence[float] = (1, 1, 1, 1)) -> list[float]:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    return [
        weights[0] * ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / width,
        weights[1] * ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / height,
        weights[2] * math.log((box[2] - box[0]) / width),
        weights[3] * math.log((box[3] - box[1]) / height),
    ]


def decode(delta: Sequence[float], anchor: Box, weights: Sequence[float], size: tuple[int, int]) -> Box:
    """The box that a correction leads to, inside the image."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = (anchor[0] + anchor[2]) / 2 + delta[0] / weights[0] * width
    y = (anchor[1] + anchor[3]) / 2 + delta[1] / weights[1] * height
    half_width = width * math.exp(min(delta[2] / weights[2], math.log(1000 / 16))) / 2
    half_height = height * math.exp(min(delta[3] / weights[3], math.log(1000 / 16))) / 2
    corners = [x - half_width, y - half_height, x + half_width, y + half_height]
    return [min(max(v, 0.0), float(size[1 - i % 2])) for i, v in enumerate(corners)]


def smooth_l1(difference: float, beta: float) -> float:
    d = abs(difference)
    return 0.5 * d * d / beta if d < beta else d - beta / 2


def softmax(row: Sequence[float]) -> list[float]:
    powers = [math.exp(v - max(row)) for v in row]
    return [p / sum(powers) for p in powers]


def boxes(count: int, size: int, seed: int, least: float = 4.0) -> Tensor:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, size - least, (count, 2))
    sides = generator.uniform(least, size / 2, (count, 2))
    return torch.tensor(np.hstack([corners, np.minimum(corners + sides, size)]), dtype=torch.float32)


def near(reference: Tensor, spread: float, seed: int) -> Tensor:
    """The boxes, moved a little."""
    drawn = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    moved = reference + drawn * spread
    return torch.cat([torch.minimum(moved[:, :2], moved[:, 2:] - 2), moved[:, 2:]], 1)


def targets_of(*rows: Tensor, size: int = 64, classes: int = 3) -> list[Instances]:
    return [
        Instances((size, size), boxes=row, labels=torch.arange(len(row)) % classes + 1) for row in rows
    ]  # labels as a head's outputs: 0 is the background


def same(found: dict[str, Tensor], expected: Found) -> None:
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    np.testing.assert_allclose(found["scores"].tolist(), [score for score, _, _ in expected], atol=1e-5)
    np.testing.assert_allclose(found["boxes"].tolist(), [box for _, _, box in expected], atol=1e-3)


def batch_of(images: int, size: int = 64) -> ImageBatch:
    return ImageBatch(torch.zeros(images, 3, size, size), [(size, size)] * images, [(size, size)] * images)


# Region proposals


def network(sizes: Sequence[Sequence[float]] = ((16,), (32,)), **numbers: Any) -> RegionProposalNetwork:
    return RegionProposalNetwork(4, sizes, settings=ProposalSettings(**numbers))


@pytest.mark.parametrize("kinds", [1, 9])
def test_vgg_s_features_of_a_640_by_480_image_give_so_many_scores(kinds: int) -> None:
    sizes = [[128, 256, 512]] if kinds == 9 else [[128]]
    rpn = RegionProposalNetwork(512, sizes, ratios=(0.5, 1, 2) if kinds == 9 else (1,))
    maps = {"0": torch.zeros(1, 512, 15, 20)}
    scores, deltas = rpn.head(list(maps.values()))
    assert scores[0].shape == (1, kinds * 20 * 15)
    assert deltas[0].numel() == 4 * kinds * 20 * 15
    image = ImageBatch(torch.zeros(1, 3, 480, 640), [(480, 640)], [(480, 640)])
    assert rpn.anchors(maps, image)[0].shape == (kinds * 20 * 15, 4)
    assert [c.out_channels for c in (rpn.head.cls_logits, rpn.head.bbox_pred)] == [kinds, 4 * kinds]


def test_scores_and_corrections_stand_cell_by_cell_as_the_anchors_do() -> None:
    head = RPNHead(4, anchors=3, depth=2)
    maps = [torch.randn(2, 4, 3, 5), torch.randn(2, 4, 2, 3)]
    with torch.no_grad():
        scores, deltas = head(maps)
        for x, score, delta in zip(maps, scores, deltas, strict=True):
            raw_scores, raw_deltas = head.cls_logits(head.conv(x)), head.bbox_pred(head.conv(x))
            row = 0
            for i in range(x.shape[2]):
                for j in range(x.shape[3]):
                    for a in range(3):
                        assert torch.equal(score[:, row], raw_scores[:, a, i, j])
                        assert torch.equal(delta[:, row], raw_deltas[:, 4 * a : 4 * a + 4, i, j])
                        row += 1
            assert score.shape == (2, row)
            assert delta.shape == (2, row, 4)


def test_anchors_belong_to_objects_by_the_paper_s_rules() -> None:
    rpn = network(positive_iou=0.7, negative_iou=0.3)
    truth = [boxes(6, 64, seed=1), boxes(0, 64, seed=2), boxes(1, 64, seed=3)]
    anchors = torch.cat([boxes(40, 64, seed=4), near(truth[0].repeat(3, 1), 1.5, seed=5)])
    seen = set()
    for match, target in zip(rpn.assign(anchors, targets_of(*truth)), truth, strict=True):
        overlaps = [[iou(t, a) for a in anchors.tolist()] for t in target.tolist()]
        for n, got in enumerate(match.tolist()):
            column = [row[n] for row in overlaps]
            most = max(column, default=0.0)
            best = column.index(most) if column else -1
            called = any(row[n] == max(row) > 0 for row in overlaps)
            expected = best if most >= 0.7 or called else -1 if most < 0.3 else -2
            assert got == expected, n
            seen.add(min(got, 0))
    assert seen == {0, -1, -2}


def test_the_proposal_losses_are_equation_1() -> None:
    rpn = network(samples=10_000, positive_fraction=1.0, positive_iou=0.6, negative_iou=0.3)
    truth = [boxes(4, 64, seed=1), boxes(2, 64, seed=2)]
    anchors = torch.cat([boxes(30, 64, seed=4), near(truth[0], 1.5, seed=5), near(truth[1], 1.5, seed=6)])
    scores, deltas = torch.randn(2, len(anchors)), torch.randn(2, len(anchors), 4)
    targets = targets_of(*truth)
    matches = rpn.assign(anchors, targets)
    losses = rpn.losses(scores, deltas, anchors, matches, targets)
    entropy, regression, count = 0.0, 0.0, 0
    for i in range(2):
        for n, match in enumerate(matches[i].tolist()):
            if match == -2:
                continue
            count += 1
            probability = 1 / (1 + math.exp(-float(scores[i, n])))
            entropy -= math.log(probability if match >= 0 else 1 - probability)
            if match >= 0:
                wanted = encode(truth[i][match].tolist(), anchors[n].tolist())
                regression += sum(smooth_l1(d - w, 1 / 9) for d, w in zip(deltas[i, n].tolist(), wanted, strict=True))
    assert float(losses["loss_objectness"]) == pytest.approx(entropy / count, rel=1e-5)
    assert float(losses["loss_proposal_box"]) == pytest.approx(regression / count, rel=1e-4)


@pytest.mark.parametrize(("positives", "drawn"), [(20, (8, 8)), (3, (3, 13)), (0, (0, 16))])
def test_so_many_anchors_of_each_kind_are_sampled(positives: int, drawn: tuple[int, int]) -> None:
    rpn = network(samples=16, positive_fraction=0.5)
    matches = torch.full((200,), -1)
    matches[:positives] = 0
    matches[100:] = -2
    scores = torch.where(matches == 0, 2.0, torch.where(matches == -1, 1.0, torch.nan)).requires_grad_()
    target = Instances((64, 64), boxes=[[1, 1, 9, 9]], labels=[1])
    losses = rpn.losses(scores[None], torch.zeros(1, 200, 4), boxes(200, 64, seed=1), [matches], [target])
    terms = drawn[0] * math.log(1 + math.exp(-2)) + drawn[1] * math.log(1 + math.exp(1))
    assert float(losses["loss_objectness"].detach()) == pytest.approx(terms / 16, rel=1e-5)
    (gradient,) = torch.autograd.grad(losses["loss_objectness"], scores)
    assert int((gradient != 0).sum()) == 16


@pytest.mark.parametrize("training", [True, False])
def test_proposals_are_the_best_boxes_after_suppression_level_by_level(training: bool) -> None:
    numbers: dict[str, Any] = {
        "before_nms": (25, 15),
        "after_nms": (4, 3),
        "nms_iou": 0.5,
        "min_score": 0.3,
        "min_size": 6.0,
    }
    rpn = network(**numbers)
    before, after = (25, 4) if training else (15, 3)
    places = boxes(7, 64, seed=1, least=9)  # the same on both levels, which must not suppress each other
    anchors = [near(places.repeat(5, 1), 1, seed=2), near(places, 1, seed=4)]
    sizes = [(64, 60), (50, 64)]
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(2, len(a), generator=generator) for a in anchors]
    deltas = [torch.randn(2, len(a), 4, generator=generator) * 0.1 for a in anchors]
    found = rpn.propose(scores, deltas, anchors, sizes, training)
    differs = False
    for i, size in enumerate(sizes):
        entering: Found = []
        for level, anchor in enumerate(anchors):
            order = sorted(range(len(anchor)), key=lambda n: -float(scores[level][i, n]))
            for n in order[:before]:
                box = decode(deltas[level][i, n].tolist(), anchor[n].tolist(), (1, 1, 1, 1), size)
                score = 1 / (1 + math.exp(-float(scores[level][i, n])))
                if score >= 0.3 and box[2] - box[0] >= 6 and box[3] - box[1] >= 6:
                    entering.append((score, level, box))
        kept = suppress(entering, 0.5)
        assert after < len(kept) < len(entering)
        np.testing.assert_allclose(found[i].tolist(), [box for _, _, box in kept[:after]], atol=1e-3)
        mixed = suppress([(score, 0, box) for score, _, box in entering], 0.5)
        differs |= [box for _, _, box in kept[:after]] != [box for _, _, box in mixed[:after]]
    assert differs


def test_what_comes_out_of_the_network_of_proposals() -> None:
    rpn = network()
    maps = {"0": torch.randn(2, 4, 8, 8), "1": torch.randn(2, 4, 4, 4)}
    proposals, losses = rpn(maps, batch_of(2))
    assert losses == {}
    assert [p.shape[1] for p in proposals] == [4, 4]
    proposals, losses = rpn(maps, batch_of(2), targets_of(boxes(2, 64, seed=0), boxes(0, 64, seed=0)))
    assert set(losses) == {"loss_objectness", "loss_proposal_box"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in rpn.parameters())
    assert not any(p.requires_grad for p in proposals)  # the second stage does not teach the first by its boxes


def test_a_threshold_that_nothing_reaches_leaves_no_proposals() -> None:
    rpn = network(min_score=1.1)
    proposals, _ = rpn({"0": torch.randn(2, 4, 8, 8), "1": torch.randn(2, 4, 4, 4)}, batch_of(2))
    assert [p.shape for p in proposals] == [(0, 4), (0, 4)]


# The second stage


def corners(maps: dict[str, Tensor], regions: Sequence[Tensor], batch: ImageBatch) -> Tensor:
    """Features of a region: its own coordinates, so that a wrong order is seen."""
    return torch.cat(list(regions)).reshape(-1, 4, 1, 1) / 64


def stage(**numbers: Any) -> RegionHeads:
    return RegionHeads(corners, TwoLayerHead(4, 8), BoxPredictor(8, 3), BoxSettings(**numbers))


def test_two_dense_layers() -> None:
    head, x = TwoLayerHead(2 * 3 * 3, 5), torch.randn(4, 2, 3, 3)
    hidden = np.maximum(x.flatten(1).numpy() @ head.fc6.weight.detach().numpy().T + head.fc6.bias.detach().numpy(), 0)
    expected = np.maximum(hidden @ head.fc7.weight.detach().numpy().T + head.fc7.bias.detach().numpy(), 0)
    np.testing.assert_allclose(head(x).detach().numpy(), expected, atol=1e-5)
    assert head(x[:0]).shape == (0, 5)


def test_four_convolutions_and_a_dense_layer() -> None:
    head = ConvHead((2, 7, 7), convs=(3, 4, 4, 4), hidden=5)
    assert head(torch.randn(6, 2, 7, 7)).shape == (6, 5)
    assert head.out_features == 5
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convs] == [
        (2, 3, (3, 3)),
        (3, 4, (3, 3)),
        (4, 4, (3, 3)),
        (4, 4, (3, 3)),
    ]


def test_a_predictor_gives_every_class_corrections_of_its_own() -> None:
    predictor, x = BoxPredictor(6, 3), torch.randn(5, 6)
    scores, deltas = predictor(x)
    assert scores.shape == (5, 4)
    assert deltas.shape == (5, 4, 4)
    for k in range(4):
        rows = predictor.bbox_pred.weight[4 * k : 4 * k + 4], predictor.bbox_pred.bias[4 * k : 4 * k + 4]
        torch.testing.assert_close(deltas[:, k], nn.functional.linear(x, *rows))


def test_regions_to_learn_from() -> None:
    weights = (10.0, 9.0, 5.0, 4.0)
    heads = stage(samples=10_000, positive_fraction=1.0, weights=weights)
    truth = [boxes(3, 64, seed=1), boxes(0, 64, seed=2), boxes(2, 64, seed=3)]
    proposals = [torch.cat([near(t, 2, seed=4), boxes(12, 64, seed=5)]) for t in truth[:2]] + [torch.zeros(0, 4)]
    targets = targets_of(*truth)
    samples = heads.sample(proposals, targets)
    assert [len(r) for r in samples.regions] == [18, 12, 2]
    row = 0
    for proposal, target, regions in zip(proposals, targets, samples.regions, strict=True):
        candidates = [*proposal.tolist(), *target.boxes.tolist()]
        assert sorted(map(tuple, regions.tolist())) == sorted(map(tuple, candidates))
        for region in regions.tolist():
            overlaps = [iou(t, region) for t in target.boxes.tolist()]
            most = max(overlaps, default=0.0)
            label, wanted = 0, [0.0] * 4
            if most >= 0.5:
                of = overlaps.index(most)
                label, wanted = int(target.labels[of]), encode(target.boxes[of].tolist(), region, weights)
            assert int(samples.labels[row]) == label
            np.testing.assert_allclose(samples.box_targets[row].tolist(), wanted, atol=1e-4)
            row += 1
    assert row == len(samples.labels) == len(samples.box_targets)
    assert set(samples.labels.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("good", "drawn"), [(50, (4, 12)), (2, (3, 13))])
def test_so_many_regions_of_each_kind_are_sampled(good: int, drawn: tuple[int, int]) -> None:
    truth = torch.tensor([[10.0, 10, 40, 40]])
    proposals = torch.cat([truth.expand(good, 4), torch.tensor([[45.0, 45, 60, 60]]).expand(80, 4)])
    samples = stage(samples=16, positive_fraction=0.25).sample([proposals], targets_of(truth))
    assert (int((samples.labels > 0).sum()), int((samples.labels == 0).sum())) == drawn


def test_the_second_stage_s_losses_are_equation_1() -> None:
    labels = torch.tensor([2, 0, 3, 0, 1])
    logits, deltas, wanted = torch.randn(5, 4), torch.randn(5, 4, 4), torch.randn(5, 4) * 0.2
    losses = stage().losses(logits, deltas, labels, wanted)
    entropy = -sum(math.log(softmax(row)[k]) for row, k in zip(logits.tolist(), labels.tolist(), strict=True))
    regression = sum(
        smooth_l1(float(deltas[r, k, i] - wanted[r, i]), 1 / 9)
        for r, k in enumerate(labels.tolist())
        if k
        for i in range(4)
    )
    assert float(losses["loss_classification"]) == pytest.approx(entropy / 5, rel=1e-5)
    assert float(losses["loss_box"]) == pytest.approx(regression / 5, rel=1e-5)


def test_without_regions_the_losses_are_zero() -> None:
    nothing = torch.zeros(0, 4)
    losses = stage().losses(nothing, torch.zeros(0, 4, 4), torch.zeros(0, dtype=torch.int64), nothing)
    assert [float(v) for v in losses.values()] == [0.0, 0.0]


def test_detections_are_decoded_class_by_class() -> None:
    numbers: dict[str, Any] = {"min_score": 0.15, "nms_iou": 0.4, "max_detections": 9, "min_size": 5.0}
    heads, weights = stage(**numbers), BoxSettings().weights
    proposals = [near(boxes(3, 64, seed=1).repeat(5, 1), 2, seed=2), torch.zeros(0, 4), boxes(6, 64, seed=3)]
    sizes = [(64, 60), (64, 64), (40, 64)]
    generator = torch.Generator().manual_seed(1)
    logits, deltas = torch.randn(21, 4, generator=generator), torch.randn(21, 4, 4, generator=generator)
    found = heads.decode(logits, deltas, proposals, sizes)
    start = 0
    for i, (proposal, size) in enumerate(zip(proposals, sizes, strict=True)):
        entering: Found = []
        for r, region in enumerate(proposal.tolist()):
            scores = softmax(logits[start + r].tolist())
            for k in range(1, 4):
                box = decode(deltas[start + r, k].tolist(), region, weights, size)
                if scores[k] > 0.15 and box[2] - box[0] >= 5 and box[3] - box[1] >= 5:
                    entering.append((scores[k], k, box))
        kept = suppress(entering, 0.4)
        if i == 0:
            assert 9 < len(kept) < len(entering)
        same(found[i], kept[:9])
        start += len(proposal)


def test_an_image_without_proposals_has_no_detections() -> None:
    heads = stage(min_score=0.0)
    found, losses = heads({}, [torch.zeros(0, 4), torch.zeros(0, 4)], batch_of(2))
    assert losses == {}
    for row in found:
        assert (row["boxes"].shape, row["labels"].shape, row["scores"].shape) == ((0, 4), (0,), (0,))
    found, losses = heads({}, [torch.zeros(0, 4)], batch_of(1), targets_of(boxes(0, 64, seed=1)))
    assert found == []
    assert all(float(v.detach()) == 0 for v in losses.values())


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_regions_taken_in_parts_give_the_same(chunk: int) -> None:
    heads = stage()
    regions = [boxes(4, 64, seed=1), torch.zeros(0, 4), boxes(3, 64, seed=2)]
    expected = heads.predict({}, regions, batch_of(3))
    heads.settings = replace(heads.settings, chunk=chunk)
    for got, wanted in zip(heads.predict({}, regions, batch_of(3)), expected, strict=True):
        torch.testing.assert_close(got, wanted)


# Single-shot heads


@pytest.mark.parametrize(
    ("maps", "anchors", "total"),
    [
        ((38, 19, 10, 5, 3, 1), (4, 6, 6, 6, 4, 4), 8732),  # SSD300
        ((20, 10, 5, 3, 2, 1), (6,) * 6, 3234),  # SSDlite320
    ],
)
@pytest.mark.parametrize("classes", [20, 90])
def test_so_many_boxes_are_predicted(maps: tuple[int, ...], anchors: tuple[int, ...], total: int, classes: int) -> None:
    with shapes_only():
        separable = batch_norm() if total == 3234 else None
        head = SSDHead([8] * 6, anchors, classes, separable_norm=separable)
        scores, deltas = head([torch.zeros(2, 8, side, side) for side in maps])
    assert scores.shape == (2, total, classes + 1)
    assert deltas.shape == (2, total, 4)
    ratios = [[2] if a == 4 else [2, 3] for a in anchors]
    shapes = default_box_shapes(ratios)
    assert [len(s) for s in shapes] == list(anchors)
    assert len(default_boxes(shapes, [(side, side) for side in maps], (300, 300))) == total
    for module, wanted in ((head.classification_head, classes + 1), (head.regression_head, 4)):
        last = [m if isinstance(m, nn.Conv2d) else m[-1] for m in module.module_list]
        assert [c.out_channels for c in last] == [a * wanted for a in anchors]


@pytest.mark.parametrize("norm", [None, batch_norm()])
def test_predictions_stand_map_by_map_and_cell_by_cell(norm: Callable[..., nn.Module] | None) -> None:
    predictor = MapPredictor([3, 4], [2, 3], outputs=5, separable_norm=norm).eval()
    maps = [torch.randn(2, 3, 4, 3), torch.randn(2, 4, 2, 2)]
    with torch.no_grad():
        rows = predictor(maps)
        row = 0
        for module, x, anchors in zip(predictor.module_list, maps, (2, 3), strict=True):
            raw = module(x)
            for i in range(x.shape[2]):
                for j in range(x.shape[3]):
                    for a in range(anchors):
                        assert torch.equal(rows[:, row], raw[:, 5 * a : 5 * a + 5, i, j])
                        row += 1
    assert rows.shape == (2, row, 5)


def detector(**numbers: Any) -> SSD:
    head = SSDHead([4], [4], 3)
    preprocess = Preprocess(fixed_size=(64, 64), divisor=1)
    shapes = default_box_shapes([[2]])
    return SSD(["a", "b", "c"], preprocess, nn.Identity(), head, shapes, SSDSettings(**numbers))


def test_default_boxes_belong_to_objects() -> None:
    truth = [boxes(5, 64, seed=1), boxes(0, 64, seed=2)]
    anchors = torch.cat([boxes(30, 64, seed=3), near(truth[0].repeat(2, 1), 3, seed=4)])
    matches = detector(positive_iou=0.6).assign(anchors, targets_of(*truth))
    assert matches.shape == (2, 40)
    for match, target in zip(matches.tolist(), truth, strict=True):
        overlaps = [[iou(t, a) for a in anchors.tolist()] for t in target.tolist()]
        expected = []
        for n in range(40):
            column = [row[n] for row in overlaps]
            most = max(column, default=0.0)
            expected.append(column.index(most) if most >= 0.6 else -1)
        for g, row in enumerate(overlaps):  # every object has its best box, whatever the threshold
            expected[row.index(max(row))] = g
        assert match == expected
    assert (matches[0] >= 0).any()


def test_the_single_shot_losses_are_equations_1_to_3() -> None:
    model = detector(negatives=2.0)
    truth = [boxes(3, 64, seed=1), boxes(0, 64, seed=2), boxes(2, 64, seed=3)]
    anchors = torch.cat([boxes(25, 64, seed=4), near(truth[0].repeat(2, 1), 2, seed=5), near(truth[2], 1, seed=6)])
    targets = targets_of(*truth)
    count = len(anchors)
    logits, deltas = torch.randn(3, count, 4), torch.randn(3, count, 4)
    matches = model.assign(anchors, targets)
    losses = model.losses(logits, deltas, anchors, matches, targets)
    entropy, regression, objects = 0.0, 0.0, 0
    for i, target in enumerate(targets):
        negatives, positives = [], 0
        for n, match in enumerate(matches[i].tolist()):
            probabilities = softmax(logits[i, n].tolist())
            if match < 0:
                negatives.append(-math.log(probabilities[0]))
                continue
            positives += 1
            entropy -= math.log(probabilities[int(target.labels[match])])
            wanted = encode(target.boxes[match].tolist(), anchors[n].tolist(), (10, 10, 5, 5))
            regression += sum(smooth_l1(d - w, 1.0) for d, w in zip(deltas[i, n].tolist(), wanted, strict=True))
        entropy += sum(sorted(negatives, reverse=True)[: 2 * positives])
        objects += positives
    assert objects > 5
    assert float(losses["loss_classification"]) == pytest.approx(entropy / objects, rel=1e-5)
    assert float(losses["loss_box"]) == pytest.approx(regression / objects, rel=1e-4)


def test_single_shot_detections_are_decoded_class_by_class() -> None:
    model = detector(min_score=0.2, candidates=9, nms_iou=0.4, max_detections=8)
    anchors = torch.cat([boxes(8, 64, seed=1), near(boxes(3, 64, seed=2, least=16).repeat(4, 1), 1, seed=3)])
    logits, deltas = torch.randn(2, 20, 4), torch.randn(2, 20, 4)
    sizes = [(64, 64), (50, 60)]
    found = model.decode(logits, deltas, anchors, sizes)
    for i, size in enumerate(sizes):
        entering: Found = []
        for k in range(1, 4):
            scores = [softmax(row)[k] for row in logits[i].tolist()]
            for n in sorted(range(20), key=lambda n: -scores[n])[:9]:
                if scores[n] > 0.2:
                    box = decode(deltas[i, n].tolist(), anchors[n].tolist(), (10, 10, 5, 5), size)
                    entering.append((scores[n], k, box))
        kept = suppress(entering, 0.4)
        assert 8 < len(kept) < len(entering)
        same(found[i], kept[:8])


class OneMap(nn.Conv2d):
    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        return [super().forward(x)]


def test_a_single_shot_detector_s_step_without_objects() -> None:
    model = detector()
    model.backbone = OneMap(3, 4, 3, 16)
    losses = model([torch.rand(3, 64, 64)], [Instances((64, 64), classes=model.classes)])
    sum(losses.values()).backward()
    assert {k: float(v.detach()) for k, v in losses.items()} == {"loss_box": 0.0, "loss_classification": 0.0}


# The pyramid


def convolved(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """A convolution of stride 1 that keeps the size, by loops."""
    weight, bias = layer.weight.detach().numpy(), layer.bias
    pad = weight.shape[2] // 2
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((len(weight), height, width))
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + 2 * pad + 1, j : j + 2 * pad + 1]
            out[:, i, j] = (weight * window).sum((1, 2, 3))
    return out + (0 if bias is None else bias.detach().numpy()[:, None, None])


def test_the_pyramid_is_built_from_the_top_down() -> None:
    sizes = [(9, 14), (5, 7), (3, 4)]  # a map of odd size is more than twice the next
    pyramid = FeaturePyramid([2, 3, 4], 5)
    nn.init.normal_(pyramid.inner_blocks[0][0].bias)
    maps = {f"m{i}": torch.randn(1, c, *size) for i, (c, size) in enumerate(zip((2, 3, 4), sizes, strict=True))}
    with torch.no_grad():
        found = pyramid(maps)
    assert list(found) == ["m0", "m1", "m2", "pool"]
    above: np.ndarray | None = None
    for level in (2, 1, 0):
        lateral = convolved(maps[f"m{level}"][0].numpy(), pyramid.inner_blocks[level][0])
        if above is not None:
            height, width = lateral.shape[1:]
            for i in range(height):
                for j in range(width):
                    lateral[:, i, j] += above[:, i * above.shape[1] // height, j * above.shape[2] // width]
        above = lateral
        smoothed = convolved(above, pyramid.layer_blocks[level][0])
        np.testing.assert_allclose(found[f"m{level}"][0].numpy(), smoothed, atol=1e-4)
    assert torch.equal(found["pool"], found["m2"][:, :, ::2, ::2])


def test_the_pyramid_s_norms() -> None:
    plain, normed = FeaturePyramid([2, 3], 4), FeaturePyramid([2, 3], 4, norm=batch_norm())
    for pyramid, wanted in ((plain, 0), (normed, 4)):
        assert sum(isinstance(m, nn.BatchNorm2d) for m in pyramid.modules()) == wanted
        convs = [m for m in pyramid.modules() if isinstance(m, nn.Conv2d)]
        assert [c.bias is None for c in convs] == [wanted > 0] * 4
        assert not any(isinstance(m, nn.ReLU) for m in pyramid.modules())
        assert pyramid.out_channels == 4


# Starts and published numbers


def spread(layer: nn.Module) -> float:
    return float(layer.weight.detach().std())


def test_last_layers_start_small() -> None:
    """Weights of σ 0.01: RetinaNet, section 4.1, and the heads that follow it; 0.001 would be Fast R-CNN's boxes."""
    dense = DecoupledHead(64, 80, 3)
    for layer in (
        *dense.classes,
        *dense.sides,
        GridHead(64, 4, 2, 20).last,
        YOLOv1Head(8, (4, 4), 4, 2, 20, hidden=64, width=8).last,
    ):
        assert spread(layer) == pytest.approx(0.01, rel=0.05)
    for layer in dense.classes:
        assert layer.bias.sigmoid().tolist() == pytest.approx([0.01] * 80)


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (64, 16), (128, 32), (256, 32)])
def test_groups_of_four_channels_or_thirty_two_groups(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_deltas_are_weighted_by_ten_and_five() -> None:
    """Fast R-CNN's code: the deltas are divided by (0.1, 0.1, 0.2, 0.2). Worked: a proposal of 10 × 20 and an
    object one tenth of its width to the right, 1.6 times as wide and 0.8 times as high."""
    heads = RegionHeads(lambda *_: torch.zeros(0), nn.Identity(), BoxPredictor(4, 2))  # type: ignore[arg-type]
    proposal, box = torch.tensor([[20.0, 20, 30, 40]]), torch.tensor([[18.0, 20, 34, 36]])
    target = Instances((60, 60), boxes=box, labels=[1])
    sampled = heads.sample([proposal], [target])
    row = (sampled.regions[0] == proposal).all(1).nonzero().item()
    expected = [10 * 0.1, 10 * -0.1, 5 * math.log(1.6), 5 * math.log(0.8)]
    assert sampled.box_targets[row].tolist() == pytest.approx(expected, rel=1e-5)


def test_proposals_of_exactly_the_least_side_stay() -> None:
    rpn = RegionProposalNetwork(4, [[16.0]], settings=ProposalSettings(min_size=16.0))
    anchors = torch.tensor([[0.0, 0, 16, 16], [32, 0, 47, 16], [0, 32, 16, 47], [32, 32, 48, 48]])
    found = rpn.ranked([torch.zeros(1, 4)], [torch.zeros(1, 4, 4)], [anchors], [(64, 64)], False)[0]
    assert sorted(found[0].tolist()) == [[0, 0, 16, 16], [32, 32, 48, 48]]
    assert found[1].tolist() == [0.5, 0.5]
    rpn.settings = ProposalSettings(min_score=0.5)
    assert len(rpn.ranked([torch.zeros(1, 4)], [torch.zeros(1, 4, 4)], [anchors], [(64, 64)], False)[0][0]) == 4
