"""Up-sampling: worked examples, the framework's own layers, and one way against another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.ops.upsampling import (
    bed_of_nails,
    bilinear_kernel,
    convolution_matrix,
    max_pool_positions,
    max_unpool,
    stamp,
    tied_kernel,
    transposed_size,
    upsample_bilinear,
    upsample_nearest,
)


def maps(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def test_nearest_and_nails() -> None:
    x = maps([[1, 2], [3, 4]])
    assert upsample_nearest(x)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert bed_of_nails(x)[0, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    assert upsample_nearest(x, (1, 3)).shape == bed_of_nails(x, (1, 3)).shape == (1, 1, 2, 6)


def test_bilinear_between_two_values() -> None:
    # centres of the four new pixels at -0.25, 0.25, 0.75, 1.25 of the old ones
    assert upsample_bilinear(maps([[0, 4]]))[0, 0].tolist() == [[0, 1, 3, 4]] * 2


def test_unpooling_adds_where_windows_share_a_maximum() -> None:
    x = maps([[120, 150, 120], [100, 50, 110], [25, 25, 10]])
    pooled, places = max_pool_positions(x, 2, 1)
    assert pooled[0, 0].tolist() == [[150, 150], [100, 110]]
    assert [divmod(place, 3) for place in places.flatten().tolist()] == [(0, 1), (0, 1), (1, 0), (1, 2)]
    back = max_unpool(maps([[300, 450], [100, 250]]), places, (3, 3))
    assert back[0, 0].tolist() == [[0, 750, 0], [100, 0, 250], [0, 0, 0]]


def test_unpooling_is_the_gradient_of_pooling_and_the_framework_s_without_overlap() -> None:
    x = torch.rand(2, 3, 7, 6, requires_grad=True)
    pooled, places = max_pool_positions(x, 3, 2)
    values = torch.rand_like(pooled)
    (gradient,) = torch.autograd.grad(pooled, x, values)
    torch.testing.assert_close(max_unpool(values, places, (7, 6)), gradient)
    pooled, places = max_pool_positions(x, 2)
    wanted = F.max_unpool2d(pooled, places, 2, output_size=(7, 6))
    torch.testing.assert_close(max_unpool(pooled, places, (7, 6)), wanted)


def test_unpooling_refuses_positions_of_another_map() -> None:
    pooled, places = max_pool_positions(torch.rand(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"a map of \[4, 4\] has 16 places"):
        max_unpool(pooled, places + 16, (4, 4))
    with pytest.raises(InputError, match=r"positions have shape \[1, 1, 4, 4\], but the values \[1, 1, 2, 4\]"):
        max_unpool(pooled[:, :, :2], places, (8, 8))


def test_the_worked_transposed_convolution_in_three_ways() -> None:
    x, weight = maps([[2, 1], [4, 4]]), maps([[1, 4, 1], [1, 4, 3], [3, 3, 1]])
    wanted = [[2, 9, 6, 1], [6, 29, 30, 7], [10, 29, 33, 13], [12, 24, 16, 4]]
    matrix = convolution_matrix(weight, (4, 4))
    assert matrix.shape == (4, 16)
    assert stamp(x, weight)[0, 0].tolist() == wanted
    assert (matrix.T @ x.flatten()).reshape(4, 4).tolist() == wanted
    assert F.conv_transpose2d(x, weight)[0, 0].tolist() == wanted


def test_two_stamps() -> None:
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0] = torch.tensor([120.0, 150.0])
    sheet = stamp(x, maps([[1, -1], [2, -2]]))
    assert sheet[0, 0, :2].tolist() == [[120, 30, -150], [240, 60, -300]]
    # on a 4×4 output the last column stays empty
    sheet = stamp(F.pad(x, (0, 1, 0, 1)), maps([[1, -1], [2, -2]]))
    assert sheet[0, 0].tolist() == [[120, 30, -150, 0], [240, 60, -300, 0], [0] * 4, [0] * 4]


def test_sizes() -> None:
    assert transposed_size((1, 2), (1, 3), (1, 2)) == (1, 5)
    assert stamp(torch.rand(1, 1, 1, 2), torch.rand(1, 1, 1, 3), (1, 2)).shape[-2:] == (1, 5)
    assert transposed_size((2, 2), 3, 2, 1, 1) == (4, 4)


@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (2, 1, 1), ((2, 3), (0, 1), 0)])
def test_transposed_convolutions_agree(
    stride: int | tuple[int, int], padding: int | tuple[int, int], extra: int
) -> None:
    x, weight = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.rand(3, 2, 3, 4, dtype=torch.float64)
    wanted = F.conv_transpose2d(x, weight, None, stride, padding, extra)
    torch.testing.assert_close(stamp(x, weight, stride, padding, extra), wanted)
    assert wanted.shape[-2:] == transposed_size((4, 5), (3, 4), stride, padding, extra)
    size = (wanted.shape[-2], wanted.shape[-1])
    matrix = convolution_matrix(weight, size, stride, padding)
    torch.testing.assert_close((x.flatten(1) @ matrix).reshape_as(wanted), wanted)
    back = F.conv2d(wanted, weight, None, stride, padding)
    torch.testing.assert_close((wanted.flatten(1) @ matrix.T).reshape_as(back), back)


def test_a_tied_kernel_is_the_encoder_s_turned() -> None:
    weight = torch.rand(4, 3, 3, 3)
    assert torch.equal(tied_kernel(weight)[1, 2], torch.rot90(weight[2, 1], 2))
    x = torch.rand(1, 4, 5, 6)
    torch.testing.assert_close(F.conv2d(x, tied_kernel(weight), padding=2), F.conv_transpose2d(x, weight))


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_the_bilinear_start_interpolates(factor: int) -> None:
    x, weight = torch.rand(1, 2, 5, 6), bilinear_kernel(2, factor)
    side = weight.shape[-1]
    assert side == {2: 4, 3: 5, 8: 16}[factor]
    found = F.conv_transpose2d(x, weight, stride=factor, padding=(side - factor) // 2)
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(found[inner], upsample_bilinear(x, factor)[inner])


def test_the_known_kernel_of_factor_two() -> None:
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(bilinear_kernel(1, 2)[0, 0], line[:, None] * line)
