"""Masks against a loop over boxes, COCO's own tools, round trips and reference values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as coco
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.ops import _pasting
from sightline.ops import masks as ops


@st.composite
def bitmaps(draw: st.DrawFn) -> np.ndarray:
    """Noise of every density: parts that touch at corners, holes, islands in holes, all and nothing."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.random((height, width)) < draw(st.sampled_from([0.0, 0.1, 0.4, 0.6, 0.9, 1.0]))


# Pasting


def paste_one(mask: Tensor, box: list[float], height: int, width: int) -> Tensor:
    """A border of zeros, the box grown with it and cut to whole pixels, stretched by torch, copied row by row."""
    cells = mask.shape[0]
    mask = F.pad(mask, (1, 1, 1, 1))
    growth = (cells + 2) / cells
    cx, cy, hw, hh = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    x1, y1, x2, y2 = (int(v) for v in (cx - hw * growth, cy - hh * growth, cx + hw * growth, cy + hh * growth))
    w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    stretched = F.interpolate(mask[None, None], (h, w), mode="bilinear", align_corners=False)[0, 0]
    image = torch.zeros(height, width)
    for y in range(max(y1, 0), min(y1 + h, height)):
        for x in range(max(x1, 0), min(x1 + w, width)):
            image[y, x] = stretched[y - y1, x - x1]
    return image


BOXES = torch.tensor(
    [
        [5.0, 5, 30, 20],
        [0, 0, 39, 29],
        [-10, -8, 20, 15],
        [30.3, 20.7, 75.2, 66.1],
        [12.2, 9.9, 13.1, 10.4],
        [9, 9, 9, 9],
    ]
)


def test_pasting_equals_a_loop() -> None:
    masks = torch.rand(len(BOXES), 14, 14, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([paste_one(m, b, 30, 40) for m, b in zip(masks, BOXES.tolist(), strict=True)])
    ours = ops.paste_masks(masks[:, None], BOXES, (30, 40), threshold=None)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    clear = (expected - 0.5).abs() > 1e-4
    binary = ops.paste_masks(masks, BOXES, (30, 40))
    assert binary.dtype == torch.bool
    assert torch.equal(binary[clear], (expected > 0.5)[clear])


@pytest.mark.parametrize("threshold", [0.5, None])
def test_pasting_in_chunks_equals_pasting_at_once(threshold: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.rand(len(BOXES), 28, 28, generator=torch.Generator().manual_seed(1))
    whole = ops.paste_masks(masks, BOXES, (30, 40), threshold)
    for most in (30 * 40 * 4 * 2, 1):
        monkeypatch.setattr(ops, "_PASTE_BYTES", most)
        monkeypatch.setattr(_pasting, "_PASTE_BYTES", most)
        assert torch.equal(ops.paste_masks(masks, BOXES, (30, 40), threshold), whole)


@pytest.mark.parametrize("size", [(120, 160), (600, 800)], ids=["small", "mostly empty"])
def test_pasting_around_the_boxes_equals_pasting_everywhere(size: tuple[int, int]) -> None:
    """Also for boxes that leave the image, contain it, have no area, or are inverted."""
    generator = torch.Generator().manual_seed(5)
    centre, side = torch.rand(40, 2, generator=generator) * 170 - 20, torch.rand(40, 2, generator=generator) * 90
    boxes = torch.cat([centre - side / 2, centre + side / 2], 1)
    boxes[:5] = torch.tensor(
        [[-1e6, -1e6, 1e6, 1e6], [1e7, 1e7, 1e7, 1e7], [9, 9, 9, 9], [60, 50, 20, 30], [-50, -50, -20, -20]]
    )
    masks = torch.rand(40, 28, 28, generator=generator)
    everywhere = ops.paste_masks(masks, boxes, size, threshold=None)
    for threshold in (0.5, 0.0):
        found = ops.paste_masks(masks, boxes, size, threshold)
        assert torch.equal(found, everywhere > threshold)
    assert bool(ops.paste_masks(masks, boxes, size, threshold=-1.0).all())


def test_deferred_masks_are_those_of_the_boxes_at_the_time() -> None:
    masks, boxes = torch.rand(len(BOXES), 14, 14, generator=torch.Generator().manual_seed(0)), BOXES.clone()
    deferred = ops.deferred_masks(masks.requires_grad_(), boxes, (30, 40))
    boxes += 3
    assert torch.equal(deferred(), ops.paste_masks(masks, BOXES, (30, 40)))


def test_pasting_passes_gradients_on() -> None:
    masks = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    ops.paste_masks(masks, torch.tensor([[2.0, 2, 9, 9], [0, 0, 5, 5]]), (12, 12), threshold=None).sum().backward()
    assert masks.grad is not None
    assert (masks.grad > 0).all()


def test_pasting_keeps_its_precision_under_mixed_precision() -> None:
    masks = torch.rand(3, 28, 28, generator=torch.Generator().manual_seed(3))
    plain = ops.paste_masks(masks, BOXES[:3], (30, 40), threshold=None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ops.paste_masks(masks, BOXES[:3], (30, 40), threshold=None), plain)


def test_pasting_nothing_and_what_does_not_fit() -> None:
    assert ops.paste_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (3, 5)).shape == (0, 3, 5)
    with pytest.raises(InputError, match=r"masks \[2, 28, 28\] do not fit 3 boxes"):
        ops.paste_masks(torch.zeros(2, 28, 28), torch.zeros(3, 4), (3, 5))
    with pytest.raises(InputError, match=r"masks \[3, 2, 28, 28\] do not fit"):
        ops.paste_masks(torch.zeros(3, 2, 28, 28), torch.zeros(3, 4), (3, 5))


# Boxes of masks


@given(mask=bitmaps())
@settings(deadline=None, max_examples=60)
def test_boxes_of_masks_and_of_rles(mask: np.ndarray) -> None:
    ys, xs = np.nonzero(mask)
    expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
    assert ops.masks_to_boxes(torch.from_numpy(mask)[None]).tolist() == [expected]
    rle = ops.mask_to_rle(mask)
    assert ops.rle_to_box(rle).tolist() == expected
    assert ops.rle_area(rle) == mask.sum()


def test_boxes_of_several_masks_of_numbers() -> None:
    masks = torch.zeros(3, 6, 8)
    masks[0, 2:4, 3:7] = 0.5
    masks[2, 5, 0] = 255
    assert ops.masks_to_boxes(masks).tolist() == [[3, 2, 7, 4], [0, 0, 0, 0], [0, 5, 1, 6]]
    assert ops.masks_to_boxes(masks, inclusive=True).tolist() == [[3, 2, 6, 3], [0, 0, 0, 0], [0, 5, 0, 5]]
    assert ops.masks_to_boxes(torch.zeros(0, 6, 8)).shape == (0, 4)
    assert ops.masks_to_boxes(torch.zeros(2, 0, 8)).tolist() == [[0, 0, 0, 0]] * 2
    assert ops.masks_to_boxes(torch.zeros(2, 4, 4, device="meta")).device.type == "meta"


# Run-length encoding


@given(mask=bitmaps())
@settings(deadline=None, max_examples=100)
def test_rle_equals_coco_and_round_trips(mask: np.ndarray) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = ops.mask_to_rle(torch.from_numpy(mask))
    assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert json.loads(json.dumps(ours)) == ours
    for rle in (ours, theirs, {"size": ours["size"], "counts": run_lengths(mask)}):
        decoded = ops.rle_to_mask(rle)
        assert decoded.dtype == torch.bool
        assert np.array_equal(decoded.numpy(), mask)


def run_lengths(mask: np.ndarray) -> list[int]:
    counts, value = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def test_rle_of_long_runs() -> None:
    mask = torch.zeros(700, 900, dtype=torch.bool)
    mask[100:600, 50:850] = True
    mask[300, 400] = False
    rle = ops.mask_to_rle(mask)
    assert torch.equal(ops.rle_to_mask(rle), mask)
    assert ops.rle_area(rle) == 500 * 800 - 1 == coco.area({"size": rle["size"], "counts": rle["counts"].encode()})
    assert ops.rle_to_box(rle).tolist() == [50, 100, 850, 600]


@pytest.mark.parametrize(
    ("rle", "sentence"),
    [
        ({"size": [4, 3]}, r'an RLE must be a dict of "size" \[height, width\] and "counts"'),
        ({"size": 4, "counts": [12]}, r'an RLE must be a dict of "size"'),
        ([12], r'an RLE must be a dict of "size"'),
        ({"size": [4, 3], "counts": [0, 11]}, r"add up to 11, but its size 4×3 has 12 pixels"),
        ({"size": [4, 3], "counts": [0, 50]}, r"add up to 50, but its size 4×3 has 12 pixels"),
        ({"size": [4, 3], "counts": [20, -8]}, r"no run may be negative"),
        ({"size": [4, 3], "counts": [11.5, 0.5]}, r"counts of an RLE must be whole numbers"),
        ({"size": [4, 3], "counts": ["a", "b"]}, r"counts of an RLE must be whole numbers"),
        ({"size": [4, 3], "counts": ""}, r"add up to 0, but its size 4×3"),
        ({"size": [4, 3], "counts": "2"}, r"add up to 2, but its size 4×3"),
        ({"size": [4, 3], "counts": "P"}, r"broken or cut off"),
        ({"size": [4, 3], "counts": "!!"}, r"broken or cut off"),
        ({"size": [4, 3], "counts": "né"}, r"broken or cut off"),
        ({"size": [4, 3], "counts": "ooooooooo0"}, r"a number in it is too long"),
    ],
)
def test_a_broken_rle_is_refused(rle: ops.RLE, sentence: str) -> None:
    for function in (ops.rle_to_mask, ops.rle_area, ops.rle_to_box):
        with pytest.raises(InputError, match=sentence):
            function(rle)


def test_a_stack_of_masks_is_refused() -> None:
    with pytest.raises(InputError, match=r"must have shape \[height, width\], not \[1, 4, 4\]"):
        ops.mask_to_rle(torch.zeros(1, 4, 4))
    with pytest.raises(InputError, match=r"must have shape \[height, width\], not \[4\]"):
        ops.mask_to_polygons(np.zeros(4))


# Polygons


@given(
    polygons=st.lists(
        st.lists(st.tuples(st.floats(-5, 20), st.floats(-5, 20)), min_size=3, max_size=8), min_size=1, max_size=3
    ),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
)
@settings(deadline=None, max_examples=100)
def test_polygons_are_filled_as_coco_fills_them(
    polygons: list[list[tuple[float, float]]], size: tuple[int, int]
) -> None:
    flat = [[value for point in polygon for value in point] for polygon in polygons]
    theirs = coco.merge(coco.frPyObjects(flat, *size))
    assert ops.polygons_to_rle(flat, size)["counts"] == theirs["counts"].decode()
    for form in (polygons, [np.array(p) for p in polygons], [torch.tensor(p, dtype=torch.float64) for p in polygons]):
        assert np.array_equal(ops.polygons_to_mask(form, size).numpy(), coco.decode(theirs))  # type: ignore[arg-type]


@given(mask=bitmaps())
@settings(deadline=None, max_examples=200)
def test_outlines_give_back_the_same_bitmap(mask: np.ndarray) -> None:
    polygons = ops.mask_to_polygons(mask)
    assert np.array_equal(ops.polygons_to_mask(polygons, mask.shape).numpy(), mask)
    if polygons:
        size = mask.shape
        theirs = coco.merge([coco.frPyObjects([polygon], *size)[0] for polygon in polygons])
        assert np.array_equal(coco.decode(theirs), mask)


def test_an_outline_by_hand() -> None:
    mask = torch.zeros(5, 6, dtype=torch.bool)
    mask[1:3, 2:5] = True
    assert ops.mask_to_polygons(mask) == [[2, 1, 5, 1, 5, 3, 2, 3]]
    mask[3, 5] = True  # touches at a corner: a part of its own
    assert ops.mask_to_polygons(mask) == [[2, 1, 5, 1, 5, 3, 2, 3], [5, 3, 6, 3, 6, 4, 5, 4]]
    assert ops.mask_to_polygons(torch.zeros(5, 6)) == []


def test_a_hole_is_joined_to_the_outline() -> None:
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2, 2] = False
    (polygon,) = ops.mask_to_polygons(mask)
    points = np.array(polygon).reshape(-1, 2)
    assert {(2.0, 2.0), (3.0, 2.0), (3.0, 3.0), (2.0, 3.0)} <= {tuple(point) for point in points.tolist()}
    x, y = points.T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2 == 24  # the shoelace formula


def test_large_outlines_are_quick_and_exact() -> None:
    y, x = np.mgrid[:400, :500]
    ring = (np.hypot(y - 200, x - 250) < 180) & (np.hypot(y - 180, x - 250) > 60)
    (polygon,) = ops.mask_to_polygons(ring)
    assert len(polygon) < 3000
    assert np.array_equal(ops.polygons_to_mask([polygon], (400, 500)).numpy(), ring)


def test_polygons_that_hold_nothing() -> None:
    assert not ops.polygons_to_mask([], (4, 5)).any()
    assert not ops.polygons_to_mask([[1.0, 1.0, 3.0, 3.0]], (4, 5)).any()
    square = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]
    # A first polygon of four values must not turn all of them into boxes, as it does in COCO's own function.
    assert ops.rle_area(ops.polygons_to_rle([[1.0, 1.0, 3.0, 3.0], square], (4, 5))) == 4


@pytest.mark.parametrize(
    ("polygon", "sentence"),
    [
        ([1.0, 1.0, 3.0, 1.0, 3.0], r"polygon 1 has 5 values, but points need an even number"),
        ([1.0, 1.0, 3.0, float("nan"), 3.0, 3.0], r"polygon 1 must be of finite numbers"),
        (["a", "b"], r"polygon 1 must be of finite numbers"),
    ],
)
def test_a_broken_polygon_is_refused(polygon: list[float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ops.polygons_to_mask([[1.0, 1.0, 3.0, 1.0, 3.0, 3.0], polygon], (4, 5))


# Reference values


def test_reference_values(shared: Path) -> None:
    reference = np.load(shared / "parity/ops/detection_utils.npz")
    masks, boxes = torch.from_numpy(reference["paste/masks"]), torch.from_numpy(reference["paste/boxes"])
    expected = reference["paste/output_50x60"][:, 0]
    ours = ops.paste_masks(masks, boxes, (50, 60), threshold=None).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert np.array_equal(ops.paste_masks(masks, boxes, (50, 60)).numpy(), expected > 0.5)
    reference = np.load(shared / "parity/ops/boxes.npz")
    inclusive = ops.masks_to_boxes(torch.from_numpy(reference["masks_to_boxes/masks"]), inclusive=True)
    assert np.array_equal(inclusive.numpy(), reference["masks_to_boxes/boxes"])


def test_real_annotations(shared: Path) -> None:
    """Polygons and RLEs as annotators and tools wrote them."""
    checked = 0
    for file in [*sorted((shared / "data").glob("coco_mini/**/*.json")), shared / "parity/metrics/coco_gt.json"]:
        content = json.loads(file.read_text())
        if not isinstance(content, dict) or "annotations" not in content:
            continue
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        for annotation in content["annotations"][:150]:
            segmentation, size = annotation.get("segmentation"), sizes[annotation["image_id"]]
            if not segmentation:
                continue
            if isinstance(segmentation, list):
                theirs = coco.merge(coco.frPyObjects(segmentation, *size))
                ours = ops.polygons_to_rle(segmentation, size)
                assert ours["counts"] == theirs["counts"].decode()
            else:
                packed = isinstance(segmentation["counts"], str)
                theirs = segmentation if packed else coco.frPyObjects(segmentation, *size)
                ours = segmentation
            mask = ops.rle_to_mask(ours)
            assert np.array_equal(mask.numpy(), coco.decode(theirs))
            assert ops.rle_area(ours) == coco.area(theirs)
            x, y, w, h = coco.toBbox(theirs).tolist()
            assert ops.rle_to_box(ours).tolist() == [x, y, x + w, y + h]
            assert torch.equal(ops.polygons_to_mask(ops.mask_to_polygons(mask), size), mask)
            checked += 1
    assert checked > 50
