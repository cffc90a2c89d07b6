"""Suppression against naive loops, worked cases and the reference values of torchvision."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.ops import suppression
from sightline.ops.suppression import batched_nms, nms, soft_nms


def naive_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of one box [4] with many [N, 4] in their own precision; nan where neither has an area."""
    width = np.maximum(np.minimum(a[2], b[:, 2]) - np.maximum(a[0], b[:, 0]), 0)
    height = np.maximum(np.minimum(a[3], b[:, 3]) - np.maximum(a[1], b[:, 1]), 0)
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + area - width * height)


def naive_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> list[int]:
    """One box after the other, as the algorithm is taught; the threshold is a double, as in torchvision."""
    b = boxes.numpy()
    label = np.zeros(len(b)) if labels is None else labels.numpy()
    dropped = np.zeros(len(b), dtype=bool)
    kept = []
    for i in np.argsort(-scores.numpy(), kind="stable"):
        if not dropped[i]:
            kept.append(int(i))
            dropped |= (naive_iou(b[i], b).astype(np.float64) > iou_threshold) & (label == label[i])
    return kept


def random_boxes(n: int, seed: int, size: float = 200, low: float = 4, high: float = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * size
    extent = low + torch.rand(n, 2, generator=generator) * (high - low)
    return torch.cat([corner, corner + extent], 1), torch.rand(n, generator=generator)


@st.composite
def small_boxes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on a small grid, so that ties, equal boxes, touching edges and empty or inverted boxes are common."""
    n = draw(st.integers(0, 24))
    numbers = st.lists(st.integers(0, 9), min_size=n, max_size=n)
    x, y = draw(numbers), draw(numbers)
    extents = st.lists(st.integers(-1, 8), min_size=n, max_size=n)
    w, h = draw(extents), draw(extents)
    boxes = torch.tensor([x, y, [a + b for a, b in zip(x, w, strict=True)], [a + b for a, b in zip(y, h, strict=True)]])
    scores = torch.tensor(draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))).float() / 6
    labels = torch.tensor(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=torch.int64)
    return boxes.T.float().reshape(n, 4), scores, labels


thresholds = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.6, 0.7, 0.9, 1.0])


def test_worked_case() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 5]])
    scores = torch.tensor([0.8, 0.9, 0.3, 0.7])
    assert nms(boxes, scores, 0.5).tolist() == [1, 3, 2]  # IoU of the first two 9/11; of 1 and 3 45/105
    assert nms(boxes, scores, 0.4).tolist() == [1, 2]
    # An IoU equal to the threshold does not suppress; a dropped box suppresses nothing.
    halves = torch.tensor([[0.0, 0, 2, 1], [0, 0, 1, 1], [0, 0, 4, 1]])
    assert nms(halves, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1, 2]
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    assert nms(chain, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


# the float32 next to k / 10 is above it, or below it, or equal: 0.5 alone
@pytest.mark.parametrize(
    ("tenths", "dropped"),
    [(1, True), (2, True), (3, True), (4, True), (5, False), (6, True), (7, False), (8, True), (9, False)],
)
def test_an_overlap_of_exactly_the_threshold(tenths: int, dropped: bool) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, tenths]])
    scores, labels, threshold = torch.tensor([0.9, 0.8]), torch.tensor([4, 4]), tenths / 10
    kept = [0] if dropped else [0, 1]
    assert nms(boxes, scores, threshold).tolist() == kept
    assert batched_nms(boxes, scores, labels, threshold).tolist() == kept
    assert batched_nms(boxes, scores, torch.tensor([4, 5]), threshold).tolist() == [0, 1]
    assert nms(boxes.half(), scores, threshold).tolist() == kept
    _, left = soft_nms(boxes, scores, method="linear", iou_threshold=threshold)
    assert left.tolist() == pytest.approx([0.9, 0.8 * (1 - threshold) if dropped else 0.8])
    # in double precision the quotient is k / 10 itself, so nothing is above it
    assert nms(boxes.double(), scores, threshold).tolist() == [0, 1]


@settings(deadline=None, max_examples=150)
@given(small_boxes(), thresholds)
def test_equals_naive_loop(case: tuple[Tensor, Tensor, Tensor], threshold: float) -> None:
    boxes, scores, labels = case
    assert nms(boxes, scores, threshold).tolist() == naive_nms(boxes, scores, threshold)
    assert batched_nms(boxes, scores, labels, threshold).tolist() == naive_nms(boxes, scores, threshold, labels)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_naive_loop_on_many_boxes(threshold: float, dtype: torch.dtype) -> None:
    boxes, scores = random_boxes(700, 1)
    boxes = boxes.to(dtype)
    labels = torch.randint(-3, 4, (700,), generator=torch.Generator().manual_seed(2))
    assert nms(boxes, scores, threshold).tolist() == naive_nms(boxes, scores, threshold)
    assert batched_nms(boxes, scores, labels, threshold).tolist() == naive_nms(boxes, scores, threshold, labels)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6])
def test_heads_and_small_tiles_change_nothing(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many pairs are feared, boxes of high score go first; the bounds of that are made tiny here."""
    monkeypatch.setattr(suppression, "_HEAD", 20)
    monkeypatch.setattr(suppression, "_PAIRS", 30)
    monkeypatch.setattr(suppression, "_TILE", 100)
    for seed in range(4):
        boxes, scores = random_boxes(400, seed, size=100)
        scores = (scores * 20).floor() / 20
        labels = torch.randint(0, 3, (400,), generator=torch.Generator().manual_seed(seed))
        assert nms(boxes, scores, threshold).tolist() == naive_nms(boxes, scores, threshold)
        assert batched_nms(boxes, scores, labels, threshold).tolist() == naive_nms(boxes, scores, threshold, labels)


@pytest.mark.parametrize("clusters", [1, 40, 3000])
def test_large_sets(clusters: int) -> None:
    generator = torch.Generator().manual_seed(clusters)
    centres, _ = random_boxes(clusters, 3, size=800, high=200)
    boxes = centres[torch.randint(0, clusters, (4000,), generator=generator)] + torch.randn(
        4000, 4, generator=generator
    )
    scores = torch.rand(4000, generator=generator)
    assert nms(boxes, scores, 0.5).tolist() == naive_nms(boxes, scores, 0.5)


def test_staircase_is_a_chain_of_decisions() -> None:
    start = torch.arange(301.0) * 3
    boxes = torch.stack([start, torch.zeros(301), start + 10, torch.full((301,), 10.0)], 1)
    scores = torch.linspace(1, 0, 301)
    assert nms(boxes, scores, 0.5).tolist() == list(range(0, 301, 2))


def test_labels_keep_boxes_apart_at_any_coordinate() -> None:
    """Moving classes apart by an offset would round away the boxes' own size here."""
    near = torch.tensor([[0.0, 0, 8, 8], [1, 0, 9, 8], [0, 0, 8, 8], [4, 0, 12, 8]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    labels = torch.tensor([10**9, 10**9, 7, 10**9])
    for shift in (0.0, -1e5, 1e7):
        boxes = near + shift
        assert batched_nms(boxes, scores, labels, 0.5).tolist() == [0, 2, 3]
    one_per_label = batched_nms(near[:1].repeat(1000, 1) + 1e7, torch.linspace(1, 0, 1000), torch.arange(1000), 0.1)
    assert one_per_label.tolist() == list(range(1000))


def test_batched_equals_one_label_at_a_time() -> None:
    boxes, scores = random_boxes(500, 5)
    labels = torch.randint(0, 6, (500,), generator=torch.Generator().manual_seed(6))
    parts = [ids[nms(boxes[ids], scores[ids], 0.4)] for ids in ((labels == c).nonzero().flatten() for c in range(6))]
    kept = torch.cat(parts)
    assert torch.equal(batched_nms(boxes, scores, labels, 0.4), kept[scores[kept].argsort(descending=True)])


def test_order_of_input_does_not_matter() -> None:
    boxes, scores = random_boxes(300, 8)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(9))
    assert torch.equal(shuffle[nms(boxes[shuffle], scores[shuffle], 0.4)], nms(boxes, scores, 0.4))


def test_nothing_and_one() -> None:
    for n in (0, 1):
        boxes, scores = random_boxes(n, 0)
        assert nms(boxes, scores, 0.5).tolist() == list(range(n))
        assert batched_nms(boxes, scores, torch.zeros(n, dtype=torch.int64), 0.5).tolist() == list(range(n))
        ids, left = soft_nms(boxes, scores)
        assert ids.tolist() == list(range(n))
        assert torch.equal(left, scores)
        assert ids.dtype == torch.int64


def test_boxes_that_are_not_finite_suppress_nothing() -> None:
    good, scores = random_boxes(50, 4, size=30)
    bad = torch.tensor([[math.nan, 0, 5, 5], [0, 0, math.inf, 9], [-math.inf, -math.inf, math.inf, math.inf]])
    boxes = torch.cat([bad, good])
    kept = nms(boxes, torch.cat([torch.ones(3), scores]), 0.3)
    assert kept.tolist() == [0, 1, 2, *(i + 3 for i in naive_nms(good, scores, 0.3))]
    labels = torch.arange(53) % 2
    assert set(range(3)) <= set(batched_nms(boxes, torch.cat([torch.ones(3), scores]), labels, 0.3).tolist())


def test_half_precision_boxes_and_integers() -> None:
    boxes = torch.tensor([[0, 0, 300, 300], [0, 0, 300, 310], [400, 400, 500, 500]])  # areas beyond float16
    scores = torch.tensor([0.5, 0.9, 0.1])
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        assert nms(boxes.to(dtype), scores.half(), 0.5).tolist() == [1, 2]


def test_inputs_stay_and_need_no_gradient() -> None:
    boxes, scores = random_boxes(60, 2)
    before = boxes.clone(), scores.clone()
    boxes.requires_grad_()
    assert not soft_nms(boxes, scores.requires_grad_())[1].requires_grad
    assert nms(boxes, scores, 0.5).dtype == torch.int64
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])


def naive_soft_nms(
    boxes: Tensor, scores: Tensor, sigma: float, score_threshold: float, method: str, iou_threshold: float
) -> tuple[list[int], list[float]]:
    """The pseudo-code of the paper: take the best, lower the others, repeat."""
    b, left = boxes.double().numpy(), scores.double().numpy().copy()
    waiting = np.ones(len(b), dtype=bool)
    ids, values = [], []
    while waiting.any():
        best = int(np.where(waiting, left, -np.inf).argmax())
        if left[best] < score_threshold:
            break
        waiting[best] = False
        ids.append(best)
        values.append(float(left[best]))
        iou = np.nan_to_num(naive_iou(b[best], b))
        decay = (
            np.exp(-(iou**2) / sigma)
            if method == "gaussian"
            else np.where(iou.astype(np.float64) > iou_threshold, 1 - iou, 1)
        )
        left = np.where(waiting, left * decay, left)
    return ids, values


@pytest.mark.parametrize("method", ["gaussian", "linear"])
@pytest.mark.parametrize(("sigma", "score_threshold", "iou_threshold"), [(0.5, 0.001, 0.3), (0.1, 0.2, 0.0)])
def test_soft_nms_equals_naive_loop(method: str, sigma: float, score_threshold: float, iou_threshold: float) -> None:
    for seed in range(3):
        boxes, scores = random_boxes(150, seed, size=80)
        ids, left = soft_nms(boxes, scores, sigma, score_threshold, method, iou_threshold)
        expected, values = naive_soft_nms(boxes, scores, sigma, score_threshold, method, iou_threshold)
        assert ids.tolist() == expected
        assert left.tolist() == pytest.approx(values, rel=1e-5)


def test_soft_nms_of_equal_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4]] * 3)
    ids, left = soft_nms(boxes, torch.tensor([0.5, 0.9, 0.9]), sigma=0.5, score_threshold=0)
    assert ids.tolist() == [1, 2, 0]  # the first of equals goes first
    assert left.tolist() == pytest.approx([0.9, 0.9 * math.exp(-2), 0.5 * math.exp(-4)])
    assert soft_nms(boxes, torch.tensor([0.5, 0.9, 0.9]), method="linear")[0].tolist() == [1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nms(torch.zeros(3, 5), torch.zeros(3), 0.5), "boxes have shape [3, 5]"),
        (lambda: nms(torch.zeros(3, 4), torch.zeros(2), 0.5), "scores have shape [2], but there are 3 boxes"),
        (lambda: nms(torch.zeros(3, 4), torch.zeros(3), 50), "iou_threshold is 50"),
        (lambda: nms(torch.zeros(3, 4), torch.zeros(3), math.nan), "iou_threshold is nan"),
        (lambda: batched_nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(4), 0.5), "labels have shape [4]"),
        (lambda: soft_nms(torch.zeros(3, 4), torch.zeros(3), method="hard"), "method is 'hard'"),
        (lambda: soft_nms(torch.zeros(3, 4), torch.zeros(3), sigma=0), "sigma is 0"),
    ],
)
def test_mistakes_are_named(call: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert words in str(caught.value)


def test_reference_values(shared: Path) -> None:
    reference = np.load(shared / "parity" / "ops" / "nms.npz")
    for case in json.loads(str(reference["meta"]))["cases"]:
        boxes, scores = (torch.from_numpy(reference[f"{case}/{name}"]) for name in ("boxes", "scores"))
        threshold = float(reference[f"{case}/iou_threshold"])
        if f"{case}/idxs" in reference.files:
            kept = batched_nms(boxes, scores, torch.from_numpy(reference[f"{case}/idxs"]), threshold)
        else:
            kept = nms(boxes, scores, threshold)
        assert kept.tolist() == reference[f"{case}/keep"].tolist(), case
