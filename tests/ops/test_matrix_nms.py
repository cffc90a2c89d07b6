"""Matrix NMS against loops and numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops.boxes import box_iou
from sightline.ops.matrix_nms import matrix_nms
from sightline.ops.suppression import nms


def naive(boxes: Tensor, scores: Tensor, labels: Tensor, method: str, sigma: float) -> dict[int, float]:
    """Equations 4 to 6, box by box: new scores by id."""
    iou = box_iou(boxes.double(), boxes.double())
    order = sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i))

    def f(value: float) -> float:
        return math.exp(-(value**2) / sigma) if method == "gaussian" else 1 - value

    new = {}
    for rank, j in enumerate(order):
        decay = 1.0
        better = [i for i in order[:rank] if labels[i] == labels[j]]
        for i in better:
            covered = max((float(iou[k, i]) for k in better[: better.index(i)]), default=0.0)
            if f(covered) > 0:
                decay = min(decay, f(float(iou[i, j])) / f(covered))
        new[j] = float(scores[j]) * decay
    return new


@pytest.mark.parametrize("method", ["gaussian", "linear"])
@pytest.mark.parametrize("sigma", [0.5, 0.1])
def test_a_naive_loop(method: str, sigma: float) -> None:
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(120, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(120, 2, generator=generator) * 40], 1)
    scores = (torch.rand(120, generator=generator) * 40).round() / 40  # some are equal
    labels = torch.randint(0, 3, (120,), generator=generator)
    ids, values = matrix_nms(boxes, scores, labels, method, sigma)
    expected = naive(boxes, scores, labels, method, sigma)
    assert sorted(ids.tolist()) == list(range(120))
    assert (values[:-1] >= values[1:]).all()
    for i, value in zip(ids.tolist(), values.tolist(), strict=True):
        assert value == pytest.approx(expected[i], abs=1e-5)
    cut, left = matrix_nms(boxes, scores, labels, method, sigma, score_threshold=0.3)
    assert torch.equal(cut, ids[values >= 0.3])
    assert torch.equal(left, values[values >= 0.3])


def test_numbers_worked_by_hand() -> None:
    # widths of 10, the second 5 further, the third 5 further still: IoU 1/3 of neighbours, 0 of the first and third
    boxes = torch.tensor([[0.0, 0, 10, 10], [5.0, 0, 15, 10], [10.0, 0, 20, 10]])
    scores = torch.tensor([0.9, 0.8, 0.6])
    ids, values = matrix_nms(boxes, scores, method="linear")
    # the second loses 1/3; the third loses (1 − 1/3) / (1 − 1/3), nothing: its rival has itself lost as much
    assert ids.tolist() == [0, 2, 1]
    assert values.tolist() == pytest.approx([0.9, 0.6, 0.8 * 2 / 3])
    ids, values = matrix_nms(boxes, scores, torch.tensor([4, 4, 7]), "gaussian")
    assert values.tolist() == pytest.approx([0.9, 0.8 * math.exp(-2 / 9), 0.6])
    assert ids.tolist() == [0, 1, 2]


def test_the_same_box_again_is_worth_nothing() -> None:
    boxes = torch.tensor([[3.0, 3, 9, 9]] * 4 + [[3.0, 3, 3, 9]])  # the last has no area
    ids, values = matrix_nms(boxes, torch.tensor([0.5, 0.9, 0.9, 0.1, 0.2]), method="linear", score_threshold=1e-6)
    assert ids.tolist() == [1, 4]
    assert values.tolist() == pytest.approx([0.9, 0.2])
    assert ids.tolist() == nms(boxes, torch.tensor([0.5, 0.9, 0.9, 0.1, 0.2]), 0.5).tolist()


def test_nothing_and_what_is_refused() -> None:
    ids, values = matrix_nms(torch.zeros(0, 4), torch.zeros(0))
    assert ids.shape == values.shape == (0,)
    with pytest.raises(InputError, match="method is 'hard', but must be 'gaussian' or 'linear'"):
        matrix_nms(torch.zeros(1, 4), torch.zeros(1), method="hard")
    with pytest.raises(InputError, match="sigma is 0, but must be above 0"):
        matrix_nms(torch.zeros(1, 4), torch.zeros(1), sigma=0)
    with pytest.raises(InputError, match=r"labels have shape \[2\], but there are 1 boxes"):
        matrix_nms(torch.zeros(1, 4), torch.zeros(1), torch.zeros(2))
