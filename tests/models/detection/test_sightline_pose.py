"""Sightline's own detector with keypoints: losses against loops, decoding, training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.catalog import ENTRIES
from sightline.models.creation import create_model
from sightline.models.detection.sightline_detector import ENTRIES as DETECTORS
from sightline.models.detection.sightline_detector import Assignment, DenseSettings
from sightline.models.detection.sightline_pose import PoseSettings, SightlinePose, keypoint_terms
from sightline.models.saving import load, save
from sightline.nn.heads.point_branch import PointBranch
from sightline.nn.heads.point_refinement import PointRefinement
from sightline.nn.layers import fuse
from sightline.ops.keypoints import OTHER_SIGMA
from sightline.structures import Instances
from tests.models.fitting import fitted_results

NAMES = ["arrow", "square"]
ALONG = torch.tensor([[0.2, 0.1], [0.9, 0.5], [0.4, 0.8]])
"""The keypoints of every object, as fractions of its box."""


def small(**arguments: object) -> SightlinePose:
    torch.manual_seed(0)
    model = create_model("sightline_n_pose", NAMES, **{"image_size": 96, "num_keypoints": 3, **arguments})
    assert isinstance(model, SightlinePose)
    return model


def target(*boxes: list[float], size: tuple[int, int] = (96, 96), absent: int | None = None) -> Instances:
    corners = torch.tensor(boxes).reshape(-1, 1, 4)
    points = corners[..., :2] + ALONG * (corners[..., 2:] - corners[..., :2])
    keypoints = torch.cat([points, torch.full_like(points[..., :1], 2)], -1)
    if absent is not None:
        keypoints[:, absent] = 0
    return Instances(size, boxes=corners[:, 0], labels=[0] * len(boxes), keypoints=keypoints)


def image(one: Instances) -> Tensor:
    generator = torch.Generator().manual_seed(len(one))
    pixels = (torch.rand(3, *one.image_size, generator=generator) * 60).to(torch.uint8)
    for x1, y1, x2, y2 in one.boxes.int().tolist():
        pixels[0, y1:y2, x1:x2] = 240
        pixels[1, y1 : (y1 + y2) // 2, x1:x2] = 200
    return pixels


def maps_of(model: SightlinePose, count: int = 2, side: int = 96) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(count, 64, side // s, side // s, generator=generator) for s in model.strides]


# The branch


def test_values_of_selected_points_are_those_of_their_cells() -> None:
    torch.manual_seed(0)
    branch = PointBranch(8, 5, levels=2, depth=1).eval()
    maps = [torch.randn(2, 8, 3, 4), torch.randn(2, 8, 2, 2)]
    with torch.no_grad():
        found = branch(maps, torch.tensor([0, 1, 1]), torch.tensor([6, 11, 14]))
        fine, coarse = branch.branch(maps[0], 0), branch.branch(maps[1], 1)
        cells = torch.stack([fine[0, :, 1, 2], fine[1, :, 2, 3], coarse[1, :, 1, 0]])
        torch.testing.assert_close(found, branch.values(cells))


def test_keypoints_are_relative_to_the_box() -> None:
    model = small().eval()
    branch = model.keypoint_branch.values
    with torch.no_grad():
        branch.weight.zero_()
        branch.bias.copy_(torch.tensor([[0.0, 0, 1], [0.5, -0.5, -2], [-0.25, 1, 0]]).flatten())
        boxes = torch.tensor([[10.0, 20, 30, 60]])
        place, logits = model.keypoints(maps_of(model), torch.tensor([0]), torch.tensor([5]), boxes)
    assert place[0].tolist() == [[20, 40], [30, 20], [15, 80]]
    assert logits[0].tolist() == [1, -2, 0]


# The correction


def test_a_correction_follows_its_definition() -> None:
    torch.manual_seed(0)
    refine = PointRefinement(6, 3, stride=8, hidden=5)
    nn.init.normal_(refine.moves.weight)
    nn.init.normal_(refine.moves.bias)
    finest, known = torch.randn(2, 6, 4, 4), torch.randn(2, 6)
    cells = torch.tensor([[[0, 0], [3, 1], [2, 3]], [[1, 1], [0, 2], [3, 3]]])
    positions = (cells + 0.5) * 8  # at the centres of cells, as x, y
    images = torch.tensor([1, 0])
    with torch.no_grad():
        found = refine(finest, images, known, positions)
        for d in range(2):
            for p in range(3):
                x, y = cells[d, p]
                value = refine.shown.weight[:, :, 0, 0] @ finest[images[d], :, y, x] + refine.shown.bias
                value = nn.functional.silu(value + refine.known.weight @ known[d] + refine.kind[p])
                value = nn.functional.silu(refine.between(value))
                torch.testing.assert_close(found[d, p], positions[d, p] + 8 * refine.moves(value))


def test_a_correction_starts_at_zero_and_leaves_the_guess_alone() -> None:
    torch.manual_seed(0)
    refine = PointRefinement(6, 3)
    positions = (torch.rand(2, 3, 2) * 40 - 4).requires_grad_()
    finest = torch.randn(1, 6, 4, 4, requires_grad=True)
    found = refine(finest, torch.tensor([0, 0]), torch.randn(2, 6), positions)
    assert torch.equal(found, positions)
    nn.init.normal_(refine.moves.weight)
    refine(finest, torch.tensor([0, 0]), torch.randn(2, 6), positions).sum().backward()
    assert positions.grad is None
    assert float(finest.grad.abs().sum()) > 0


# Losses


def test_terms_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(4, 3, 3, generator=generator) * 40
    targets[..., 2] = torch.tensor([[2, 1, 0], [2, 2, 2], [0, 0, 0], [1, 0, 0]])
    points, logits = (
        targets[..., :2] + torch.randn(4, 3, 2, generator=generator),
        torch.randn(4, 3, generator=generator),
    )
    areas, sigmas = torch.tensor([100.0, 900, 400, 25]), torch.tensor([0.05, 0.07, 0.1])
    found = keypoint_terms(points, logits, targets, areas, sigmas)
    for n in range(4):
        unlike, far, entropy, labelled = 0.0, 0.0, 0.0, 0
        for p in range(3):
            x, there = float(logits[n, p]), float(targets[n, p, 2]) > 0
            entropy -= math.log(1 / (1 + math.exp(-x if there else x))) / 3
            if there:
                d = math.dist(points[n, p].tolist(), targets[n, p, :2].tolist())
                unlike += 1 - math.exp(-(d**2) / (8 * float(areas[n]) * float(sigmas[p]) ** 2))
                far += d / math.sqrt(float(areas[n]))
                labelled += 1
        wanted = (unlike / max(labelled, 1), far / max(labelled, 1), entropy)
        assert [float(term[n]) for term in found] == pytest.approx(wanted, rel=1e-3)


def test_losses_equal_a_loop_over_points() -> None:
    model = small(pose=PoseSettings(similarity_weight=3.0, offset_weight=0.5, visibility_weight=0.25)).eval()
    points = model.points(model.prepare([image(target())] * 2, None)[0])
    targets = [target([10, 10, 50, 40], [30, 30, 90, 90], absent=1), target([5, 5, 60, 30])]
    targets[0].keypoints[0, :2, 2] = torch.tensor([1.0, 0.0])  # hidden keypoints are labelled, too
    targets[0].keypoints[0, 2, 2] = 0
    targets[1].keypoints[0, :, 2] = 0  # an object without any labelled keypoint
    count = len(points.centres)
    boxes = torch.rand(2, count, 4, generator=torch.Generator().manual_seed(1)) * 20
    boxes[..., 2:] += 30
    matches, quality = torch.full((2, count), -1), torch.zeros(2, count)
    for number, at, of, q in ((0, 9, 1, 0.5), (0, 40, 0, 0.9), (1, 70, 0, 0.7)):
        matches[number, at], quality[number, at] = of, q
    maps = maps_of(model)
    nn.init.normal_(model.refinement.moves.weight)
    with torch.no_grad():
        found = model.extra_losses(maps, boxes, points, Assignment(matches, quality), targets)
        sums = [0.0, 0.0, 0.0]
        for number, at in ((0, 9), (0, 40), (1, 70)):
            of, q = int(matches[number, at]), float(quality[number, at])
            own = targets[number][of]
            guess, place, logits = model.guessed(
                maps, torch.tensor([number]), torch.tensor([at]), boxes[number, at][None]
            )
            area = (own.boxes[:, 2] - own.boxes[:, 0]) * (own.boxes[:, 3] - own.boxes[:, 1])
            sigmas = torch.full((3,), OTHER_SIGMA)
            terms = [*keypoint_terms(place, logits, own.keypoints, area, sigmas)]
            before = keypoint_terms(guess, logits, own.keypoints, area, sigmas)
            terms = [terms[0] + before[0], terms[1] + before[1], terms[2]]
            sums = [total + q * float(term) for total, term in zip(sums, terms, strict=True)]
    assert float(found["loss_keypoint"]) == pytest.approx(3.0 * sums[0] / 1.4, rel=1e-4)
    assert float(found["loss_offset"]) == pytest.approx(0.5 * sums[1] / 1.4, rel=1e-4)
    assert float(found["loss_visibility"]) == pytest.approx(0.25 * sums[2] / 2.1, rel=1e-4)


@pytest.mark.parametrize("boxes", [[], [[10.0, 10, 50, 40]], [[10.0, 10, 10, 10]]])
def test_gradients_are_finite(boxes: list[list[float]]) -> None:
    model = small().train()
    targets = [target(), target(*boxes)]
    losses = model([image(t) for t in targets], targets)
    assert {"loss_keypoint", "loss_offset", "loss_visibility"} <= set(losses)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    learned = float(model.keypoint_branch.values.weight.grad.abs().sum()) > 0
    assert learned == (boxes == [[10.0, 10, 50, 40]])


def test_targets_that_do_not_fit() -> None:
    one = target([10, 10, 50, 40])
    with pytest.raises(InputError, match="the objects have 3 keypoints, but the model has 5; create it with num_key"):
        small(num_keypoints=5).train()([image(one)] * 2, [one, one])
    plain = Instances(one.image_size, boxes=one.boxes, labels=one.labels)
    with pytest.raises(InputError, match="has no keypoints, but this model learns from them"):
        small()([image(one)], [plain])
    with pytest.raises(InputError, match="num_keypoints is 0, but objects need at least 1 keypoint"):
        small(num_keypoints=0)


# Decoding


def test_perfect_outputs_are_the_objects_keypoints(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small().eval()
    wanted = target([20, 30, 90, 60], [100, 10, 180, 70], size=(75, 203))
    batch, moved = model.prepare([image(wanted)], [wanted])
    assert moved is not None
    values = torch.cat([ALONG - 0.5, torch.tensor([[3.0], [-3.0], [1.0]])], 1).flatten().repeat(2, 1)
    monkeypatch.setattr(model.keypoint_branch, "features", lambda maps, images, points: torch.zeros(2, 64))
    monkeypatch.setattr(model.keypoint_branch.values, "forward", lambda features: values)
    found = [{"boxes": moved[0].boxes, "labels": moved[0].labels, "points": torch.tensor([0, 1])}]
    maps = maps_of(model, count=1)
    (result,) = model.finish(model.extra_fields(found, maps, model.points(batch), batch), batch)
    torch.testing.assert_close(result.keypoints[..., :2], wanted.keypoints[..., :2])
    assert result.keypoints[..., 2].tolist() == [[2, 0, 2]] * 2
    assert result.keypoint_scores[0].tolist() == pytest.approx([0.9526, 0.0474, 0.7311], abs=1e-4)
    values[:, 2::3] = torch.tensor([-3.0, -1.0, -2.0])  # the best of each object counts as visible, however low
    (result,) = model.finish(model.extra_fields(found, maps, model.points(batch), batch), batch)
    assert result.keypoints[..., 2].tolist() == [[0, 2, 0]] * 2


def test_results_are_those_of_single_images() -> None:
    model = small(settings=DenseSettings(max_detections=20)).eval()
    images = [image(target([10, 10, 50, 40], size=size)) for size in ((96, 96), (64, 120), (96, 96))]
    with torch.no_grad():
        together = model(images)
        apart = [model([one])[0] for one in images]
        none = small(settings=DenseSettings(min_score=0.9)).eval()(images[:1])[0]
    for both, single in zip(together, apart, strict=True):
        assert both.keypoints.shape == (20, 3, 3)
        assert "points" not in both
        torch.testing.assert_close(both.keypoints, single.keypoints, atol=1e-2, rtol=1e-3)
    assert none.keypoints.shape == (0, 3, 3)
    assert none.keypoint_scores.shape == (0, 3)


def test_folded_it_answers_the_same() -> None:
    model = small(settings=DenseSettings(max_detections=10)).eval()
    folded = fuse(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        one, two = (m([image(target([10, 10, 50, 40]))])[0] for m in (model, folded))
    torch.testing.assert_close(one.keypoints, two.keypoints, atol=1e-2, rtol=1e-3)


# As a whole


def test_it_overfits_two_images() -> None:
    model = small().train()
    targets = [target([8, 8, 48, 40], [50, 40, 90, 90]), target([20, 30, 80, 80])]
    images = [image(t) for t in targets]
    results = fitted_results(model, images, targets, steps=30)
    for result, wanted in zip(results, targets, strict=True):
        best = result[: 3 * len(wanted)]
        for keypoints in wanted.keypoints:
            distance = (best.keypoints[..., :2] - keypoints[:, :2]).square().sum(-1).sqrt().amax(-1)
            assert distance.min() < 6


def test_every_size_has_keypoints_and_saves_them(tmp_path: Path) -> None:
    assert {f"{entry.name}_pose" for entry in DETECTORS} <= {entry.name for entry in ENTRIES}
    model = small(pose=PoseSettings(offset_weight=0.3))
    again = load(save(model, tmp_path / "model.safetensors"))
    assert isinstance(again, SightlinePose)
    assert again.pose_settings == model.pose_settings
    assert again.num_keypoints == 3
    assert len(create_model("sightline_n_pose", NAMES).sigmas) == 17
