"""Convolutions that PyTorch works out wrongly or slowly in bfloat16 on a processor, kept in float32.

With PyTorch 2.13 (oneDNN 3.12) some convolutions in bf16 give results or gradients that are not those of the operation,
as wrong as random numbers or far beyond: kernels above 7 or strides above 2 on processors with AMX (in a transposed
convolution that doubles 5 times, the input's gradient; in one that cuts patches, the result), and, also with AMX
switched off, the weight's gradient of a depthwise convolution with holes, channels last. (Seen on one Intel processor.)
Random trials of other convolutions (kernels up to 7, strides 1 and 2, with holes or groups but not both) agreed with
float32 to half a percent.

Depthwise convolutions are right but slow: channels last, the gradient of one with a stride or a kernel above 3 takes
four to twenty times as long in bf16 as in float32, so that a MobileNet v3 trained slower in bf16 than without
(`benchmarks/half.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

LARGEST_KERNEL, LARGEST_STRIDE, LARGEST_DEPTHWISE_KERNEL = 7, 2, 3


def trusted_in_bf16(
    kernel: Iterable[int],
    stride: Iterable[int],
    dilation: Iterable[int],
    groups: int,
    transposed: bool = False,
    depthwise: bool = False,
) -> bool:
    """Whether a convolution of these numbers can be left to bf16 on a processor: it is right, and not slower."""
    kernel, stride = list(kernel), list(stride)
    if max(kernel) > LARGEST_KERNEL or max(stride) > LARGEST_STRIDE:
        return False
    if depthwise and (max(kernel) > LARGEST_DEPTHWISE_KERNEL or max(stride) > 1):
        return False
    return groups == 1 or (max(dilation) == 1 and not transposed)


class _Guard(TorchFunctionMode):
    """Runs the others without autocast, in float32."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        names = _ARGUMENTS.get(function)
        if names is None or not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        given = {**_USUAL, **dict(zip(names, args, strict=False)), **kwargs}
        stride, dilation = _pair(given["stride"]), _pair(given["dilation"])
        transposed = "output_padding" in names
        groups, shape = given["groups"], given["weight"].shape
        depthwise = groups > 1 and shape[1] == 1
        if trusted_in_bf16(shape[2:], stride, dilation, groups, transposed, depthwise):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(
                *(v.float() if isinstance(v, torch.Tensor) else v for v in args),
                **{k: v.float() if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()},
            )


_USUAL = {"stride": 1, "dilation": 1, "groups": 1}
_ARGUMENTS: dict[Callable[..., Any], tuple[str, ...]] = {
    torch.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    torch.conv_transpose2d: (
        *("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
}


def _pair(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def guarded(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """A context in which a model's forward pass is right: the guard for bf16 on a processor, nothing elsewhere."""
    return _Guard() if precision == "bf16" and device.type == "cpu" else nullcontext()
