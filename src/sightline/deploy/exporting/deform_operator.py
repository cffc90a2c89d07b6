"""Deformable convolution as an operator that `torch.export` keeps as one node, and the ONNX operator that it becomes.

The function of the library reads a map in pieces whose number depends on the size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Optional

import torch
from torch import Tensor, nn

from sightline.deploy.exporting.operators import annotated
from sightline.nn.layers.deform import DeformConv2d
from sightline.ops.deform_conv import deform_conv2d


@torch.library.custom_op("sightline::deformed", mutates_args=())
def deformed(
    x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    """A deformable convolution without bias, see `sightline.ops.deform_conv.deform_conv2d`.

    Args:
        x: [N, C, H, W] float.
        offset: [N, D·kh·kw·2, h, w].
        weight: [K, C / groups, kh, kw].
        mask: [N, D·kh·kw, h, w] or None.
        stride, padding, dilation: as in `nn.Conv2d`, the same in both directions.

    Returns:
        [N, K, h, w].
    """
    return deform_conv2d(x, offset, weight, None, stride, padding, dilation, mask)


@deformed.register_fake
def _(
    x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], offset.shape[2], offset.shape[3])


class _Exportable(nn.Module):
    """A `DeformConv2d` whose convolution is one node."""

    def __init__(self, layer: DeformConv2d):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, K, h, w]."""
        own = self.layer
        offset, mask = own.moved(x)
        found: Tensor = deformed(x, offset, own.weight, mask, own.stride, own.padding, own.dilation)
        return found if own.bias is None else found + own.bias[:, None, None]


def exportable(model: nn.Module) -> None:
    """Replace the deformable convolutions of a model, in place, by some that can be exported."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DeformConv2d):
                setattr(parent, name, _Exportable(child))


@cache
def translations() -> dict[Any, Callable[..., Any]]:
    """The ONNX form of the operator of this module, for `torch.onnx.export`."""
    from onnxscript import FLOAT, opset20

    op: Any = opset20

    def deform(
        x: FLOAT,
        offset: FLOAT,
        weight: FLOAT,
        mask: Optional[FLOAT],  # noqa: UP045  (the exporter reads no other form)
        stride: int,
        padding: int,
        dilation: int,
    ) -> FLOAT:
        channels, moved, own = (value.shape[1] for value in (x, offset, weight))  # type: ignore[index]  # all known
        kernel = [int(side) for side in weight.shape[2:]]  # type: ignore[index]
        return op.DeformConv(
            x,
            weight,
            offset,
            None,
            mask,
            kernel_shape=kernel,
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[dilation] * 2,
            group=channels // own,
            offset_group=moved // (2 * kernel[0] * kernel[1]),
        )

    return {torch.ops.sightline.deformed.default: annotated(deform, locals())}
