"""Sightline's own detector: counts, its four steps against loops and hand-worked numbers, folding, training."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.data.scenes import scenes
from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.points import cell_centres, points_inside
from sightline.models.detection.sightline_detector import Assignment, DenseSettings, SightlineDetector
from sightline.models.saving import load, save
from sightline.nn.heads.decoupled import DecoupledHead
from sightline.nn.layers import fuse
from sightline.ops.boxes import box_iou, complete_box_iou
from sightline.ops.losses import quality_focal_loss, varifocal_loss
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances
from sightline.training.recipe import Recipe
from tests.models.fitting import fitted_results

NAMES = ["circle", "square", "star"]


def small(**arguments: object) -> SightlineDetector:
    torch.manual_seed(0)
    return create_model("sightline_n", NAMES, **{"image_size": 96, **arguments})


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def target(*boxes: list[float], labels: list[int] | None = None, size: tuple[int, int] = (96, 96)) -> Instances:
    return Instances(size, boxes=torch.tensor(boxes).reshape(-1, 4), labels=labels or [0] * len(boxes))


def as_head(t: Instances) -> Instances:
    """Labels as outputs of the head."""
    return t.replace(labels=t.labels + 1)


# The network


def test_parameters_by_hand() -> None:
    def conv(c: int, out: int, kernel: int) -> int:  # with its norm
        return c * out * kernel**2 + 2 * out

    def block(c: int, out: int) -> int:
        return 2 * conv(c, out // 2, 1) + 2 * conv(out // 2, out // 2, 3) + conv(3 * out // 2, out, 1)

    def backbone(*widths: int) -> int:
        stages = sum(conv(a, b, 3) + block(b, b) for a, b in itertools.pairwise(widths))
        last = widths[-1]
        return conv(3, widths[0], 3) + stages + conv(last, last // 2, 1) + conv(2 * last, last, 1)

    def neck(c: int, *widths: int) -> int:
        return sum(conv(w, c, 1) for w in widths) + 2 * conv(c, c, 3) + 4 * block(2 * c, c)

    def head(c: int, classes: int) -> int:
        branch = 2 * (9 * c + c * c) + 3 * 4 * 2 * c
        return 2 * branch + 3 * (c * classes + classes + c * 64 + 64)

    for name, widths, c in (
        ("sightline_n", (16, 32, 64, 128, 256), 64),
        ("sightline_s", (32, 64, 128, 256, 512), 128),
    ):
        with shapes_only():
            found = parameters(create_model(name, [str(i) for i in range(80)]))
        assert found == backbone(*widths) + neck(c, *widths[2:]) + head(c, 80)
    with shapes_only():
        assert parameters(create_model("sightline_n", NAMES)) < 2.6e6
        assert 15e6 < parameters(create_model("sightline_m", NAMES)) < 20e6


def test_maps_points_and_boxes_of_a_network() -> None:
    model = small()
    scores, sides = model.network(torch.zeros(2, 3, 64, 96))
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert scores.shape == (2, cells, 3)
    assert sides.shape == (2, cells, 4 * 16)
    points = cell_centres((64, 96), (8, 16, 32))
    assert points.centres.shape == (cells, 2)
    assert points.centres[:2].tolist() == [[4, 4], [12, 4]]
    assert points.centres[12].tolist() == [4, 12]
    assert points.centres[-1].tolist() == [80, 48]
    assert points.strides[[0, 96, -1]].tolist() == [8, 16, 32]
    assert torch.allclose(scores.sigmoid().mean(), torch.tensor(0.01), atol=2e-3)  # the prior


def test_boxes_are_means_of_distributions() -> None:
    model = small()
    points = cell_centres((32, 32), (32,))
    sides = torch.full((1, 1, 4, 16), -50.0)
    for side, cells in enumerate((0, 1, 2, 3)):
        sides[0, 0, side, cells] = 0.0
    sides[0, 0, 3, 4] = 0.0  # half 3, half 4
    box = model.boxes(sides.flatten(2), points)
    assert box[0, 0].tolist() == pytest.approx([16, 16 - 32, 16 + 64, 16 + 3.5 * 32], abs=1e-3)


# Assignment


def test_points_inside_or_the_nearest() -> None:
    points = cell_centres((32, 32), (8, 16))
    boxes = torch.tensor([[0.0, 0, 13, 9], [5, 5, 7, 7], [6, 6, 11, 11], [4, 4, 4, 4]])
    inside = points_inside(points, boxes)
    assert points.centres[inside[0]].tolist() == [[4, 4], [12, 4], [8, 8]]
    assert points.centres[inside[1]].tolist() == [[4, 4]]  # holds no point: (4, 4) is as near to (6, 6) as (8, 8)
    assert points.centres[inside[2]].tolist() == [[12, 12], [8, 8]]  # a coarse one alone, so the nearest fine one, too
    assert not inside[3].any()


def test_a_box_without_area_harms_nothing() -> None:
    model = small().train()
    losses = model([torch.rand(3, 96, 96)], [target([10, 10, 10, 10], labels=[1])])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_assignment_of_a_batch_takes_the_points_that_say_it_best() -> None:
    model = small(settings=DenseSettings(top=2))
    points = cell_centres((96, 96), (8, 16, 32))
    targets = [as_head(target([8, 8, 40, 40], [50, 50, 90, 90], labels=[1, 2])), as_head(target())]
    boxes = torch.cat([points.centres - 8, points.centres + 8], 1).repeat(2, 1, 1)
    scores = torch.full((2, len(points.centres), 3), -4.0)
    inside = points_inside(points, targets[0].boxes)
    first, second = inside[0].nonzero().flatten()[:2].tolist()
    boxes[0, first] = torch.tensor([8.0, 8, 40, 40])
    boxes[0, second] = torch.tensor([8.0, 8, 40, 36])
    scores[0, [first, second], 1] = torch.tensor([1.0, 2.0])
    matches, quality = model.assign(scores, boxes, points, targets)
    assert (matches[1] == -1).all()
    assert (matches[0] == 0).nonzero().flatten().tolist() == sorted([first, second])
    assert (matches[0] == 1).sum() == 2
    ratings = {first: torch.tensor(1.0).sigmoid().item(), second: torch.tensor(2.0).sigmoid().item() * 0.875**6}
    best = max(ratings.values())
    for point, rating in ratings.items():  # the largest overlap is 1
        assert quality[0, point].item() == pytest.approx(rating / best, abs=1e-5)


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0) * max(height, 0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def assigned_by_loop(
    scores: Tensor, boxes: Tensor, centres: Tensor, one: Instances, top: int
) -> tuple[list[int], list[float]]:
    """TOOD, section 3.2, one object after the other: t = s · u⁶ of the points inside; the `top` best of each; a point
    of several goes to the one it overlaps most; t is scaled so that an object's best is its largest overlap."""
    count = len(centres)
    claims: list[dict[int, float]] = []
    for box, label in zip(one.boxes.tolist(), one.labels.tolist(), strict=True):
        rated = {}
        for p, (x, y) in enumerate(centres.tolist()):
            if box[0] < x < box[2] and box[1] < y < box[3]:
                s = 1 / (1 + math.exp(-float(scores[p, label - 1])))
                rated[p] = s * overlap(box, boxes[p].tolist()) ** 6
        claims.append({p: rated[p] for p in sorted(rated, key=lambda p: -rated[p])[:top]})
    matches, quality = [-1] * count, [0.0] * count
    for p in range(count):
        rivals = [g for g, claim in enumerate(claims) if p in claim]
        if rivals:
            matches[p] = max(rivals, key=lambda g: overlap(one.boxes[g].tolist(), boxes[p].tolist()))
    for g, claim in enumerate(claims):
        own = [p for p in claim if matches[p] == g]
        if own:
            largest = max(overlap(one.boxes[g].tolist(), boxes[p].tolist()) for p in own)
            highest = max(claim[p] for p in own)
            for p in own:
                quality[p] = claim[p] / highest * largest
    return matches, quality


def test_images_of_a_batch_are_assigned_as_if_alone() -> None:
    model, generator = small(settings=DenseSettings(top=4)), torch.Generator().manual_seed(5)
    points = cell_centres((96, 96), (8, 16, 32))
    boxes = torch.cat([points.centres - 20, points.centres + 20], 1).repeat(3, 1, 1)
    boxes = boxes + 10 * torch.randn(boxes.shape, generator=generator)
    scores = torch.randn(3, len(points.centres), 3, generator=generator)
    targets = [
        as_head(target([8, 8, 40, 40], [20, 20, 60, 70], [50, 50, 90, 90], labels=[1, 0, 2])),
        as_head(target()),
        as_head(target([30, 8, 90, 40], [28, 10, 80, 44], labels=[0, 1])),
    ]
    matches, quality = model.assign(scores, boxes, points, targets)
    assert [len({*row.tolist()} - {-1}) for row in matches] == [3, 0, 2]
    for i, one in enumerate(targets):
        wanted, said = assigned_by_loop(scores[i], boxes[i], points.centres, one, top=4)
        assert matches[i].tolist() == wanted
        assert quality[i].tolist() == pytest.approx(said, abs=1e-5)


# Losses


@pytest.mark.parametrize("kind", ["quality", "varifocal", "plain"])
def test_losses_equal_a_loop(kind: str) -> None:
    settings = DenseSettings(class_loss=kind, class_weight=0.7, box_weight=2.0, distance_weight=0.3)
    model = small(settings=settings)
    generator = torch.Generator().manual_seed(1)
    points = cell_centres((64, 64), (8, 16, 32))
    count = len(points.centres)
    scores = torch.randn(2, count, 3, generator=generator)
    sides = torch.randn(2, count, 64, generator=generator)
    boxes = model.boxes(sides, points)
    targets = [
        as_head(target([4, 4, 30, 40], [20, 10, 60, 60], labels=[2, 0], size=(64, 64))),
        as_head(target([1, 2, 50, 20], labels=[1], size=(64, 64))),
    ]
    matches = torch.full((2, count), -1)
    quality = torch.zeros(2, count)
    for image, point, of, q in ((0, 9, 0, 0.5), (0, 40, 1, 0.9), (0, 70, 1, 0.8), (1, 3, 0, 0.4)):
        matches[image, point], quality[image, point] = of, q
    found = model.losses(scores, sides, boxes, points, Assignment(matches, quality), targets)

    total = 0.5 + 0.9 + 0.8 + 0.4
    class_sum = box_sum = distance_sum = 0.0
    for image in range(2):
        for point in range(count):
            of = int(matches[image, point])
            for k in range(3):
                q = float(quality[image, point]) if of >= 0 and int(targets[image].labels[of]) == k + 1 else 0.0
                x, y = scores[image, point, k], torch.tensor(q)
                entropy = -(q * torch.sigmoid(x).log() + (1 - q) * torch.sigmoid(-x).log())
                values: dict[str, Tensor] = {
                    "plain": entropy,
                    "quality": quality_focal_loss(x, y),
                    "varifocal": varifocal_loss(x, y),
                }
                class_sum += float(values[kind])
            if of < 0:
                continue
            goal, q = targets[image].boxes[of], float(quality[image, point])
            box_sum += q * (1 - float(complete_box_iou(boxes[image, point][None], goal[None])))
            (x, y), stride = points.centres[point].tolist(), float(points.strides[point])
            x1, y1, x2, y2 = goal.tolist()
            for side, pixels in enumerate((x - x1, y - y1, x2 - x, y2 - y)):
                d = min(max(pixels / stride, 0.0), 15.0)
                p = sides[image, point].view(4, 16)[side].log_softmax(0)
                low = min(math.floor(d), 14)
                distance_sum += q / 4 * float(-(low + 1 - d) * p[low] - (d - low) * p[low + 1])
    assert found["loss_classification"].item() == pytest.approx(0.7 * class_sum / total, rel=1e-4)
    assert found["loss_box"].item() == pytest.approx(2.0 * box_sum / total, rel=1e-4)
    assert found["loss_distance"].item() == pytest.approx(0.3 * distance_sum / total, rel=1e-4)


# Decoding


def test_decoding_keeps_the_best_of_each_class_inside_the_image() -> None:
    model = small(settings=DenseSettings(min_score=0.3, nms_iou=0.7))
    points = cell_centres((96, 96), (8, 16, 32))
    count = len(points.centres)
    scores = torch.full((1, count, 3), -5.0)
    sides = torch.full((1, count, 4, 16), -50.0)
    sides[..., 2] = 0.0  # every box reaches two cells to each side
    scores[0, 13, 0], scores[0, 14, 0], scores[0, 13, 2], scores[0, 0, 1] = 2.0, 1.0, 0.5, 0.0
    (found,) = model.decode(scores, sides.flatten(2), points, [(90, 90)])
    assert found["labels"].tolist() == [1, 1, 3, 2]  # 13 and 14 overlap by 0.667 after clipping
    assert found["scores"].tolist() == pytest.approx([0.8808, 0.7311, 0.6225, 0.5], abs=1e-4)
    assert found["boxes"][0].tolist() == pytest.approx([0, 0, 28, 28])
    assert found["boxes"][3].tolist() == pytest.approx([0, 0, 20, 20])
    few = small(settings=DenseSettings(min_score=0.3, candidates=2, nms_iou=0.5))
    (found,) = few.decode(scores, sides.flatten(2), points, [(90, 90)])
    assert found["scores"].tolist() == pytest.approx([0.8808], abs=1e-4)


# Folding


def shaken(model: nn.Module) -> nn.Module:
    """Norms as after training, in evaluation mode."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def test_folded_it_answers_the_same() -> None:
    model = shaken(small())
    folded = fuse(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for a, b in zip(model.network(x), folded.network(x), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        picture = torch.rand(3, 70, 96)
        one, two = model([picture])[0], folded([picture])[0]
    torch.testing.assert_close(one.scores, two.scores, atol=1e-4, rtol=1e-4)


# As a whole


def test_it_overfits_three_images() -> None:
    model = small().train()
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for label, box in ((0, [8, 8, 40, 40]), (2, [40, 24, 88, 80]), (1, [20, 50, 36, 66])):
        picture = (torch.rand(3, 96, 96, generator=generator) * 60).to(torch.uint8)
        x1, y1, x2, y2 = box
        picture[label, y1:y2, x1:x2] = 250
        images.append(picture)
        targets.append(target([float(v) for v in box], labels=[label]))
    results = fitted_results(model, images, targets, steps=30)
    for result, wanted in zip(results, targets, strict=True):
        assert int(result.labels[0]) == int(wanted.labels[0])
        assert result.boxes[0].tolist() == pytest.approx(wanted.boxes[0].tolist(), abs=6)


def test_a_pretrained_backbone_overfits_two_scenes() -> None:
    """Every object is found, with its class, after 60 steps."""
    data = scenes(2, 96, objects=(2, 3))
    torch.manual_seed(0)
    own = {"image_size": 96, "norm": "frozen", "trainable_layers": 3}
    model = create_model("sightline_lite0", data.classes, "imagenet", **own).train()
    images, targets = zip(*(data[i] for i in range(2)), strict=True)
    results = fitted_results(model, images, targets, steps=60, changes={50: 3e-4})
    for result, wanted in zip(results, targets, strict=True):
        count = len(wanted)
        assert count >= 2
        best, which = box_iou(wanted.boxes, result.boxes[:count]).max(1)
        assert best.min() > 0.8
        assert torch.equal(result.labels[which], wanted.labels)


def test_multi_scale_resizes_in_training_alone() -> None:
    model = small(multi_scale=0.4)
    picture, wanted = torch.rand(3, 96, 96), target([24, 24, 72, 48])
    seen = set()
    for _ in range(12):
        batch, (moved,) = model.train().prepare([picture], [wanted])
        side = batch.tensor.shape[-1]
        seen.add(side)
        assert moved.image_size == (side, side)
        assert moved.boxes[0].tolist() == pytest.approx([24 * side / 96, 24 * side / 96, 72 * side / 96, side / 2])
    assert seen == {64, 96, 128}
    batch, _ = model.eval().prepare([picture], [wanted])
    assert batch.tensor.shape[-1] == 96
    assert small().train().prepare([picture], [wanted])[0].tensor.shape[-1] == 96


def test_it_keeps_the_picture_s_shape() -> None:
    model = small()
    batch, _ = model.prepare([torch.rand(3, 480, 640)], None)
    assert batch.sizes == [(72, 96)]
    assert batch.tensor.shape[-2:] == (96, 96)


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="image_size is 100, but the maps need a multiple of 32; give 96"):
        create_model("sightline_n", NAMES, image_size=100)
    with pytest.raises(InputError, match=r"multi_scale is 1\.5, but must be at least 0"):
        create_model("sightline_n", NAMES, multi_scale=1.5)
    with pytest.raises(InputError, match="class_loss is 'focal', but it must be one of quality, varifocal, plain"):
        DenseSettings(class_loss="focal")  # type: ignore[arg-type]


def test_the_head_alone() -> None:
    head = DecoupledHead(8, 5, levels=2, bins=4, depth=1)
    scores, sides = head([torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)])
    assert scores.shape == (1, 20, 5)
    assert sides.shape == (1, 20, 16)


def test_candidates_are_the_best_of_all_pairs() -> None:
    model = small(settings=DenseSettings(candidates=40, nms_iou=1.0, max_detections=100))
    points = cell_centres((96, 96), (8, 16, 32))
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(1, len(points.centres), 3, generator=generator) * 2
    sides = torch.randn(1, len(points.centres), 64, generator=generator)
    (found,) = model.decode(scores, sides, points, [(96, 96)])
    values, pairs = scores[0].flatten().sigmoid().topk(40)
    assert torch.equal(found["scores"], values)
    assert found["labels"].tolist() == (pairs % 3 + 1).tolist()
    boxes = model.boxes(sides[0], points)[pairs // 3].clamp(0, 96)
    torch.testing.assert_close(found["boxes"], boxes)


def test_numbers_are_saved_with_it(tmp_path: Path) -> None:
    settings = DenseSettings(class_loss="quality", nms_iou=0.5)
    model = create_model("sightline_n", NAMES, image_size=64, multi_scale=0.25, settings=settings)
    again = load(save(model, tmp_path / "model.safetensors"))
    assert isinstance(again, SightlineDetector)
    assert again.settings == settings
    assert again.multi_scale == 0.25
    assert again.seen_size == (64, 64)
    assert Recipe.from_dict(model.recipe_defaults).augmentation == "mosaic"
