"""How alike two shapes are."""

from __future__ import annotations

import torch

from sightline.ops.boxes import box_iou, shape_iou


def test_it_is_the_overlap_of_boxes_on_one_corner() -> None:
    a, b = torch.rand(7, 2) * 30 + 1, torch.rand(5, 2) * 30 + 1
    boxes = [torch.cat([torch.full_like(x, 3.0), x + 3], 1) for x in (a, b)]
    torch.testing.assert_close(shape_iou(a, b), box_iou(*boxes))
    # 10 × 4 and 5 × 8: 5 × 4 in common of 40 + 40 − 20
    by_hand = shape_iou(torch.tensor([[10.0, 4.0]]), torch.tensor([[5.0, 8.0], [10.0, 4.0]]))
    torch.testing.assert_close(by_hand, torch.tensor([[1 / 3, 1.0]]))
    assert shape_iou(a.half(), b.half()).dtype == torch.float32
    assert shape_iou(a[:0], b).shape == (0, 5)
