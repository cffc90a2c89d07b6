"""Convolutions on a CPU, together with the activation that follows, by the fastest of the ways that PyTorch offers.

PyTorch decides by its own rules which library computes a convolution. Some of its decisions are slow for networks of
1×1 and depthwise convolutions, such as MobileNets and EfficientNets, and are avoided here. The results are the same.
Under autocast to bf16 they are computed in bf16, so that maps stay in it from one convolution to the next.

- An activation of its own reads and writes the map once more. oneDNN applies it while the values are still in registers
  (`in_one_pass`, `OPERATOR`), with gradients as well if they follow from its output.
- With one thread, 1×1 convolutions of fewer than 16 images are computed by the matrix product of MKL, which on an AMD
  processor of 2024 takes twice as long as oneDNN. A 1×1 convolution does not depend on where pixels lie, so that the
  same memory is described as 16 or more narrow images.
- The gradient of the weights of a depthwise convolution whose kernel is wider than 3 falls back to a general kernel of
  oneDNN, five times as slow per weight. It is computed in blocks of at most 3 columns (`column_blocks`).
- In bf16 the gradient of the map of a strided depthwise convolution takes more than ten times as long as in float32. It
  is computed in float32; all other gradients take about half the time in bf16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NAMES: dict[type[nn.Module], tuple[str, Callable[[Any], list[float]]]] = {
    nn.Identity: ("none", lambda act: []),
    nn.ReLU: ("relu", lambda act: []),
    nn.ReLU6: ("hardtanh", lambda act: [0.0, 6.0]),
    nn.LeakyReLU: ("leaky_relu", lambda act: [act.negative_slope]),
    nn.SiLU: ("swish", lambda act: []),
    nn.Hardswish: ("hardswish", lambda act: []),
}
"""oneDNN's name of an activation, and the function that returns its numbers."""
OPERATOR: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
"""Convolution and activation in one pass; it is not documented and missing in builds without oneDNN."""
_CLIPS: dict[type[nn.Module] | type[None], tuple[float, float]] = {
    nn.ReLU: (0.0, float("inf")),
    nn.ReLU6: (0.0, 6.0),
}
"""Activations whose gradient follows from their output: it passes between these two values."""
BF16 = OPERATOR is not None and bool(getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)())
"""Whether oneDNN computes in bf16 on this processor."""
LARGEST_KERNEL, LARGEST_STRIDE = 7, 2
"""Kernel and stride up to which oneDNN computes convolutions correctly in bf16."""
_MANY = 16
"""Number of images from which PyTorch computes 1×1 convolutions by oneDNN with one thread as well."""
_WIDEST = 3
"""Number of columns of a depthwise kernel up to which oneDNN has a fast gradient of its weights."""


def right_in_bf16(
    kernel: Iterable[int], stride: Iterable[int], dilation: Iterable[int], groups: int, transposed: bool = False
) -> bool:
    """Whether oneDNN computes a convolution with these settings, and its gradients, correctly in bf16."""
    if max(kernel) > LARGEST_KERNEL or max(stride) > LARGEST_STRIDE:
        return False
    return groups == 1 or (max(dilation) == 1 and not transposed)


class Geometry(NamedTuple):
    """How a kernel moves over a map.

    Attributes:
        stride, padding, dilation, groups: as of `F.conv2d`, the first three for both axes.
        leading: rows and columns of zeros before the kernel's own; see `SameConv2d`.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    leading: tuple[int, int] = (0, 0)

    def kernel(self, weight: Tensor) -> Tensor:
        """The kernel with its leading zeros."""
        rows, columns = self.leading
        return F.pad(weight, (columns, 0, rows, 0)) if rows or columns else weight


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, how: Geometry, act: nn.Module | None = None) -> Tensor:
    """Convolution and activation: [N, C, H, W] → [N, C', H', W'].

    Under autocast to bf16 the map is bf16, as of PyTorch's convolutions. The activation is called itself where it is
    not joined to the convolution, for example if it has hooks.
    """
    done = None
    if OPERATOR is not None and not torch.compiler.is_compiling():
        with torch._C.DisableTorchFunction():  # the guard of bf16 would look at each of the calls
            done = _by_one_dnn(x, weight, bias, how, act)
    if done is None:
        done = F.conv2d(x, how.kernel(weight), bias, how.stride, how.padding, how.dilation, how.groups), False
    y, activated = done
    return y if act is None or activated else act(y)


def _by_one_dnn(
    x: Tensor, weight: Tensor, bias: Tensor | None, how: Geometry, act: nn.Module | None
) -> tuple[Tensor, bool] | None:
    """The map, and whether the activation has been applied; None where PyTorch is to compute the convolution."""
    with_gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    dtype = _dtype_of_one_dnn(x, weight, how)
    if dtype is None or (with_gradients and not _is_channels_last(x)):
        return None
    joined = None if act is None or _watched(act) else joined_as(OPERATOR, act)
    x, weight = x.to(dtype), weight.to(dtype)
    if not with_gradients:
        return _operator(x, weight, bias, how, joined), joined is not None
    joined = joined if type(act) in _CLIPS else None
    y = _Convolution.apply(x, weight, bias, how, joined, _CLIPS.get(type(act)))  # type: ignore[no-untyped-call]
    return y, joined is not None


def _operator(
    x: Tensor, weight: Tensor, bias: Tensor | None, how: Geometry, joined: tuple[str, list[float]] | None
) -> Tensor:
    name, numbers = joined or ("none", [])
    arguments = (how.padding, how.stride, how.dilation, how.groups)
    return OPERATOR(x, how.kernel(weight), bias, *arguments, name, numbers, "")


def joined_as(operator: Any, act: nn.Module) -> tuple[str, list[float]] | None:
    """oneDNN's name and numbers of an activation; None where it cannot be computed together with a layer."""
    if operator is None or type(act) not in _NAMES or not torch.backends.mkldnn.is_available():
        return None
    name, numbers = _NAMES[type(act)]
    return name, numbers(act)


def in_one_pass(x: Tensor, weight: Tensor) -> bool:
    """Whether the operator can replace the two modules: float32 on a CPU, without gradients, not while traced."""
    return _computed_by_one_dnn(x, weight) and not (
        torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    )


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _dtype_of_one_dnn(x: Tensor, weight: Tensor, how: Geometry) -> torch.dtype | None:
    """The dtype that `convolve` computes in: bf16 under autocast, otherwise float32; None to leave it to PyTorch."""
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if _computed_by_one_dnn(x, weight) else None
    if torch.get_autocast_dtype("cpu") != torch.bfloat16 or not BF16 or not _on_cpu(x, weight):
        return None
    if not {x.dtype, weight.dtype} <= {torch.float32, torch.bfloat16}:  # autocast leaves float64 as it is
        return None
    kernel = how.kernel(weight).shape[2:]
    return torch.bfloat16 if right_in_bf16(kernel, how.stride, how.dilation, how.groups) else None


def _computed_by_one_dnn(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and _on_cpu(x, weight)


def _on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes with these tensors, and nothing is traced."""
    return (
        x.is_cpu
        and x.numel() > 0
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
    )


def _watched(act: nn.Module) -> bool:
    """Whether a hook reads the input or the output of an activation."""
    return bool(act._forward_hooks or act._forward_pre_hooks or act._backward_hooks or act._backward_pre_hooks)


class _Convolution(torch.autograd.Function):
    """A convolution and an activation of `_CLIPS`, in channels-last format, with gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        how: Geometry,
        joined: tuple[str, list[float]] | None,
        clip: tuple[float, float] | None,
    ) -> Tensor:
        y = _operator(x, weight, bias, how, joined)
        ctx.how, ctx.clip = how, None if joined is None else clip
        ctx.save_for_backward(x, weight, None if ctx.clip is None else y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        how, (x_wanted, weight_wanted, bias_wanted) = ctx.how, ctx.needs_input_grad[:3]
        grad = grad.contiguous(memory_format=torch.channels_last)
        if y is not None:
            grad = torch.ops.aten.hardtanh_backward(grad, y, *ctx.clip)
        of_bias = grad.sum((0, 2, 3), dtype=torch.float32) if bias_wanted else None
        if weight.shape[2:] == (1, 1) and how == Geometry((1, 1), (0, 0), how.dilation, 1):
            flat, narrow = (_narrow_images(t) for t in (x, grad))
            of_x, of_weight = _gradients(narrow, flat, weight, how, x_wanted, weight_wanted)
            return None if of_x is None else _as_the_map(of_x, x), of_weight, of_bias, None, None, None
        blocks = _blocks(x, grad, weight, how) if weight_wanted else None
        if blocks is None:
            of_x, of_weight = _gradients(grad, x, weight, how, x_wanted, weight_wanted)
            return of_x, of_weight, of_bias, None, None, None
        of_x, _ = _gradients(grad, x, weight, how, x_wanted, False)
        return of_x, _in_blocks(grad, x, weight, how, blocks), of_bias, None, None, None


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, how: Geometry, x_wanted: bool, weight_wanted: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a map and of a kernel, as PyTorch computes them; see the module for bf16."""
    if not (x_wanted or weight_wanted):
        return None, None
    if x_wanted and grad.dtype == torch.bfloat16 and how.groups > 1 and max(how.stride) > 1:
        unread = torch.empty_like(x, dtype=torch.float32)  # only its shape matters
        of_x, _ = _gradients(grad.float(), unread, weight.float(), how, True, False)
        _, of_weight = _gradients(grad, x, weight, how, False, weight_wanted)
        return None if of_x is None else of_x.to(grad.dtype), of_weight
    stride, padding, dilation, groups, (rows, columns) = how
    arguments = (stride, padding, dilation, False, [0, 0], groups)
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, how.kernel(weight), None, *arguments, [x_wanted, weight_wanted, False]
    )
    return of_x, None if of_weight is None else of_weight[..., rows:, columns:]


def _narrow_images(x: Tensor) -> Tensor:
    """The pixels of maps [N, C, H, W] as at least 16 images of one row, if they can be divided: the same memory."""
    n, c, h, w = x.shape
    pixels = n * h * w
    count = next((k for k in range(_MANY, 2 * _MANY) if pixels % k == 0), n * h)
    return x.permute(0, 2, 3, 1).reshape(count, 1, pixels // count, c).permute(0, 3, 1, 2)


def _as_the_map(narrow: Tensor, x: Tensor) -> Tensor:
    """The reverse of `_narrow_images`, for as many channels as `narrow` has and the size of `x`."""
    n, _, h, w = x.shape
    return narrow.permute(0, 2, 3, 1).reshape(n, h, w, -1).permute(0, 3, 1, 2)


class Block(NamedTuple):
    """Some columns of a depthwise kernel, computed as the gradient of a kernel of at most 3 columns.

    Attributes:
        width: number of columns of the small kernel.
        padding: its padding left and right, in columns of the map.
        shift: by how many columns the gradient of the output is moved to the right.
        size: number of columns of the moved gradient.
        taps: for each column of the large kernel that is taken, its place in the small one.
    """

    width: int
    padding: int
    shift: int
    size: int
    taps: dict[int, int]


@lru_cache(maxsize=256)
def column_blocks(kernel: int, first: int, stride: int, padding: int, size: int, out: int) -> tuple[Block, ...] | None:
    """Blocks that together give the gradient of the columns `first` … `kernel` − 1 of a depthwise kernel.

    Column j of the kernel reads column `stride`·w + j − `padding` of the map for column w of the output. A small kernel
    with padding P, applied to outputs moved by q columns, reads the same for its column j − `stride`·q + P − `padding`.
    Outputs that the move pushes over an end are lost; a column is right if those read nothing but padding.

    Args:
        kernel, stride, padding: of the large kernel, along the rows.
        first: its first column that is needed.
        size, out: number of columns of the map and of the output.

    Returns:
        The blocks, each with the columns to take from it; None if some column is in none.
    """
    found: list[tuple[int, Block]] = []
    for width in (1, 2, _WIDEST) if stride == 1 else (2, _WIDEST):  # with a stride, oneDNN is slow for one column
        for pad in range(width // 2 + 1):
            columns = (size + 2 * pad - width) // stride + 1
            for shift in range(max(-kernel, 1 - out), min(kernel + 1, columns)):
                lost = [w for w in range(out) if not 0 <= w + shift < columns]
                start = stride * shift + padding - pad
                taps = {
                    j: j - start
                    for j in range(max(first, start), min(kernel, start + width))
                    if not any(0 <= stride * w + j - padding < size for w in lost)
                }
                cost = width + (shift != 0 or columns != out)  # what is moved is copied
                found.append((cost, Block(width, pad, shift, columns, taps)))
    missing, taken = set(range(first, kernel)), []
    while missing:
        _, best = max(found, key=lambda row: (len(missing & set(row[1].taps)), -row[0]))
        if not missing & set(best.taps):
            return None
        taken.append(best._replace(taps={j: at for j, at in best.taps.items() if j in missing}))
        missing -= set(best.taps)
    return tuple(taken)


def _blocks(x: Tensor, grad: Tensor, weight: Tensor, how: Geometry) -> tuple[Block, ...] | None:
    """The blocks for the gradient of a depthwise kernel; None where PyTorch's own is as fast, or for other kernels."""
    rows, columns = how.leading
    height, width = weight.shape[2] + rows, weight.shape[3] + columns
    depthwise = how.groups == x.shape[1] == weight.shape[0]
    if not depthwise or width <= _WIDEST or how.padding[0] > height // 2 or set(how.dilation) != {1}:
        return None
    if how.stride[0] != how.stride[1]:
        return None
    return column_blocks(width, columns, how.stride[1], how.padding[1], x.shape[3], grad.shape[3])


def _in_blocks(grad: Tensor, x: Tensor, weight: Tensor, how: Geometry, blocks: tuple[Block, ...]) -> Tensor:
    """The gradient of a depthwise kernel, block by block."""
    rows, columns = how.leading
    found = torch.empty_like(weight, memory_format=torch.contiguous_format)
    for width, padding, shift, size, taps in blocks:
        moved = F.pad(grad, (shift, size - grad.shape[3] - shift))  # negative: cropped
        small = x.new_empty(len(weight), 1, weight.shape[2] + rows, width)
        own = how._replace(padding=(how.padding[0], padding), leading=(0, 0))
        _, part = _gradients(moved, x, small, own, False, True)
        assert part is not None
        for tap, place in taps.items():
            found[..., tap - columns] = part[:, :, rows:, place]
    return found
