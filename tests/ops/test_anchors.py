"""Anchors against loops over cells, worked facts and reference values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.ops import anchors as ops


def test_base_anchors_are_centred_of_the_right_area_and_shape() -> None:
    base = ops.base_anchors([128.0, 256.0], [0.5, 1.0, 2.0])
    assert base.shape == (6, 4)
    torch.testing.assert_close(base[:, :2], -base[:, 2:])
    width, height = (base[:, 2:] - base[:, :2]).unbind(1)
    for k, (ratio, size) in enumerate((r, s) for r in (0.5, 1.0, 2.0) for s in (128.0, 256.0)):
        assert height[k] / width[k] == pytest.approx(ratio, rel=0.02)  # corners are rounded to pixels
        assert width[k] * height[k] == pytest.approx(size**2, rel=0.02)


def test_base_anchors_of_one_size_by_hand() -> None:
    # 32 / √0.5 = 45.25 wide, 22.63 high; halves rounded: 23 and 11
    assert ops.base_anchors([32], [0.5, 1, 2]).tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


def test_grid_anchors_equal_a_loop_over_cells() -> None:
    base = torch.tensor([[-4.0, -2.0, 4.0, 2.0], [-1.0, -3.0, 1.0, 3.0]])
    expected = [
        [column * 16 + x1, row * 8 + y1, column * 16 + x2, row * 8 + y2]
        for row in range(3)
        for column in range(5)
        for x1, y1, x2, y2 in base.tolist()
    ]
    assert ops.grid_anchors(base, (3, 5), (8, 16)).tolist() == expected
    assert torch.equal(ops.grid_anchors(base, (2, 2), 8), ops.grid_anchors(base, (2, 2), (8, 8)))


def test_pyramid_anchors_take_their_strides_from_the_sizes() -> None:
    bases = [ops.base_anchors([32], [1]), ops.base_anchors([64], [1])]
    levels = ops.pyramid_anchors(bases, [(25, 42), (13, 21)], (200, 333), dtype=torch.float64)
    assert [len(level) for level in levels] == [25 * 42, 13 * 21]
    assert all(level.dtype == torch.float64 for level in levels)
    assert levels[0][1].tolist() == [333 // 42 - 16, -16, 333 // 42 + 16, 16]
    assert levels[1][21].tolist() == [-32, 200 // 13 - 32, 32, 200 // 13 + 32]
    with pytest.raises(InputError, match="2 sets of base anchors do not fit 1 feature maps"):
        ops.pyramid_anchors(bases, [(25, 42)], (200, 333))


def test_a_region_proposal_network_on_vgg_sees_its_taught_number_of_anchors() -> None:
    # A 640×480 image through a stride-32 network: 20×15 cells.
    level = ops.pyramid_anchors([ops.base_anchors([64, 128, 256], [0.5, 1, 2])], [(15, 20)], (480, 640))[0]
    assert len(level) == 9 * 20 * 15
    assert level[9].tolist() == (level[0] + torch.tensor([32.0, 0.0, 32.0, 0.0])).tolist()


def test_ssd300_has_8732_default_boxes() -> None:
    shapes = ops.default_box_shapes([[2], [2, 3], [2, 3], [2, 3], [2], [2]])
    assert [len(shape) for shape in shapes] == [4, 6, 6, 6, 4, 4]
    sides = [38, 19, 10, 5, 3, 1]
    assert len(ops.default_boxes(shapes, [(side, side) for side in sides], (300, 300))) == 8732


def test_default_box_shapes_by_hand() -> None:
    first, last = ops.default_box_shapes([[2], [3]], min_ratio=0.2, max_ratio=0.8)
    between = math.sqrt(0.2 * 0.8)
    expected = [[0.2, 0.2], [between, between], [0.2 * 2**0.5, 0.2 / 2**0.5], [0.2 / 2**0.5, 0.2 * 2**0.5]]
    torch.testing.assert_close(first, torch.tensor(expected))
    assert last[2].tolist() == pytest.approx([1.0, 0.8 / 3**0.5])  # 0.8 · √3 is wider than the image
    unclipped = ops.default_box_shapes([[2], [3]], min_ratio=0.2, max_ratio=0.8, clip=False)[1]
    assert unclipped[2, 0].item() == pytest.approx(0.8 * 3**0.5)


def test_default_boxes_equal_a_loop_over_cells() -> None:
    shapes = [torch.tensor([[0.2, 0.1], [0.5, 0.4]]), torch.tensor([[0.9, 0.8]])]
    height, width = 60, 90
    for steps in (None, (16, 50)):
        expected = []
        for k, (rows, columns) in enumerate([(3, 4), (1, 2)]):
            for row in range(rows):
                for column in range(columns):
                    x = (column + 0.5) * (width / columns if steps is None else steps[k])
                    y = (row + 0.5) * (height / rows if steps is None else steps[k])
                    for w, h in shapes[k].tolist():
                        half_w, half_h = w * width / 2, h * height / 2
                        expected.append([x - half_w, y - half_h, x + half_w, y + half_h])
        ours = ops.default_boxes(shapes, [(3, 4), (1, 2)], (height, width), steps)
        torch.testing.assert_close(ours, torch.tensor(expected), rtol=0, atol=1e-4)


def test_default_boxes_need_equally_many_of_everything() -> None:
    with pytest.raises(InputError, match="2 feature maps need 3 scales, one more, but 2 are given"):
        ops.default_box_shapes([[2], [2]], scales=[0.1, 0.2])
    shapes = ops.default_box_shapes([[2], [2]])
    with pytest.raises(InputError, match="2 sets of shapes do not fit 1 feature maps"):
        ops.default_boxes(shapes, [(3, 3)], (30, 30))
    with pytest.raises(InputError, match="2 sets of shapes and 1 steps do not fit 2"):
        ops.default_boxes(shapes, [(3, 3), (1, 1)], (30, 30), steps=[8])


def test_taught_anchors_by_size_and_ratio() -> None:
    """Width = W·s·√r, height = H·s/√r; n·m anchors a centre, or n + m − 1."""
    centres, sizes, ratios = torch.tensor([[100.0, 50.0], [320.0, 240.0]]), [0.75, 0.5, 0.25], [1.0, 4.0]
    boxes = ops.anchors_at(centres, sizes, ratios, (480, 640))
    assert boxes.shape == (2 * 3 * 2, 4)
    for row, (x, y, ratio, size) in enumerate((x, y, r, s) for x, y in centres.tolist() for r in ratios for s in sizes):
        width, height = 640 * size * math.sqrt(ratio), 480 * size / math.sqrt(ratio)
        expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        assert boxes[row].tolist() == pytest.approx(expected)
    first = ops.anchors_at(centres, sizes, ratios, (480, 640), pairs="first")
    assert first.shape == (2 * (3 + 2 - 1), 4)
    assert torch.equal(first.view(2, 4, 4), boxes.view(2, 6, 4)[:, :4])  # all of ratio 1, then (first size, ratio 4)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="anchor size 0 must be above 0"):
        ops.base_anchors([0], [1])
    with pytest.raises(InputError, match="anchor ratio -1 must be above 0"):
        ops.base_anchors([32], [-1])
    centre = torch.zeros(1, 2)
    with pytest.raises(InputError, match=r"anchor size 32 is above 1"):
        ops.anchors_at(centre, [32], [1], (10, 10))
    with pytest.raises(InputError, match=r'pairs must be "all" or "first", not \'some\''):
        ops.anchors_at(centre, [0.5], [1], (10, 10), pairs="some")  # type: ignore[arg-type]


def test_nothing_waits_for_the_device_or_mixes_devices() -> None:
    base, shapes = torch.zeros(3, 4, device="meta"), [torch.zeros(2, 2, device="meta")]
    assert ops.grid_anchors(base, (3, 4), 8).device.type == "meta"
    assert ops.pyramid_anchors([torch.zeros(3, 4)], [(3, 4)], (24, 32), device="meta")[0].device.type == "meta"
    assert ops.default_boxes(shapes, [(3, 4)], (24, 32)).device.type == "meta"
    assert ops.anchors_at(torch.zeros(5, 2, device="meta"), [0.5], [1.0], (24, 32)).device.type == "meta"


def test_reference_values(shared: Path) -> None:
    reference = np.load(shared / "parity/ops/anchors.npz")
    cases = json.loads(str(reference["meta"]))["cases"]
    assert len(cases) == 7
    for case in cases:
        maps, image = [tuple(m) for m in case["feature_maps"]], tuple(case["image_size"])
        if "clip" in case:
            ratios = {"ssdlite320": {"min_ratio": 0.2, "max_ratio": 0.95}, "ssd300": {"scales": case["scales"]}}[
                case["key"]
            ]
            shapes = ops.default_box_shapes(case["aspect_ratios"], clip=case["clip"], **ratios)
            boxes = ops.default_boxes(shapes, maps, image, case["steps"])
        else:
            bases = [ops.base_anchors(s, r) for s, r in zip(case["sizes"], case["aspect_ratios"], strict=True)]
            boxes = torch.cat(ops.pyramid_anchors(bases, maps, image))
        assert len(boxes) == case["count"]
        np.testing.assert_allclose(boxes[:: case["stored_step"]].numpy(), reference[case["key"]], rtol=0, atol=1e-4)
