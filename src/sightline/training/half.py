"""Keep in float32 those convolutions that PyTorch computes incorrectly or slowly in bfloat16 on a CPU.

With PyTorch 2.13 (oneDNN 3.12) some bf16 convolutions return wrong results or gradients, with errors as large as the
values or far larger. On CPUs with AMX these are kernels above 7 and strides above 2 (for a transposed convolution that
upsamples by 5, the gradient of the input; for one that embeds patches, the result). With AMX disabled too, the weight
gradient of a dilated depthwise convolution in channels-last format is wrong. (Observed on one Intel CPU.) Random trials
of other convolutions (kernels up to 7, strides 1 and 2, dilation or groups but not both) agreed with float32 to 0.5 %.

Depthwise convolutions are correct but slow: in channels-last format, the gradient of one with a stride or a kernel
above 3 takes four to twenty times as long in bf16 as in float32. A MobileNet v3 therefore trained slower in bf16 than
in float32 (`benchmarks/half.py`). The convolutions of `sightline.nn.layers.conv` are computed by another function,
which avoids the slow gradients (`nn/layers/convolution.py`) and leaves to PyTorch, and to this guard, what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from sightline.nn.layers.convolution import right_in_bf16

LARGEST_DEPTHWISE_KERNEL = 3


def trusted_in_bf16(
    kernel: Iterable[int],
    stride: Iterable[int],
    dilation: Iterable[int],
    groups: int,
    transposed: bool = False,
    depthwise: bool = False,
) -> bool:
    """Whether a convolution with these settings can run in bf16 on a CPU: it is correct and not slower."""
    kernel, stride = list(kernel), list(stride)
    if depthwise and (max(kernel) > LARGEST_DEPTHWISE_KERNEL or max(stride) > 1):
        return False
    return right_in_bf16(kernel, stride, dilation, groups, transposed)


def has_bf16() -> bool:
    """Whether this processor has AVX-512's instructions for bf16; one with AMX has them too."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


class _Guard(TorchFunctionMode):
    """Runs the other convolutions in float32, without autocast."""

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
    """A context for a model's forward pass: the guard for bf16 on a CPU, nothing otherwise."""
    return _Guard() if precision == "bf16" and device.type == "cpu" else nullcontext()
