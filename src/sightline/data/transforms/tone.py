"""Linear colour changes, composed first and applied to the pixels in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.pillow import rgb_image, rgb_tensor


@dataclass
class Tone:
    """A linear colour change, composed step by step: new = `gain` @ old + `offset`, in units of full scale.

    Attributes:
        gain: [C, C] float64.
        offset: [C] float64.
        source_mean: [C] mean of the source image in [0, 1].
    """

    gain: np.ndarray
    offset: np.ndarray
    source_mean: np.ndarray

    @property
    def channels(self) -> int:
        return len(self.offset)

    @property
    def mean(self) -> np.ndarray:
        """[C] mean colour of the changed image (before clipping)."""
        return self.gain @ self.source_mean + self.offset

    def then(self, gain: np.ndarray | float, offset: np.ndarray | float = 0.0) -> Tone:
        """This change followed by another one; a number is a gain for all channels."""
        matrix = gain * np.eye(self.channels) if np.ndim(gain) == 0 else np.asarray(gain)
        return Tone(matrix @ self.gain, matrix @ self.offset + offset, self.source_mean)


def mean_colour(image: Tensor) -> np.ndarray:
    """[C] float64 mean of an image [C, H, W] in units of full scale, from every fourth row and column."""
    mean = image[:, ::4, ::4].float().mean((1, 2)).double().numpy()
    return mean / 255 if image.dtype == torch.uint8 else mean


def apply_tone(image: Tensor, tone: Tone) -> Tensor:
    """`tone` applied to an image [C, H, W] uint8 or float, clipped to its range; dtype and shape do not change."""
    gain, offset = tone.gain, tone.offset
    channels = len(offset)
    if np.array_equal(gain, np.eye(channels)) and not offset.any():
        return image
    if image.dtype != torch.uint8:
        flat = torch.from_numpy(gain).float() @ image.float().flatten(1) + torch.from_numpy(offset).float()[:, None]
        return flat.clamp_(0, 1).view(image.shape).to(image.dtype)
    if channels == 3:
        rows = np.concatenate([gain, 255 * offset[:, None]], axis=1).flatten().tolist()
        return rgb_tensor(rgb_image(image).convert("RGB", tuple(rows)))
    if np.array_equal(gain, np.diag(np.diagonal(gain))):
        table = np.diagonal(gain)[:, None] * np.arange(256) + 255 * offset[:, None]
        table = np.rint(table).clip(0, 255).astype(np.uint8)
        return torch.from_numpy(np.stack([row[plane.numpy()] for row, plane in zip(table, image, strict=True)]))
    flat = torch.from_numpy(gain).float() @ image.float().flatten(1) + 255 * torch.from_numpy(offset).float()[:, None]
    return to_dtype(flat, torch.uint8).view(image.shape)


def to_dtype(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Float values rounded if necessary, clipped to the range of `dtype`, and converted to it."""
    if dtype == torch.uint8:
        return values.round_().clamp_(0, 255).to(torch.uint8)
    return values.clamp_(0, 1).to(dtype)
