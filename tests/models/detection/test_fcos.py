"""FCOS: equal to torchvision's; its assignment and its losses against loops over locations written from the papers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.fcos import (
    FCOS,
    FCOSSettings,
    centreness_targets,
)
from sightline.ops.boxes import generalized_box_iou
from sightline.structures import ImageBatch, Instances
from tests.models import parity
from tests.models.test_detection_parity import check_detections, check_losses, images_of, targets_of

NINETY = [f"class {i}" for i in range(1, 91)]
NAMES = ["circle", "square", "star"]


def test_it_equals_the_reference(shared: Path) -> None:
    name = "fcos_resnet50_fpn"
    recipe = parity.recipe(shared)
    ref, meta = parity.outputs(shared, name)
    with parity.undrawn():
        model = create_model("fcos_resnet50_fpn", NINETY, min_size=320, max_size=448)
    parity.fill(model, shared, name)
    images = images_of(recipe, meta)
    with torch.inference_mode(), parity.once(model.backbone, model.head):
        batch, _ = model.prepare(images, None)
        maps, logits, distances, centreness = model.network(batch.tensor)
        for level, x in zip(["0", "1", "2", "p6", "p7"], maps, strict=True):
            parity.close(recipe.spatial(x), ref[f"feature/{level}/spatial"], 1e-3)
        anchors = torch.cat(model.anchors(maps, batch))
        assert len(anchors) == int(ref["anchors/0/count"])
        parity.close(anchors[:20], ref["anchors/0/first20"], 1e-4)
        parity.close(anchors[-20:], ref["anchors/0/last20"], 1e-4)
        parity.close(anchors[:: max(1, len(anchors) // 50)], ref["anchors/0/subsample"], 1e-4)
        parity.close(recipe.subsample(torch.cat(logits, 1), 2000), ref["head/cls_logits/subsample"], 1e-3)
        parity.close(recipe.subsample(torch.cat(distances, 1), 2000), ref["head/bbox_regression/subsample"], 1e-3)
        central = torch.cat(centreness, 1)[..., None]
        parity.close(recipe.subsample(central, 2000), ref["head/bbox_ctrness/subsample"], 1e-3)
        check_detections(model(images), ref, "", meta["score_thresh"])
    check_losses(model, model(images, targets_of(recipe, images)), ref)


@pytest.fixture(scope="module")
def model() -> FCOS:
    torch.manual_seed(0)
    return create_model("fcos_mobilenet_v2_fpn", NAMES, min_size=128, max_size=128, channels=32)


def cells_of(model: FCOS, side: int) -> list[Tensor]:
    """Around every location of a square batch, level by level."""
    maps = [torch.zeros(1, 1, side // stride, side // stride) for stride in (8, 16, 32, 64, 128)]
    return model.anchors(maps, ImageBatch(torch.zeros(1, 3, side, side), [(side, side)], [(side, side)]))


def random_targets(count: int, seed: int, side: float) -> Instances:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * side
    sides = torch.rand(count, 2, generator=generator) ** 2 * side + 1
    boxes = torch.cat([corners, (corners + sides).clamp(max=side)], 1)
    return Instances((int(side), int(side)), boxes=boxes, labels=torch.arange(count) % 3 + 1)


def assigned_by_loops(model: FCOS, target: Instances, side: int) -> list[int]:
    """Location by location: the smallest object around it that is central and of its level's size."""
    found = []
    for stride, low, high in zip(
        (8, 16, 32, 64, 128), (0, 64, 128, 256, 512), (64, 128, 256, 512, math.inf), strict=True
    ):
        for row in range(side // stride):
            for column in range(side // stride):
                x, y = column * stride, row * stride
                best, smallest = -1, math.inf
                for g, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
                    inside = x1 < x < x2 and y1 < y < y2
                    radius = model.settings.radius * stride
                    near = abs(x - (x1 + x2) / 2) < radius and abs(y - (y1 + y2) / 2) < radius
                    suits = low <= max(x - x1, y - y1, x2 - x, y2 - y) <= high
                    area = (x2 - x1) * (y2 - y1)
                    if inside and near and suits and area < smallest:
                        best, smallest = g, area
                found.append(best)
    return found


@pytest.mark.parametrize("radius", [1.5, 100.0])
def test_assignment_equals_loops_over_locations(model: FCOS, radius: float) -> None:
    side, positives, levels = 512, 0, set()
    usual, model.settings = model.settings, FCOSSettings(radius=radius)
    anchors = cells_of(model, side)
    targets = [random_targets(count, seed, side) for seed, count in enumerate((0, 1, 5, 12))]
    matches = model.assign(anchors, targets)
    for target, match in zip(targets, matches, strict=True):
        assert match.tolist() == assigned_by_loops(model, target, side)
        positives += int((match >= 0).sum())
        levels |= {level for level, part in enumerate(match.split([len(a) for a in anchors])) if (part >= 0).any()}
    model.settings = usual
    assert positives > 20
    assert levels >= {0, 1, 2, 3}


def test_an_object_by_hand(model: FCOS) -> None:
    """A box of 32 × 24 around (48, 44): on P3 the locations 40, 48, 56 × 40, 48 are within 12 of its centre."""
    anchors = cells_of(model, 128)
    target = Instances((128, 128), boxes=[[32.0, 32.0, 64.0, 56.0]], labels=[1])
    (match,) = model.assign(anchors, [target])
    cells = torch.cat(anchors)[match == 0]
    assert sorted(((cells[:, :2] + cells[:, 2:]) / 2).tolist()) == [[x, y] for x in (40, 48, 56) for y in (40, 48)]
    central = centreness_targets(target.boxes.expand(6, 4), cells)
    # (40, 40): distances 8 and 24 across, 8 and 16 down: √(1/3 · 1/2); (48, 48): 16 and 16, 16 and 8: √(1 · 1/2)
    by_place = {tuple(p): float(v) for p, v in zip(((cells[:, :2] + cells[:, 2:]) / 2).tolist(), central, strict=True)}
    assert by_place[40.0, 40.0] == pytest.approx(math.sqrt(1 / 6))
    assert by_place[48.0, 48.0] == pytest.approx(math.sqrt(1 / 2))


def test_losses_equal_a_loop(model: FCOS) -> None:
    """All three are divided by the number of positive locations of the whole batch."""
    generator = torch.Generator().manual_seed(0)
    anchors = cells_of(model, 128)
    counts = [len(a) for a in anchors]
    logits = [torch.randn(2, n, 4, generator=generator) for n in counts]
    distances = [torch.rand(2, n, 4, generator=generator) * 3 for n in counts]
    centreness = [torch.randn(2, n, generator=generator) for n in counts]
    targets = [random_targets(4, 3, 128), random_targets(0, 0, 128)]
    matches = model.assign(anchors, targets)
    losses = model.losses(logits, distances, centreness, anchors, matches, targets)
    focal = overlap = central = 0.0
    positives = 0
    cells = torch.cat(anchors)
    for i, target in enumerate(targets):
        for n, (x1, y1, x2, y2) in enumerate(cells.tolist()):
            match = int(matches[i, n])
            for output in range(4):
                p = 1 / (1 + math.exp(-float(torch.cat(logits, 1)[i, n, output])))
                if match >= 0 and output == int(target.labels[match]):
                    focal += 0.25 * (1 - p) ** 2 * -math.log(p)
                else:
                    focal += 0.75 * p**2 * -math.log(1 - p)
            if match >= 0:
                positives += 1
                x, y, stride = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1
                left, top, right, bottom = (torch.cat(distances, 1)[i, n] * stride).tolist()
                found = torch.tensor([[x - left, y - top, x + right, y + bottom]])
                overlap += 1 - float(generalized_box_iou(found, target.boxes[match : match + 1]))
                bx1, by1, bx2, by2 = target.boxes[match].tolist()
                across, down = sorted((x - bx1, bx2 - x)), sorted((y - by1, by2 - y))
                truth = math.sqrt(across[0] / across[1] * down[0] / down[1])
                c = 1 / (1 + math.exp(-float(torch.cat(centreness, 1)[i, n])))
                central -= truth * math.log(c) + (1 - truth) * math.log(1 - c)
    assert positives > 5
    expected = {"loss_classification": focal, "loss_box": overlap, "loss_centerness": central}
    assert {k: float(v) for k, v in losses.items()} == pytest.approx(
        {k: v / positives for k, v in expected.items()}, rel=1e-4
    )


def test_scores_are_the_mean_of_class_and_centreness(model: FCOS) -> None:
    anchors = [torch.tensor([[0.0, 0, 8, 8], [40, 40, 48, 48]])]
    logits = [torch.tensor([[[9.0, 2, -9, -9], [9, -9, -9, 1]]])]  # output 0 is not a class
    distances = [torch.full((1, 2, 4), 1.0)]
    (found,) = model.decode(logits, distances, [torch.tensor([[0.5, -1.0]])], anchors, [(100, 46)])
    sigmoid = [1 / (1 + math.exp(-v)) for v in (2, 0.5, 1, -1)]
    assert found["labels"].tolist() == [1, 3]
    expected = [math.sqrt(sigmoid[0] * sigmoid[1]), math.sqrt(sigmoid[2] * sigmoid[3])]
    assert found["scores"].tolist() == pytest.approx(expected)
    # distances are in cells of 8 pixels from the centres (4, 4) and (44, 44), and the image ends at 46
    assert found["boxes"].tolist() == [[0, 0, 12, 12], [36, 36, 46, 52]]


def test_ranges_are_one_more_than_levels_and_rise() -> None:
    with pytest.raises(InputError, match=r"ranges are \(0.0, 64.0\), but must be 6 ascending numbers, in pixels"):
        FCOSSettings(ranges=(0.0, 64.0))
