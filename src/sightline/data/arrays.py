"""Arrays and tensors as images: channels, sample types and ranges."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.data.full_scale import Scale, divisor_of, scale_samples
from sightline.errors import InputError
from sightline.structures import Clip, View, with_camera

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def image_tensor(image: np.ndarray | Tensor, channels: int, name: str, full_scale: Scale = None) -> Tensor:
    """Convert an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W], to a tensor [channels, H, W].

    Args:
        image: uint8, bool, other integers, or float in [0, 1].
        channels: number of channels of the result. For 3, grey is repeated and alpha dropped; for 1, RGB is converted
            to grey; any other number must match.
        name: the name of the image in messages.
        full_scale: value of white for integers other than uint8, as in `read_image`.

    Returns:
        uint8, or float32 in [0, 1], on the same device.

    Raises:
        InputError: its shape, type, values or channels are not those of an image.
    """
    if isinstance(image, Clip):
        frames = image_tensor(image.film(), channels, name, full_scale)
        return Clip.of(frames.unflatten(2, (image.frames, -1)).transpose(1, 2), image.times, image.duration)
    form = "[C, H, W]" if isinstance(image, Tensor) else "[H, W, C]"
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise InputError(f"{name} has the shape {list(image.shape)}, but an image is [H, W] or {form}")
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "buif":
            raise InputError(f"{name} is of type {image.dtype}; give uint8, uint16, or float in [0, 1]")
        image = scale_samples(image, full_scale, name)
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1) if image.ndim == 3 else image))
    if isinstance(image, View):
        return with_camera(image_tensor(image.as_subclass(Tensor), channels, name, full_scale), image.camera)
    tensor = _scaled(image.detach(), name, full_scale)
    tensor = tensor[None] if tensor.ndim == 2 else tensor
    have = tensor.shape[0]
    if have == channels:
        return tensor
    if channels == 3 and have in (1, 2):
        return tensor[:1].expand(3, -1, -1)
    if channels == 3 and have == 4:
        return tensor[:3]
    if channels == 1 and have in (3, 4):
        grey = (tensor[:3] * tensor.new_tensor(_LUMA, dtype=torch.float32)[:, None, None]).sum(0, keepdim=True)
        return grey if tensor.is_floating_point() else grey.round().to(torch.uint8)
    if channels == 1 and have == 2:
        return tensor[:1]
    turned = tensor.shape[2] if form == "[C, H, W]" else tensor.shape[1]
    hint = (
        f"the axes seem to be swapped: give {form}"
        if turned in (1, 3, 4, channels) and have > 4
        else f"give an image of {channels} channels, or use a model with in_channels={have}"
    )
    raise InputError(f"{name} has {have} channels as {form}, but the model takes {channels}; {hint}")


def _scaled(tensor: Tensor, name: str, full_scale: Scale) -> Tensor:
    if tensor.dtype == torch.uint8:
        return tensor
    if tensor.dtype == torch.bool:
        return tensor.to(torch.uint8) * 255
    if tensor.is_floating_point():
        low, high = tensor.min().item(), tensor.max().item()
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise InputError(
                f"{name} has values from {low:g} to {high:g}, but floats must lie in [0, 1]; divide them by their "
                "maximum, or give uint8"
            )
        return tensor.float()
    whole = whole_numbers(tensor)
    low, high = int(whole.min()), int(whole.max())
    scale = divisor_of(low, high, tensor.dtype == torch.uint16, full_scale, name, tensor.dtype)
    return whole.to(torch.uint8) if scale == 255 else whole.float() / scale


def whole_numbers(tensor: Tensor) -> Tensor:
    """Convert integers to a type that torch can compute with; of its unsigned types that is uint8 only."""
    return tensor.to(torch.int64) if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor
