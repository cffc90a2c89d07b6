"""Region features against naive loops, worked cases, numeric gradients and the reference values of torchvision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.nn.heads.regions import AlignedRegions
from sightline.ops import _range_max, _sampling
from sightline.ops.position_sensitive import ps_roi_align, ps_roi_pool
from sightline.ops.regions import multiscale_roi_align, pyramid_scales, region_levels, roi_align, roi_pool
from sightline.structures import ImageBatch

ROIS = torch.tensor(
    [
        [0, 2.3, 3.1, 20.7, 15.2],
        [1, 5, 6, 37, 30],
        [0, 0, 0, 47, 39],  # the whole map
        [1, -10.5, -6.2, 15.4, 12.1],  # over the upper left
        [0, 35.2, 25.5, 65.9, 60.3],  # over the lower right
        [1, 16.3, 10.7, 17.1, 11.9],  # smaller than a cell
        [0, 8, 8, 8, 8],  # a point
        [1, 100, 100, 130, 120],  # outside
        [0, -90, -90, -60, -70],
        [0, 10, 15, 6, 9],  # inverted
        [1, -40, 13, 90, 17],  # wider than the map
        [0, 13, -40, 17, 90],
    ]
)


def features(seed: int = 0, channels: int = 3, size: tuple[int, int] = (10, 12), dtype: Any = torch.float32) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """The value of [C, H, W] between cells; the border's up to one cell outside, 0 beyond."""
    height, width = plane.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = plane[:, top, left] * (1 - dx) + plane[:, top, right] * dx
    lower = plane[:, below, left] * (1 - dx) + plane[:, below, right] * dx
    return upper * (1 - dy) + lower * dy


def naive_roi_align(
    maps: Tensor, rois: Tensor, bins: tuple[int, int], scale: float, ratio: int, aligned: bool, mode: str = "average"
) -> Tensor:
    result = maps.new_zeros(len(rois), maps.shape[1], *bins)
    for k, (image, *box) in enumerate(rois.double().tolist()):
        x1, y1, x2, y2 = (v * scale - (0.5 if aligned else 0) for v in box)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        bin_h, bin_w = height / bins[0], width / bins[1]
        n_h, n_w = (ratio, ratio) if ratio > 0 else (math.ceil(bin_h), math.ceil(bin_w))
        if n_h < 1 or n_w < 1:
            continue
        for i in range(bins[0]):
            for j in range(bins[1]):
                ys = [y1 + i * bin_h + (s + 0.5) * bin_h / n_h for s in range(n_h)]
                xs = [x1 + j * bin_w + (s + 0.5) * bin_w / n_w for s in range(n_w)]
                samples = torch.stack([bilinear(maps[int(image)], y, x) for y in ys for x in xs])
                result[k, :, i, j] = samples.mean(0) if mode == "average" else samples.max(0).values
    return result


def c_round(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def naive_roi_pool(maps: Tensor, rois: Tensor, bins: tuple[int, int], scale: float) -> tuple[Tensor, Tensor]:
    """Values, and the gradient of their sum: 1 at the first largest cell of each bin."""
    height, width = maps.shape[2:]
    result, gradient = maps.new_zeros(len(rois), maps.shape[1], *bins), torch.zeros_like(maps)
    for k, (image, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c_round(v * scale) for v in box)
        step_h, step_w = max(y2 - y1 + 1, 1) / bins[0], max(x2 - x1 + 1, 1) / bins[1]
        for i in range(bins[0]):
            for j in range(bins[1]):
                top, bottom = (
                    min(max(v + y1, 0), height) for v in (math.floor(i * step_h), math.ceil((i + 1) * step_h))
                )
                left, right = (
                    min(max(v + x1, 0), width) for v in (math.floor(j * step_w), math.ceil((j + 1) * step_w))
                )
                if bottom <= top or right <= left:
                    continue
                for c in range(maps.shape[1]):
                    window = maps[int(image), c, top:bottom, left:right].numpy()
                    y, x = np.unravel_index(window.argmax(), window.shape)
                    result[k, c, i, j] = float(window[y, x])
                    gradient[int(image), c, top + y, left + x] += 1
    return result, gradient


@pytest.mark.parametrize("mode", ["average", "max"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(
    ("ratio", "bins", "scale"), [(2, (3, 3), 0.25), (1, (2, 5), 0.25), (-1, (3, 2), 0.3), (3, (1, 1), 1.0)]
)
def test_roi_align_equals_naive_loop(ratio: int, bins: tuple[int, int], scale: float, aligned: bool, mode: str) -> None:
    maps = features(dtype=torch.float64).requires_grad_()
    expected = naive_roi_align(maps, ROIS, bins, scale, ratio, aligned, mode)
    result = roi_align(maps, ROIS, bins, scale, ratio, aligned, mode)
    torch.testing.assert_close(result, expected)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(result, maps, weights)
    (expected_gradient,) = torch.autograd.grad(expected, maps, weights)
    torch.testing.assert_close(gradient, expected_gradient)
    single = roi_align(maps.detach().float(), ROIS, bins, scale, ratio, aligned, mode)
    torch.testing.assert_close(single, expected.float(), atol=1e-4, rtol=1e-4)


def test_roi_align_of_a_plane_is_the_plane() -> None:
    """Bilinear samples of a·x + b·y + c are exact, so a bin holds the value at its centre."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    maps = (2 * x - 3 * y + 5)[None, None]
    box = torch.tensor([[3.2, 4.1, 17.2, 12.5]])
    for ratio in (-1, 1, 2, 5):
        result = roi_align(maps, [box], (4, 7), sampling_ratio=ratio)[0, 0]
        cx, cy = 3.2 + 2.0 * (torch.arange(7) + 0.5), 4.1 + 2.1 * (torch.arange(4) + 0.5)
        torch.testing.assert_close(result, 2 * cx[None] - 3 * cy[:, None] + 5)
        shifted = roi_align(maps, [box * 2], (4, 7), 0.5, ratio, aligned=True)[0, 0]
        torch.testing.assert_close(shifted, result + (3 - 2) * 0.5)
        largest = roi_align(maps, [box], (4, 7), sampling_ratio=ratio, mode="max")[0, 0]
        assert (largest >= result).all()


def test_a_size_just_below_a_power_of_two_does_not_fall_a_level() -> None:
    """torchvision adds 1e-6 to the level: 224 × 223.9999 pixels belong to 224 (level 4), 224 × 223.999 below it."""
    maps = [torch.full((1, 1, 1024 >> level, 1024 >> level), float(level)) for level in (2, 3, 4, 5)]
    heights = {223.9999: 4, 223.999: 3, 224.0: 4, 447.9: 4, 448.0 * 2: 5}
    boxes = torch.tensor([[0.0, 0, 224, height] for height in heights])
    found = multiscale_roi_align(maps, [boxes], (1024, 1024), 1)
    assert found.flatten().tolist() == pytest.approx(list(heights.values()))


def test_two_samples_a_side_are_read_where_nothing_is_said() -> None:
    """Mask R-CNN's regions average 2 × 2 samples a bin; one alone would read a curved map elsewhere."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    maps = (x**2 + 3 * y**2 + 7 * (x % 3))[None, None]
    box = torch.tensor([[8.0, 12.0, 100.0, 90.0]])
    rois = torch.tensor([[0.0, 8, 12, 100, 90]])
    expected = naive_roi_align(maps, rois, (3, 2), 1 / 8, 2, False)
    torch.testing.assert_close(multiscale_roi_align([maps], [box], (128, 128), (3, 2)), expected)
    batch = ImageBatch(torch.zeros(1, 3, 128, 128), [(128, 128)], [(128, 128)])
    regions = AlignedRegions(["map"], 3)({"map": maps}, [box], batch)
    torch.testing.assert_close(regions, naive_roi_align(maps, rois, (3, 3), 1 / 8, 2, False))


def test_roi_pool_worked_case() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    whole = torch.tensor([[0.0, 0, 0, 3, 3]])
    assert roi_pool(maps, whole, 2).flatten().tolist() == [5, 7, 13, 15]
    # 4 cells in 3 bins of 4/3 cells: the bins share cells.
    assert roi_pool(maps, whole, 3)[0, 0].tolist() == [[5, 6, 7], [9, 10, 11], [13, 14, 15]]
    # A region smaller than the output is scaled up.
    assert roi_pool(maps, torch.tensor([[0.0, 2, 1, 2, 1]]), 2).flatten().tolist() == [6] * 4
    # Snapped to whole cells, halves away from zero.
    assert roi_pool(maps, torch.tensor([[0.0, 0.5, 0.4, 2.4, 2.5]]), 1).item() == 14


def test_roi_pool_equals_naive_loop() -> None:
    for bins, scale in (((3, 3), 0.25), ((1, 2), 0.25), ((7, 5), 0.3), ((2, 2), 1.0)):
        for dtype in (torch.float32, torch.float64):
            maps = features(2, dtype=dtype)
            expected, gradient = naive_roi_pool(maps, ROIS, bins, scale)
            torch.testing.assert_close(roi_pool(maps, ROIS, bins, scale), expected, rtol=0, atol=0)
            maps.requires_grad_()
            result = roi_pool(maps, ROIS, bins, scale)
            torch.testing.assert_close(result, expected, rtol=0, atol=0)
            torch.testing.assert_close(torch.autograd.grad(result.sum(), maps)[0], gradient, rtol=0, atol=0)


coordinate = st.integers(-60, 60).map(lambda v: v / 2)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 1), coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=6),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 23), st.integers(1, 23)),
    st.integers(0, 2**31),
)
def test_roi_pool_of_any_region(rois: list[Any], bins: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    """Whole numbers as features, so that equal cells are common and the first one must be found."""
    maps = (features(seed, 2, size) * 2).round()
    expected, gradient = naive_roi_pool(maps, torch.tensor(rois), bins, 1.0)
    maps.requires_grad_()
    result = roi_pool(maps, torch.tensor(rois), bins)
    assert torch.equal(result, expected)
    assert torch.equal(torch.autograd.grad(result.sum(), maps)[0], gradient)
    assert torch.equal(roi_pool(maps.detach(), torch.tensor(rois), bins), expected)


def test_roi_pool_signs_zeros_and_nan() -> None:
    maps = torch.tensor([[-0.0, 0.0, -3.0], [-1.0, -2.0, -math.inf]]).view(1, 1, 2, 3).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 1, 0], [0, 0, 1, 2, 1], [0, 2, 1, 2, 1]])
    result = roi_pool(maps, rois, 1)
    assert result.flatten().tolist() == [0, -1, -math.inf]
    assert torch.autograd.grad(result.sum(), maps)[0].flatten().tolist() == [1, 0, 0, 1, 0, 1]
    for nan in (math.nan, -math.nan):
        bad = torch.tensor([1.0, nan, 2.0]).view(1, 1, 1, 3)
        for tracked in (bad, bad.clone().requires_grad_()):
            assert roi_pool(tracked, torch.tensor([[0.0, 0, 0, 2, 0]]), 1).isnan().all()


def naive_ps_roi_pool(maps: Tensor, rois: Tensor, bins: tuple[int, int], scale: float, short: int = 1) -> Tensor:
    height, width = maps.shape[2:]
    result = maps.new_zeros(len(rois), maps.shape[1] // (bins[0] * bins[1]), *bins)
    for k, (image, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c_round(v * scale) for v in box)
        step_h, step_w = max(y2 - y1, 1) / bins[0], max(x2 - x1, 1) / bins[1]
        for i in range(bins[0]):
            for j in range(bins[1]):
                ends_y, ends_x = (
                    (math.floor(i * step_h), math.ceil((i + 1) * step_h)),
                    (math.floor(j * step_w), math.ceil((j + 1) * step_w)),
                )
                top, bottom = (min(max(v + y1, 0), height - short) for v in ends_y)
                left, right = (min(max(v + x1, 0), width - short) for v in ends_x)
                if bottom > top and right > left:
                    own = maps[int(image), i * bins[1] + j :: bins[0] * bins[1], top:bottom, left:right]
                    result[k, :, i, j] = own.mean((1, 2))
    return result


@pytest.mark.parametrize(("bins", "scale"), [((3, 3), 0.25), ((2, 4), 0.3), ((1, 1), 1.0)])
def test_position_sensitive_equal_naive_loops(bins: tuple[int, int], scale: float) -> None:
    count = bins[0] * bins[1]
    maps = features(3, 2 * count)
    torch.testing.assert_close(ps_roi_pool(maps, ROIS, bins, scale), naive_ps_roi_pool(maps, ROIS, bins, scale))
    whole = naive_ps_roi_pool(maps, ROIS, bins, scale, short=0)
    torch.testing.assert_close(ps_roi_pool(maps, ROIS, bins, scale, whole_map=True), whole)
    for ratio in (2, -1):
        expected = torch.empty(len(ROIS), 2, *bins)
        for number in range(count):  # bin by bin, RoI align of its own channels
            i, j = divmod(number, bins[1])
            whole = naive_roi_align(maps[:, number::count].double(), ROIS, bins, scale, ratio, aligned=True)
            expected[:, :, i, j] = whole[:, :, i, j].float()
        torch.testing.assert_close(ps_roi_align(maps, ROIS, bins, scale, ratio), expected, atol=1e-5, rtol=1e-5)


INSIDE = torch.tensor([[0.0, 2.3, 3.1, 20.7, 15.2], [1, 5, 6, 37, 30], [1, 16.3, 10.7, 17.1, 11.9]])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: roi_align(x, ROIS, (2, 3), 0.25, 2),
        lambda x: roi_align(x, ROIS, (2, 3), 0.25, -1, aligned=True),
        lambda x: roi_align(x, ROIS, (2, 3), 0.25, 2, mode="max"),
        lambda x: roi_align(x, ROIS, 2, 0.25, -1, mode="max"),
        lambda x: roi_pool(x, ROIS, (2, 3), 0.25),
        lambda x: ps_roi_pool(x, INSIDE, (2, 3), 0.25),
        lambda x: ps_roi_pool(x, ROIS, (2, 3), 0.25, whole_map=True),
        lambda x: ps_roi_align(x, ROIS, (2, 3), 0.25),
        lambda x: multiscale_roi_align([x, x[..., ::2, ::2]], [ROIS[:3, 1:], ROIS[3:6, 1:]], (40, 48), 2),
    ],
)
def test_gradients_are_those_of_the_values(function: Callable[[Tensor], Tensor]) -> None:
    maps = features(4, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(function, (maps,), fast_mode=True)


FUNCTIONS: list[Callable[..., Tensor]] = [
    lambda x, r: roi_align(x, r, 2, 0.25, 2),
    lambda x, r: roi_align(x, r, 2, 0.25),
    lambda x, r: roi_align(x, r, 2, 0.25, mode="max"),
    lambda x, r: roi_pool(x, r, 2, 0.25),
    lambda x, r: ps_roi_pool(x, r, 2, 0.25),
    lambda x, r: ps_roi_align(x, r, 2, 0.25),
    lambda x, r: ps_roi_align(x, r, 2, 0.25, 2),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_forms_of_the_arguments(function: Callable[..., Tensor]) -> None:
    maps = features(5, 8)
    whole = function(maps, ROIS)
    assert whole.is_contiguous()
    # A list for each image gives the regions image by image.
    order = ROIS[:, 0].argsort(stable=True)
    lists = [ROIS[ROIS[:, 0] == image, 1:] for image in (0, 1)]
    assert torch.equal(function(maps, lists), whole[order])
    # One region at a time, and one image at a time.
    for k in range(len(ROIS)):
        torch.testing.assert_close(function(maps, ROIS[k : k + 1])[0], whole[k])
    torch.testing.assert_close(function(maps[1:], lists[1:]), whole[ROIS[:, 0] == 1])
    # Memory formats and cut-outs make no difference.
    assert torch.equal(function(maps.contiguous(memory_format=torch.channels_last), ROIS), whole)
    assert torch.equal(function(torch.cat([maps, maps], 3)[..., : maps.shape[3]], ROIS), whole)
    # Half precision is computed in float32 and given back as it came.
    for dtype in (torch.float16, torch.bfloat16):
        half = maps.to(dtype).requires_grad_()
        result = function(half, ROIS)
        assert result.dtype == dtype
        assert torch.equal(result, function(half.detach().float(), ROIS).to(dtype))
        assert torch.autograd.grad(result.float().sum(), half)[0].dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(maps, ROIS), whole)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_regions_keep_the_gradient_alive(function: Callable[..., Tensor]) -> None:
    maps = features(6, 8).requires_grad_()
    for none in (torch.zeros(0, 5), [torch.zeros(0, 4), torch.zeros(0, 4)]):
        result = function(maps, none)
        assert result.shape == (0, result.shape[1], 2, 2)
        (gradient,) = torch.autograd.grad(result.sum(), maps)
        assert not gradient.any()
    one = function(maps, [torch.zeros(0, 4), torch.tensor([[4.0, 4, 30, 30]])])
    (gradient,) = torch.autograd.grad(one.sum(), maps)
    assert not gradient[0].any()
    assert gradient[1].any()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_small_blocks_change_nothing(function: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    maps = features(7, 36).requires_grad_()
    whole = function(maps, ROIS)
    weights = torch.randn(whole.shape, generator=torch.Generator().manual_seed(8))
    (gradient,) = torch.autograd.grad(whole, maps, weights)
    monkeypatch.setattr(_sampling, "_CELLS_IN_MEMORY", 70)
    monkeypatch.setattr(_sampling, "_CACHE", 30)
    monkeypatch.setattr(_range_max, "_CACHE", 70)
    monkeypatch.setattr(_range_max, "_TABLE", 70)
    blocks = function(maps, ROIS)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks, maps, weights)[0], gradient)


def test_regions_that_are_not_finite_are_harmless() -> None:
    maps = features(9)
    rois = torch.tensor([[0.0, math.nan, math.nan, math.nan, math.nan], [0, 2, 2, 9, 9]])
    assert torch.equal(roi_align(maps, rois, 2, 1.0, 2)[1], roi_align(maps, rois[1:], 2, 1.0, 2)[0])
    assert multiscale_roi_align([maps], [rois[:, 1:], rois[:0, 1:]], (40, 48), 2).shape == (2, 3, 2, 2)


def test_multiscale_reads_the_level_that_fits() -> None:
    maps = [features(level, 3, (64 >> level, 80 >> level)) for level in range(4)]  # strides 4 to 32
    sizes = [10.0, 60, 111, 112.0, 150, 224, 300, 448, 900]
    boxes = torch.tensor([[3.0, 2, 3 + size, 2 + size] for size in sizes])
    expected_levels = [0, 0, 0, 1, 1, 2, 2, 3, 3]
    result = multiscale_roi_align(maps, [boxes, boxes[:2]], (256, 320), 3, sampling_ratio=2)
    assert result.shape == (11, 3, 3, 3)
    for k, level in enumerate(expected_levels):
        roi = torch.cat([torch.zeros(1), boxes[k]])[None]
        torch.testing.assert_close(result[k : k + 1], roi_align(maps[level], roi, 3, 1 / (4 << level), 2))
    one = torch.tensor([[1.0, 3, 2, 13, 12]])
    torch.testing.assert_close(result[9:10], roi_align(maps[0], one, 3, 0.25, 2))
    # One level, whatever its stride, and padding that makes the ratio of sizes uneven.
    torch.testing.assert_close(
        multiscale_roi_align(maps[2:3], [boxes, boxes[:0]], (251, 313), 3),
        roi_align(maps[2], [boxes, boxes[:0]], 3, 1 / 16, 2),
    )
    # The rule's two numbers.
    coarse = multiscale_roi_align(maps, [boxes[:1], boxes[:0]], (256, 320), 3, canonical_size=10, canonical_level=5)
    torch.testing.assert_close(coarse, roi_align(maps[3], [boxes[:1], boxes[:0]], 3, 1 / 32, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: roi_align(x[0], ROIS, 2), "features have shape [3, 10, 12]"),
        (lambda x: roi_align(x, ROIS[:, 1:], 2), "rois have shape [12, 4], but must be [K, 5]"),
        (lambda x: roi_align(x, [ROIS[:, 1:]], 2), "boxes for 1 images, but features of 2"),
        (lambda x: roi_pool(x, [ROIS[:, 1:], ROIS], 2), "the boxes of image 1 have shape [12, 5]"),
        (lambda x: roi_pool(x[:1], ROIS, 2), "a region is of image 1, but there are features of 1"),
        (lambda x: roi_align(x, ROIS, 2, mode="median"), "mode is 'median'"),
        (lambda x: roi_align(x, ROIS, 0), "output_size is 0"),
        (lambda x: ps_roi_pool(x, ROIS, 2), "features have 3 channels, but 2 × 2 bins need a multiple of 4"),
        (lambda x: multiscale_roi_align([], [ROIS[:, 1:]], (40, 48), 2), "there are no feature maps"),
        (lambda x: multiscale_roi_align([x, x[:, :2]], 2 * [ROIS[:, 1:]], (40, 48), 2), "level 1 has features"),
    ],
)
def test_mistakes_are_named(call: Callable[[Tensor], Tensor], words: str) -> None:
    with pytest.raises(InputError) as caught:
        call(features())
    assert words in str(caught.value)


def check_reference(reference: Any, key: str, maps: Tensor, function: Callable[[Tensor], Tensor]) -> None:
    maps = maps.clone().requires_grad_()
    result = function(maps)
    (gradient,) = torch.autograd.grad(result, maps, torch.from_numpy(reference[f"{key}/grad_output"]))
    expected = torch.from_numpy(reference[f"{key}/output"])
    known = ~expected.isnan()  # adaptive position-sensitive alignment of an empty region: torchvision divides 0 by 0
    torch.testing.assert_close(result[known], expected[known], atol=1e-5, rtol=1e-5, msg=lambda m: f"{key}: {m}")
    assert not result[~known].any()
    expected_gradient = torch.from_numpy(reference[f"{key}/grad_x"])
    torch.testing.assert_close(gradient, expected_gradient, atol=2e-5, rtol=1e-5, msg=lambda m: f"{key}: {m}")


def test_reference_values(shared: Path) -> None:
    reference = np.load(shared / "parity" / "ops" / "roi_align_pool.npz")
    maps, rois = torch.from_numpy(reference["x"]), torch.from_numpy(reference["rois"])
    for case in json.loads(str(reference["meta"]))["cases"]:
        key, size, scale = case["key"], tuple(case["output_size"]), case["spatial_scale"]
        if key.startswith("roi_pool"):
            check_reference(reference, key, maps, lambda x, s=size, c=scale: roi_pool(x, rois, s, c))
        else:
            ratio, aligned = case["sampling_ratio"], case["aligned"]
            check_reference(
                reference, key, maps, lambda x, s=size, c=scale, r=ratio, a=aligned: roi_align(x, rois, s, c, r, a)
            )


def test_reference_values_position_sensitive(shared: Path) -> None:
    reference = np.load(shared / "parity" / "ops" / "ps_roi.npz")
    rois = torch.from_numpy(reference["rois"])
    for case in json.loads(str(reference["meta"]))["cases"]:
        key, size, scale = case["key"], tuple(case["output_size"]), case["spatial_scale"]
        maps = torch.from_numpy(reference[case["x"]])
        if key.startswith("ps_roi_pool"):
            check_reference(reference, key, maps, lambda x, s=size, c=scale: ps_roi_pool(x, rois, s, c))
        else:
            ratio = case["sampling_ratio"]
            check_reference(reference, key, maps, lambda x, s=size, c=scale, r=ratio: ps_roi_align(x, rois, s, c, r))


def test_reference_values_multiscale(shared: Path) -> None:
    reference = np.load(shared / "parity" / "ops" / "multiscale_roi_align.npz")
    maps = [torch.from_numpy(reference[f"feature_{level}"]) for level in range(4)]
    boxes = [torch.from_numpy(reference[f"boxes{image}"]) for image in range(2)]
    scales = pyramid_scales([feature.shape[-2] for feature in maps], 256)
    assert scales == reference["scales"].tolist()
    assert region_levels(torch.cat(boxes), scales).tolist() == reference["levels"].tolist()
    result = multiscale_roi_align(maps, boxes, (256, 320), 5, 2)
    torch.testing.assert_close(result, torch.from_numpy(reference["output"]), atol=1e-5, rtol=1e-5)
