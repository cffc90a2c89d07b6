"""Sightline's own detector with masks: dynamic convolutions and losses against loops, decoding, training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.models.catalog import ENTRIES
from sightline.models.creation import create_model
from sightline.models.detection.sightline_detector import ENTRIES as DETECTORS
from sightline.models.detection.sightline_detector import Assignment, DenseSettings
from sightline.models.detection.sightline_mask import MaskSettings, SightlineMask, mask_terms
from sightline.models.saving import load, save
from sightline.nn.heads.dynamic_mask import DynamicMaskHead
from sightline.nn.layers import fuse
from sightline.ops.boxes import elementwise_iou
from sightline.ops.mask_grids import grid_coordinates, grown_boxes, sample_masks
from sightline.runtime.shapes import shapes_only
from sightline.structures import Instances
from tests.models.fitting import fitted_results

NAMES = ["disc", "square"]


def small(**arguments: object) -> SightlineMask:
    torch.manual_seed(0)
    model = create_model("sightline_n_mask", NAMES, **{"image_size": 96, **arguments})
    assert isinstance(model, SightlineMask)
    return model


def disc(centre: tuple[float, float], radius: float, size: tuple[int, int] = (96, 96)) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def target(*discs: tuple[float, float, float], size: tuple[int, int] = (96, 96)) -> Instances:
    """Discs of centre x, y and radius."""
    masks = [disc((x, y), r, size) for x, y, r in discs]
    return Instances(
        size,
        boxes=torch.tensor([[x - r, y - r, x + r, y + r] for x, y, r in discs]).reshape(-1, 4),
        labels=[0] * len(discs),
        masks=torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool),
    )


def image(one: Instances) -> Tensor:
    generator = torch.Generator().manual_seed(len(one))
    pixels = (torch.rand(3, *one.image_size, generator=generator) * 60).to(torch.uint8)
    return torch.where(one.masks.any(0), torch.tensor(240, dtype=torch.uint8), pixels)


def maps_of(model: SightlineMask, count: int = 2, side: int = 96) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(count, 64, side // s, side // s, generator=generator) for s in model.strides]


# The head


def test_predicted_convolutions_equal_a_loop() -> None:
    torch.manual_seed(0)
    head = DynamicMaskHead(16, levels=2, hidden=4).eval()
    maps = [torch.randn(2, 16, 8, 8), torch.randn(2, 16, 4, 4)]
    images, points = torch.tensor([1, 0, 1]), torch.tensor([3, 70, 64])
    boxes = torch.tensor([[4.0, 8, 36, 40], [0, 0, 64, 64], [10.5, 20.25, 17.5, 30.25]])
    with torch.no_grad():
        found = head(maps, images, points, boxes, 6)
        shared, weights = head.features(maps[0]), head.branch(maps, images, points)
    assert shared.shape == (2, 8, 16, 16)
    assert weights.shape == (3, (8 + 2) * 4 + 4 + 4 * 4 + 4 + 4 + 1)
    coordinates = grid_coordinates(6)
    for p in range(3):
        x1, y1, x2, y2 = boxes[p].tolist()
        place = torch.stack(  # in [-1, 1] over the map of 16 cells of 4 pixels
            [
                (x1 + (coordinates[0] + 1) / 2 * (x2 - x1)) / 32 - 1,
                (y1 + (coordinates[1] + 1) / 2 * (y2 - y1)) / 32 - 1,
            ],
            -1,
        )
        values = F.grid_sample(
            shared[images[p]][None], place[None], padding_mode="border", align_corners=False, mode="bilinear"
        )
        x, rest = torch.cat([values, coordinates[None]], 1), weights[p]
        for inputs, outputs, last in ((10, 4, False), (4, 4, False), (4, 1, True)):
            matrix, rest = rest[: inputs * outputs].view(outputs, inputs, 1, 1), rest[inputs * outputs :]
            x, rest = F.conv2d(x, matrix, rest[:outputs]), rest[outputs:]
            x = x if last else F.relu(x)
        torch.testing.assert_close(found[p], x[0, 0], atol=1e-4, rtol=1e-4)


def test_coarse_grids_are_of_half_as_many_points_where_a_box_has_few_cells() -> None:
    """With 8 points a side and cells of 4 pixels: boxes of up to 16 pixels."""
    torch.manual_seed(0)
    head = DynamicMaskHead(16, levels=1, hidden=4).eval()
    maps, none = [torch.randn(1, 16, 8, 8)], torch.zeros(4, dtype=torch.int64)
    points = torch.arange(4)
    boxes = torch.tensor([[4.0, 8, 20, 24], [0, 0, 17, 10], [2, 2, 10, 14], [0, 0, 60, 60]])
    with torch.no_grad():
        fine, half = head(maps, none, points, boxes, 8), head(maps, none, points, boxes, 4)
        found = head(maps, none, points, boxes, 8, coarse=True)
        assert head(maps, none[:0], points[:0], boxes[:0], 8, coarse=True).shape == (0, 8, 8)
    torch.testing.assert_close(found[[1, 3]], fine[[1, 3]])
    wanted = F.interpolate(half[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]])
    assert not torch.allclose(found[[0, 2]], fine[[0, 2]])


def test_no_points_give_no_masks() -> None:
    model = small().eval()
    none = torch.zeros(0, dtype=torch.int64)
    assert model.mask_logits(maps_of(model), none, none, torch.zeros(0, 4)).shape == (0, 28, 28)


# Losses


def test_terms_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(3, 4, 4, generator=generator), torch.rand(3, 4, 4, generator=generator)
    targets[2] = 0
    cross_entropy, dice = mask_terms(logits, targets)
    for n in range(3):
        entropy = both = squares = 0.0
        for x, t in zip(logits[n].flatten().tolist(), targets[n].flatten().tolist(), strict=True):
            p = 1 / (1 + math.exp(-x))
            entropy -= (t * math.log(p) + (1 - t) * math.log(1 - p)) / 16
            both += p * t
            squares += p * p + t * t
        assert float(cross_entropy[n]) == pytest.approx(entropy, rel=1e-4)
        assert float(dice[n]) == pytest.approx(1 - 2 * both / squares, rel=1e-4)


def test_losses_equal_a_loop_over_points() -> None:
    model = small(masks=MaskSettings(cross_entropy_weight=0.5, dice_weight=3.0)).eval()
    points = model.points(model.prepare([image(target())] * 2, None)[0])
    targets = [target((30, 30, 12), (60, 40, 20)), target((50, 50, 30))]
    count = len(points.centres)
    boxes = torch.rand(2, count, 4) * 20
    boxes[..., 2:] += 30
    matches, quality = torch.full((2, count), -1), torch.zeros(2, count)
    for number, at, of, q in ((0, 9, 1, 0.5), (0, 40, 0, 0.9), (1, 70, 0, 0.7)):
        matches[number, at], quality[number, at] = of, q
    boxes[0, 40] = torch.tensor([17.0, 19, 44, 42])  # overlaps its object by more than half: the mask is learned here
    maps = maps_of(model)
    found = model.extra_losses(maps, boxes, points, Assignment(matches, quality), targets)
    entropy = dice = torch.tensor(0.0)
    for number, at in ((0, 9), (0, 40), (1, 70)):
        of, q = int(matches[number, at]), float(quality[number, at])
        true, region = targets[number].boxes[of][None], boxes[number, at][None]
        if float(elementwise_iou(true, region)) <= 0.5:
            region = true
        logits = model.mask_logits(maps, torch.tensor([number]), torch.tensor([at]), region)
        goal = sample_masks(targets[number].masks, torch.tensor([of]), grown_boxes(region, 0.1), 28)
        terms = mask_terms(logits, goal)
        entropy, dice = entropy + q * terms[0], dice + q * terms[1]
    torch.testing.assert_close(found["loss_mask"], 0.5 * entropy[0] / 2.1)
    torch.testing.assert_close(found["loss_dice"], 3.0 * dice[0] / 2.1)


def test_at_most_some_points_are_learned_from() -> None:
    model = small(masks=MaskSettings(samples=5))
    matches = torch.full((40,), -1)
    matches[10:30] = 0
    chosen = model.chosen(matches)
    assert len(chosen.unique()) == 5
    assert (matches[chosen] == 0).all()
    assert model.chosen(torch.tensor([-1, 2, -1, 0])).tolist() == [1, 3]


@pytest.mark.parametrize("discs", [[], [(30.0, 30.0, 12.0)], [(5.0, 5.0, 1.0), (60.0, 60.0, 0.0)]])
def test_gradients_are_finite_and_reach_the_head(discs: list[tuple[float, float, float]]) -> None:
    model = small().train()
    targets = [target(), target(*discs)]
    losses = model([image(t) for t in targets], targets)
    assert set(losses) == {"loss_classification", "loss_box", "loss_distance", "loss_mask", "loss_dice"}
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if discs[:1] == [(30.0, 30.0, 12.0)]:
        shared = (model.mask_head.features, model.mask_head.branch.branch.convolutions, model.mask_head.branch.values)
        for module in shared:  # not the norms of levels without a point
            assert all(p.grad.abs().sum() > 0 for p in module.parameters())
    else:
        assert losses["loss_mask"].isfinite()


def test_targets_without_masks_are_named() -> None:
    one = target((30, 30, 12))
    plain = Instances(one.image_size, boxes=one.boxes, labels=one.labels)
    with pytest.raises(InputError, match=r"has no masks, but this model learns from them; open the data with"):
        small()([image(one)], [plain])


# Decoding


@pytest.mark.parametrize("size", [(96, 96), (75, 131), (300, 203)])
def test_perfect_outputs_are_the_objects_masks(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Resized into the network and back: half a pixel of shift anywhere would cost more than is allowed here."""
    model = small(masks=MaskSettings(grid=56)).eval()
    wanted = target((size[1] * 0.4, size[0] * 0.5, min(size) * 0.3), (size[1] * 0.8, size[0] * 0.6, 14), size=size)
    batch, moved = model.prepare([image(wanted)], [wanted])
    assert moved is not None
    scale = torch.tensor([*batch.scales[0]] * 2)
    discs = torch.stack([disc((0.5 * 400, 0.5 * 400), 200, (400, 400))] * 2)

    def perfect(maps: object, images: Tensor, points: Tensor, boxes: Tensor, coarse: bool) -> Tensor:
        """Sampled where the true outline is, not from the pixels of the resized mask."""
        unit = (grown_boxes(boxes, 0.1) - (wanted.boxes * scale)[:, [0, 1, 0, 1]]) / (
            boxes[:, 2:] - boxes[:, :2]
        ).repeat(1, 2)
        return sample_masks(discs, torch.arange(2), unit * 400, 56) - 0.5

    monkeypatch.setattr(model, "mask_logits", perfect)
    found = [{"boxes": moved[0].boxes, "labels": moved[0].labels, "points": torch.tensor([0, 1])}]
    (result,) = model.finish(model.extra_fields(found, [], model.points(batch), batch), batch)
    assert result.masks.shape == (2, *size)
    union = (result.masks | wanted.masks).flatten(1).sum(1)
    assert ((result.masks & wanted.masks).flatten(1).sum(1) / union > 0.97).all()


def test_results_are_those_of_single_images_and_inside_grown_boxes() -> None:
    model = small(settings=DenseSettings(max_detections=20)).eval()
    images = [image(target((30, 30, 12))), image(target((30, 30, 12), size=(64, 120))), image(target((50, 50, 30)))]
    with torch.no_grad():
        together = model(images)
        apart = [model([one])[0] for one in images]
    for both, single, one in zip(together, apart, images, strict=True):
        assert both.masks.dtype == torch.bool
        assert both.masks.shape == (20, *one.shape[1:])
        assert "points" not in both
        torch.testing.assert_close(both.boxes, single.boxes, atol=1e-3, rtol=1e-3)
        assert (both.masks == single.masks).float().mean() > 0.999
        rows, columns = torch.meshgrid(*(torch.arange(side) + 0.5 for side in one.shape[1:]), indexing="ij")
        for mask, (x1, y1, x2, y2) in zip(both.masks, grown_boxes(both.boxes, 0.1).tolist(), strict=True):
            assert not (mask & ~((columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2))).any()


def test_an_image_without_detections() -> None:
    model = small(settings=DenseSettings(min_score=0.9)).eval()
    (found,) = model([image(target())])
    assert found.masks.shape == (0, 96, 96)


def test_folded_it_answers_the_same() -> None:
    model = small(settings=DenseSettings(max_detections=10)).eval()
    folded = fuse(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        one, two = model([image(target((40, 40, 20)))])[0], folded([image(target((40, 40, 20)))])[0]
    assert (one.masks == two.masks).float().mean() > 0.999


# As a whole


def test_it_overfits_two_images() -> None:
    model = small().train()
    targets = [target((30, 30, 18), (70, 66, 14)), target((48, 50, 30))]
    images = [image(t) for t in targets]
    results = fitted_results(model, images, targets, steps=30)
    for result, wanted in zip(results, targets, strict=True):
        best = result[: 3 * len(wanted)]
        for mask in wanted.masks:
            overlaps = (best.masks & mask).flatten(1).sum(1) / (best.masks | mask).flatten(1).sum(1)
            assert overlaps.max() > 0.8


def test_every_size_has_masks() -> None:
    names = {entry.name for entry in ENTRIES}
    assert {f"{entry.name}_mask" for entry in DETECTORS} <= names
    with shapes_only():
        model = create_model("sightline_lite0_mask", NAMES)
    assert isinstance(model, SightlineMask)
    assert model.mask_head.branch.branch.every == 2  # starts as the identity, like the head's branches
    assert any(model.backbone_keys.values())
    assert {key for key in model.backbone_keys.values() if key is not None} <= model.state_dict().keys()


def test_settings_are_saved_with_it(tmp_path: Path) -> None:
    settings = MaskSettings(grid=20, samples=9)
    model = small(masks=settings, mask_channels=4)
    again = load(save(model, tmp_path / "model.safetensors"))
    assert isinstance(again, SightlineMask)
    assert again.mask_settings == settings
    assert torch.equal(again.mask_head.branch.values.bias, model.mask_head.branch.values.bias)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="grid is 1 and samples 64, but they must be at least 2 and 1"):
        MaskSettings(grid=1)
    with pytest.raises(InputError, match="margin is 2, but must be a fraction of the box, 0 to 1"):
        MaskSettings(margin=2)
