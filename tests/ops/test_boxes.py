"""Boxes against loops over plain numbers, counted pixels, worked values, round trips and reference values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.ops import boxes as ops

PAIRWISE = (ops.box_iou, ops.generalized_box_iou, ops.distance_box_iou, ops.complete_box_iou)


def random_boxes(count: int, seed: int = 0, spread: float = 60.0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * spread
    side = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 36 + 4
    return torch.cat((corner, corner + side), 1).to(dtype)


@st.composite
def box_lists(draw: st.DrawFn, least_side: float = 0.5) -> Tensor:
    number = st.floats(-200, 200, width=32)
    side = st.floats(least_side, 300, width=32)
    rows = draw(st.lists(st.tuples(number, number, side, side), min_size=1, max_size=8))
    return torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float64)


# Formats


def test_formats_of_one_box() -> None:
    corners = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
    assert ops.box_convert(corners, "xyxy", "xywh").tolist() == [[10, 20, 30, 40]]
    assert ops.box_convert(corners, "xyxy", "cxcywh").tolist() == [[25, 40, 30, 40]]
    assert ops.box_convert(torch.tensor([25.0, 40, 30, 40]), "cxcywh", "xywh").tolist() == [10, 20, 30, 40]
    assert ops.box_convert(torch.tensor([10.0, 20, 30, 40]), "xywh", "xyxy").tolist() == [10, 20, 40, 60]


@given(boxes=box_lists(), first=st.sampled_from(ops.FORMATS), second=st.sampled_from(ops.FORMATS))
@settings(deadline=None, max_examples=60)
def test_formats_round_trip(boxes: Tensor, first: str, second: str) -> None:
    there = ops.box_convert(boxes, "xyxy", first)
    again = ops.box_convert(ops.box_convert(there, first, second), second, "xyxy")
    torch.testing.assert_close(again, boxes, rtol=0, atol=1e-9)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"box format 'xyhw' is not known; use one of 'xyxy', 'xywh', 'cxcywh'"):
        ops.box_convert(torch.zeros(1, 4), "xyxy", "xyhw")


def test_normalising_uses_the_width_for_x_and_the_height_for_y() -> None:
    boxes = torch.tensor([[64.0, 48.0, 320.0, 480.0]])
    normalised = ops.normalize_boxes(boxes, (480, 640))
    torch.testing.assert_close(normalised, torch.tensor([[0.1, 0.1, 0.5, 1.0]]))
    torch.testing.assert_close(ops.denormalize_boxes(normalised, (480, 640)), boxes)
    with pytest.raises(InputError, match=r"size \(0, 640\)"):
        ops.normalize_boxes(boxes, (0, 640))


def test_scaling() -> None:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert ops.scale_boxes(boxes, (2.0, 10.0)).tolist() == [[2, 20, 6, 40]]
    assert ops.scale_boxes(boxes, (torch.tensor(2.0), torch.tensor(10.0))).tolist() == [[2, 20, 6, 40]]


# Area, clipping, small boxes


def test_area_of_half_precision_boxes_does_not_overflow() -> None:
    boxes = torch.tensor([[0.0, 0.0, 512.0, 512.0]])
    for dtype in (torch.float16, torch.bfloat16):
        assert ops.box_area(boxes.to(dtype)).tolist() == [512.0 * 512.0]
        assert ops.box_iou(boxes.to(dtype), boxes.to(dtype) / 2).tolist() == [[0.25]]


def test_clipping_moves_corners_onto_the_border() -> None:
    boxes = torch.tensor([[-5.0, -6.0, 30.0, 20.0], [10.0, 10.0, 99.0, 99.0], [60.0, 10.0, 70.0, 20.0]])
    clipped = ops.clip_boxes_to_image(boxes, (40, 50))
    assert clipped.tolist() == [[0, 0, 30, 20], [10, 10, 50, 40], [50, 10, 50, 20]]


def test_small_boxes_are_those_with_either_side_too_small() -> None:
    boxes = torch.tensor([[0.0, 0, 3, 3], [0, 0, 2.9, 9], [0, 0, 9, 2.9], [0, 0, 9, 9], [5, 5, 4, 9]])
    assert ops.remove_small_boxes(boxes, 3.0).tolist() == [0, 3]
    assert ops.remove_small_boxes(torch.zeros(0, 4), 1.0).tolist() == []


# Overlap


def overlap_of_two(kind: str, a: list[float], b: list[float]) -> float:
    """The papers' formulas on plain numbers."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    union = area_a + area_b - width * height
    iou = width * height / union
    hull_w, hull_h = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    if kind == "box_iou":
        return iou
    if kind == "generalized_box_iou":
        return iou - (hull_w * hull_h - union) / (hull_w * hull_h)
    distance = math.dist(((a[0] + a[2]) / 2, (a[1] + a[3]) / 2), ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2))
    closeness = iou - distance**2 / (hull_w**2 + hull_h**2)
    if kind == "distance_box_iou":
        return closeness
    angle_a, angle_b = math.atan((a[2] - a[0]) / (a[3] - a[1])), math.atan((b[2] - b[0]) / (b[3] - b[1]))
    v = 4 / math.pi**2 * (angle_a - angle_b) ** 2
    return closeness - (v * v / (1 - iou + v) if v else 0.0)


@pytest.mark.parametrize("function", PAIRWISE, ids=lambda f: f.__name__)
def test_overlap_equals_the_formula_pair_by_pair(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = random_boxes(9, 1, dtype=torch.float64), random_boxes(6, 2, dtype=torch.float64)
    b[0] = a[0]
    expected = [[overlap_of_two(function.__name__, x, y) for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(function(a, b), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)


def test_iou_of_whole_pixel_boxes_equals_counted_pixels() -> None:
    generator = np.random.default_rng(3)
    low = generator.integers(0, 10, (12, 2))
    boxes = np.concatenate((low, low + generator.integers(1, 8, (12, 2))), 1)
    bitmaps = np.zeros((12, 20, 20), dtype=bool)
    for bitmap, (x1, y1, x2, y2) in zip(bitmaps, boxes, strict=True):
        bitmap[y1:y2, x1:x2] = True
    counted = [[(p & q).sum() / (p | q).sum() for q in bitmaps] for p in bitmaps]
    tensor = torch.from_numpy(boxes).float()
    np.testing.assert_allclose(ops.box_iou(tensor, tensor).numpy(), counted, atol=1e-6)


@given(a=box_lists(), b=box_lists())
@settings(deadline=None, max_examples=60)
def test_overlap_is_symmetric_and_in_range(a: Tensor, b: Tensor) -> None:
    for function in PAIRWISE:
        overlap = function(a, b)
        assert overlap.shape == (len(a), len(b))
        torch.testing.assert_close(overlap, function(b, a).T, rtol=0, atol=1e-9)
        assert overlap.max() <= 1 + 1e-9
    iou = ops.box_iou(a, b)
    assert iou.min() >= 0
    assert ops.generalized_box_iou(a, b).min() >= -1 - 1e-9
    assert (ops.generalized_box_iou(a, b) <= iou + 1e-9).all()
    assert (ops.complete_box_iou(a, b) <= ops.distance_box_iou(a, b) + 1e-9).all()
    torch.testing.assert_close(ops.box_iou(a, a).diag(), torch.ones(len(a), dtype=a.dtype))


@given(a=box_lists(), b=box_lists(), shift=st.floats(-50, 50), factor=st.floats(0.5, 4))
@settings(deadline=None, max_examples=40)
def test_iou_does_not_change_when_the_image_is_moved_or_resized(
    a: Tensor, b: Tensor, shift: float, factor: float
) -> None:
    moved = ops.box_iou((a + shift) * factor, (b + shift) * factor)
    torch.testing.assert_close(moved, ops.box_iou(a, b), rtol=0, atol=1e-6)


def test_overlap_of_nothing_and_of_zero_area() -> None:
    nothing, some = torch.zeros(0, 4), random_boxes(3)
    for function in PAIRWISE:
        assert function(nothing, some).shape == (0, 3)
        assert function(some, nothing).shape == (3, 0)
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert ops.box_iou(point, torch.tensor([[0.0, 0.0, 10.0, 10.0]])).item() == 0
    assert ops.box_iou(point, point).isnan().all()


@pytest.mark.parametrize("function", PAIRWISE[:3], ids=lambda f: f.__name__)
def test_gradients_of_overlap(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    a = random_boxes(3, 4, dtype=torch.float64).requires_grad_()
    b = random_boxes(4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(function, (a, b))


# What a network predicts


def test_offsets_of_one_box() -> None:
    anchor = torch.tensor([0.0, 0.0, 10.0, 20.0])
    box = torch.tensor([5.0, 10.0, 25.0, 20.0])  # centre (15, 15) against (5, 10), size 20×10 against 10×20
    expected = [1.0, 0.25, math.log(2), -math.log(2)]
    torch.testing.assert_close(ops.encode_boxes(box, anchor), torch.tensor(expected))
    weighted = ops.encode_boxes(box, anchor, (10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(weighted, torch.tensor(expected) * torch.tensor([10.0, 10.0, 5.0, 5.0]))


def test_each_of_the_four_offsets_has_its_own_weight() -> None:
    anchor, box = torch.tensor([0.0, 0.0, 10.0, 20.0]), torch.tensor([5.0, 10.0, 25.0, 20.0])
    weighted = torch.tensor([2 * 1.0, 3 * 0.25, 5 * math.log(2), -7 * math.log(2)])
    torch.testing.assert_close(ops.encode_boxes(box, anchor, (2.0, 3.0, 5.0, 7.0)), weighted)
    torch.testing.assert_close(ops.decode_boxes(weighted, anchor, (2.0, 3.0, 5.0, 7.0)), box)


@given(
    boxes=box_lists(), seed=st.integers(0, 99), weights=st.sampled_from([(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
)
@settings(deadline=None, max_examples=60)
def test_encoding_and_decoding_are_inverse(
    boxes: Tensor, seed: int, weights: tuple[float, float, float, float]
) -> None:
    anchors = random_boxes(len(boxes), seed, dtype=torch.float64)
    again = ops.decode_boxes(ops.encode_boxes(boxes, anchors, weights), anchors, weights, max_log_ratio=math.inf)
    torch.testing.assert_close(again, boxes, rtol=0, atol=1e-8)
    for normalize in (True, False):
        distances = ops.encode_distances(boxes, anchors, normalize)
        torch.testing.assert_close(ops.decode_distances(distances, anchors, normalize), boxes, rtol=0, atol=1e-8)


def test_decoding_broadcasts_over_classes() -> None:
    anchors, deltas = random_boxes(5), torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    together = ops.decode_boxes(deltas, anchors[:, None])
    apart = torch.stack([ops.decode_boxes(deltas[:, k], anchors) for k in range(3)], 1)
    torch.testing.assert_close(together, apart)


def test_decoding_keeps_wild_offsets_finite() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = ops.decode_boxes(torch.tensor([[0.0, 0.0, 1000.0, 1000.0]]), anchor)
    torch.testing.assert_close(box, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))


def test_distances_to_the_sides() -> None:
    anchor, box = torch.tensor([0.0, 0.0, 20.0, 40.0]), torch.tensor([5.0, 5.0, 25.0, 35.0])
    assert ops.encode_distances(box, anchor, normalize=False).tolist() == [5, 15, 15, 15]
    assert ops.encode_distances(box, anchor).tolist() == [0.25, 0.375, 0.75, 0.375]


def test_gradients_of_decoding() -> None:
    anchors = random_boxes(3, dtype=torch.float64)
    deltas = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: ops.decode_boxes(d, anchors, (10.0, 10.0, 5.0, 5.0)), deltas)


def test_nothing_waits_for_the_device_or_mixes_devices() -> None:
    """Tensors on "meta" have no values to read, and refuse to meet tensors elsewhere."""
    a, b = torch.zeros(5, 4, device="meta"), torch.zeros(7, 4, device="meta")
    for function in PAIRWISE:
        assert function(a, b).shape == (5, 7)
    results = (
        ops.encode_boxes(a, a),
        ops.decode_boxes(a, a),
        ops.encode_distances(a, a),
        ops.decode_distances(a, a),
        ops.clip_boxes_to_image(a, (3, 4)),
        ops.scale_boxes(a, (0.5, 2.0)),
        ops.normalize_boxes(a, (3, 4)),
        ops.box_convert(a, "cxcywh", "xyxy"),
    )
    assert all(result.device.type == "meta" and result.shape == (5, 4) for result in results)


# Reference values


def test_reference_values(shared: Path) -> None:
    reference = {k: torch.from_numpy(v) for k, v in np.load(shared / "parity/ops/boxes.npz").items() if k != "meta"}
    for function in PAIRWISE:
        ours = function(reference["a"], reference["b"])
        torch.testing.assert_close(ours, reference[function.__name__], rtol=0, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(ops.box_area(reference["a"]), reference["box_area"])
    for source in ops.FORMATS:
        for target in ops.FORMATS:
            ours = ops.box_convert(reference[f"box_convert/{source}"], source, target)
            torch.testing.assert_close(ours, reference[f"box_convert/{source}_to_{target}"], rtol=0, atol=1e-5)
    height, width = reference["clip/size_hw"].tolist()
    assert torch.equal(ops.clip_boxes_to_image(reference["clip/boxes"], (height, width)), reference["clip/out"])
    for least in (0.01, 3.0, 10.0):
        assert torch.equal(ops.remove_small_boxes(reference["small/boxes"], least), reference[f"small/keep_{least:g}"])


def test_reference_values_of_coders(shared: Path) -> None:
    reference = {
        k: torch.from_numpy(v) for k, v in np.load(shared / "parity/ops/box_coders.npz").items() if k != "meta"
    }
    anchors, boxes = reference["proposals"], reference["ground_truth"]
    for weights in ((10.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0, 1.0)):
        key = "box_coder_{:g}_{:g}_{:g}_{:g}".format(*weights)
        torch.testing.assert_close(
            ops.encode_boxes(boxes, anchors, weights), reference[f"{key}/encode"], rtol=0, atol=1e-5
        )
        codes = reference[f"{key}/codes"].view(-1, 2, 4)
        decoded = ops.decode_boxes(codes, anchors[:, None], weights).flatten(1)
        torch.testing.assert_close(decoded, reference[f"{key}/decode"], rtol=1e-6, atol=1e-4)
    for normalize, name in ((True, "normalized"), (False, "plain")):
        key = f"box_linear_coder_{name}"
        encoded = ops.encode_distances(boxes, anchors, normalize)
        torch.testing.assert_close(encoded, reference[f"{key}/encode"], rtol=0, atol=1e-5)
        decoded = ops.decode_distances(reference[f"{key}/codes"], anchors, normalize)
        torch.testing.assert_close(decoded, reference[f"{key}/decode"], rtol=0, atol=1e-4)
