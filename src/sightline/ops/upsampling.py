"""Ways to make a map larger: by copies, between samples, on nails, back to where maxima were, and by learnt kernels.

The transposed convolution is written three ways that agree: as stamps of the kernel, as the transpose of a
convolution's matrix, and as the framework's own, which is the one for networks. Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning", 2016, chapter 4; Long, Shelhamer, Darrell, "Fully convolutional networks for
semantic segmentation", CVPR 2015, section 3.3 (bilinear start); Zeiler et al., "Adaptive deconvolutional networks for
mid and high level feature learning", ICCV 2011, section 2.1 (unpooling).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.errors import InputError
from sightline.structures import Size

Steps = int | tuple[int, int]
"""One number for rows and columns, or (rows, columns)."""


def upsample_nearest(x: Tensor, factor: Steps = 2) -> Tensor:
    """Each value copied over a block: [..., H, W] → [..., H · f, W · f]."""
    down, across = _pair(factor)
    return x.repeat_interleave(down, -2).repeat_interleave(across, -1)


def upsample_bilinear(x: Tensor, factor: Steps = 2) -> Tensor:
    """[N, C, H, W] → [N, C, H · f, W · f]: each new pixel's centre between the four values around it.

    Pixels are squares whose corners align; beyond the outer centres the nearest value holds.
    """
    down, across = _pair(factor)
    size = (x.shape[-2] * down, x.shape[-1] * across)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def bed_of_nails(x: Tensor, factor: Steps = 2) -> Tensor:
    """Each value at the top left of its block, zeros around it: [..., H, W] → [..., H · f, W · f]."""
    down, across = _pair(factor)
    nails = x.new_zeros(*x.shape[:-2], x.shape[-2] * down, x.shape[-1] * across)
    nails[..., ::down, ::across] = x
    return nails


def max_pool_positions(x: Tensor, kernel: Steps = 2, stride: Steps | None = None) -> tuple[Tensor, Tensor]:
    """Max pooling that remembers where each maximum was.

    Args:
        x: [N, C, H, W].
        kernel: size of the windows.
        stride: from one window to the next, by default the kernel: windows that overlap may share a maximum.

    Returns:
        The maxima [N, C, h, w], and the place of each in its map as row · W + column, int64. Of equals the first.
    """
    return F.max_pool2d(x, kernel, stride, return_indices=True)


def max_unpool(x: Tensor, positions: Tensor, size: Size) -> Tensor:
    """Values put back where the maxima were, zeros elsewhere; values of the same place ADD.

    The framework's own unpooling keeps one of them; the two differ only where windows overlap. Adding is the transpose
    of the pooling: the gradient of `max_pool_positions` by its input.

    Args:
        x: [N, C, h, w].
        positions: of `max_pool_positions`, of the same shape.
        size: (H, W) of the map that was pooled.

    Returns:
        [N, C, H, W].

    Raises:
        InputError: positions of another shape than x, or outside the map.
    """
    if positions.shape != x.shape:
        raise InputError(f"positions have shape {list(positions.shape)}, but the values {list(x.shape)}")
    places = size[0] * size[1]
    flat = x.new_zeros(*x.shape[:-2], places)
    try:
        return flat.scatter_add(-1, positions.flatten(-2), x.flatten(-2)).unflatten(-1, size)
    except RuntimeError as error:  # asking beforehand would cost a pass, and stop an export
        if not positions.numel() or int(positions.max()) < places:
            raise
        raise InputError(
            f"positions go up to {int(positions.max())}, but a map of {list(size)} has {places} places; "
            "give the size of the map that was pooled"
        ) from error


def transposed_size(
    size: Size, kernel: Steps, stride: Steps = 1, padding: Steps = 0, output_padding: Steps = 0
) -> Size:
    """(H, W) that a transposed convolution makes of a map of `size`: stride · (h − 1) + kernel − 2 · padding + extra.

    `output_padding` chooses among the sizes that the convolution would have brought to the same one.
    """
    numbers = zip(size, _pair(kernel), _pair(stride), _pair(padding), _pair(output_padding), strict=True)
    height, width = (s * (n - 1) + k - 2 * p + o for n, k, s, p, o in numbers)
    return height, width


def stamp(x: Tensor, weight: Tensor, stride: Steps = 1, padding: Steps = 0, output_padding: Steps = 0) -> Tensor:
    """Transposed convolution as stamping: every value prints the kernel, scaled by it, and prints add.

    For reading and checking: a loop over all pixels. Networks take `F.conv_transpose2d`, which equals it.

    Args:
        x: [N, C, h, w].
        weight: [C, O, kh, kw].
        stride: from one stamp to the next.
        padding: pixels cut off at each border.
        output_padding: pixels more at the bottom and right.

    Returns:
        [N, O, H, W], see `transposed_size`.
    """
    (down, across), (top, left) = _pair(stride), _pair(padding)
    height, width = transposed_size(
        (x.shape[-2], x.shape[-1]), (weight.shape[-2], weight.shape[-1]), stride, 0, output_padding
    )
    sheet = x.new_zeros(x.shape[0], weight.shape[1], height, width)
    for row in range(x.shape[-2]):
        for column in range(x.shape[-1]):
            y, z = row * down, column * across
            prints = torch.einsum("nc,cokl->nokl", x[:, :, row, column], weight)
            sheet[:, :, y : y + weight.shape[-2], z : z + weight.shape[-1]] += prints
    return sheet[:, :, top : height - top, left : width - left]


def convolution_matrix(weight: Tensor, size: Size, stride: Steps = 1, padding: Steps = 0) -> Tensor:
    """A convolution as a matrix: M times the flattened image is the flattened map.

    Its transpose is the transposed convolution with the SAME kernel: `M.T @ map.flatten()` is an image of `size`. For
    reading and checking: the matrix is almost empty and huge for real images.

    Args:
        weight: [O, C, kh, kw], as in `F.conv2d`.
        size: (H, W) of the image.
        stride, padding: of the convolution.

    Returns:
        [O · h · w, C · H · W].

    Raises:
        InputError: the image is smaller than the kernel.
    """
    out, channels, *kernel = weight.shape
    (down, across), (top, left) = _pair(stride), _pair(padding)
    numbers = zip(size, kernel, _pair(stride), _pair(padding), strict=True)
    height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in numbers)
    if height < 1 or width < 1:
        raise InputError(f"an image of {list(size)} pixels is smaller than the kernel {kernel}; give a larger one")
    matrix = weight.new_zeros(out, height, width, channels, *size)
    for row in range(height):
        for column in range(width):
            for k in range(kernel[0]):
                for n in range(kernel[1]):
                    y, x = row * down - top + k, column * across - left + n
                    if 0 <= y < size[0] and 0 <= x < size[1]:  # what lies outside is zero
                        matrix[:, row, column, :, y, x] = weight[:, :, k, n]
    return matrix.reshape(out * height * width, channels * size[0] * size[1])


def tied_kernel(weight: Tensor) -> Tensor:
    """The kernel of a decoder that learns none of its own: the encoder's, turned by 180°.

    A convolution with it, padded by kernel − 1, is the transposed convolution with the encoder's kernel.

    Args:
        weight: [O, C, kh, kw] of the encoder's convolution.

    Returns:
        [C, O, kh, kw] for `F.conv2d` in the decoder; a view, so that both learn as one.
    """
    return weight.flip(-2, -1).transpose(0, 1)


def bilinear_kernel(channels: int, factor: int) -> Tensor:
    """The weight with which a transposed convolution of stride `factor` interpolates each channel bilinearly.

    Padded by (k − factor) / 2 it equals `upsample_bilinear` except at the border, where zeros lie beyond.

    Args:
        channels: C.
        factor: how many times as large.

    Returns:
        [C, C, k, k] with k = 2 · factor − factor % 2.
    """
    if factor < 1 or channels < 1:
        raise InputError(f"channels is {channels} and factor {factor}, but both must be at least 1")
    side = 2 * factor - factor % 2
    middle = (side - 1) / 2
    line = 1 - (torch.arange(side) - middle).abs() / factor
    return torch.eye(channels)[:, :, None, None] * (line[:, None] * line)


def _pair(value: Steps) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
