"""Transforms that change colour. Linear ones are composed into one channel matrix and applied in one pass.

Values are fractions of full scale: uint8 counts as 0 … 1. Transforms that need red, green and blue (saturation, hue)
leave images with another number of channels unchanged. Each transform draws its strength uniformly from
(1 − amount, 1 + amount), or from (−amount, amount) for hue, and is applied with probability `p`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.data.transforms.base import Transform
from sightline.data.transforms.compose import Photometric
from sightline.data.transforms.tone import Tone, to_dtype
from sightline.errors import InputError
from sightline.structures import camera_of, with_camera

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in the Y of YIQ
# NTSC 1953 as in Python's colorsys: grey, orange–blue and purple–green axes.
_TO_YIQ = np.array([[0.30, 0.59, 0.11], [0.599, -0.2773, -0.3217], [0.213, -0.5251, 0.3121]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Brightness(Photometric):
    """Multiply all channels by a factor from (1 − amount, 1 + amount)."""

    amount: float = 0.2
    p: float = 1.0

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        return brightened(tone, _factor(self.amount, self.p, generator))


@dataclass(frozen=True)
class Contrast(Photometric):
    """Scale the difference to the image's mean grey by a factor from (1 − amount, 1 + amount).

    For images without three channels, each channel has its own mean.
    """

    amount: float = 0.2
    p: float = 1.0

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        return contrasted(tone, _factor(self.amount, self.p, generator))


@dataclass(frozen=True)
class Saturation(Photometric):
    """Scale the difference to grey by a factor from (1 − amount, 1 + amount), keeping the luma."""

    amount: float = 0.3
    p: float = 1.0

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        return saturated(tone, _factor(self.amount, self.p, generator))


@dataclass(frozen=True)
class Hue(Photometric):
    """Rotate the hue by up to ±`amount` of a full turn, in YIQ: a rotation of the colour plane that keeps the luma."""

    amount: float = 0.03
    p: float = 1.0

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        angle = 2 * math.pi * (_factor(self.amount, self.p, generator) - 1)
        if angle == 0 or tone.channels != 3:
            return tone
        cosine, sine = math.cos(angle), math.sin(angle)
        return tone.then(_FROM_YIQ @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ _TO_YIQ)


@dataclass(frozen=True)
class ChannelNoise(Photometric):
    """Multiply each channel by a separate factor from (1 − amount, 1 + amount): other light, another sensor."""

    amount: float = 0.1
    p: float = 1.0

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        if generator.random() >= self.p:
            return tone
        return tone.then(np.diag(generator.uniform(1 - self.amount, 1 + self.amount, size=tone.channels)))


@dataclass(frozen=True)
class Colour(Photometric):
    """Brightness, contrast, saturation and hue together, each as in its own transform; with probability `p`.

    The four commute except for clipping (each maps grey to grey). Nothing is clipped before the end, so their order
    does not matter.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 0.02
    p: float = 0.8

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        if generator.random() >= self.p:
            return tone
        for piece in (Brightness(self.brightness), Contrast(self.contrast), Saturation(self.saturation), Hue(self.hue)):
            tone = piece.tone(tone, generator)
        return tone


@dataclass(frozen=True)
class HSV(Transform):
    """Rotate the hue and scale saturation and value in HSV, as in the recipes of SSD and YOLO; RGB images only.

    It is not linear, so it needs a separate pass and is slower than `Colour`.

    Args:
        hue: maximum rotation in either direction, as a fraction of a full turn.
        saturation, value: factors are drawn from (1 − x, 1 + x).
        p: probability.
    """

    hue: float = 0.015
    saturation: float = 0.5
    value: float = 0.4
    p: float = 1.0

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p or image.shape[0] != 3:
            return image, target
        hue = _factor(self.hue, 1, generator) - 1
        saturation = _factor(self.saturation, 1, generator)
        value = _factor(self.value, 1, generator)
        return with_camera(shift_hsv(image, hue, saturation, value), camera_of(image)), target


@dataclass(frozen=True)
class PixelNoise(Transform):
    """Gaussian noise with a standard deviation of up to `amount` on every value of every channel."""

    amount: float = 0.03
    p: float = 0.5

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        if generator.random() >= self.p:
            return image, target
        deviation = generator.uniform(0, self.amount) * (255 if image.dtype == torch.uint8 else 1)
        # torch draws normal numbers several times faster than NumPy.
        source = torch.Generator().manual_seed(int(generator.integers(2**63)))
        noisy = torch.empty(image.shape, dtype=torch.float32).normal_(0, deviation, generator=source).add_(image)
        return with_camera(to_dtype(noisy, image.dtype), camera_of(image)), target


def brightened(tone: Tone, factor: float) -> Tone:
    """`tone` followed by a multiplication of all channels by `factor`."""
    return tone if factor == 1 else tone.then(factor)


def contrasted(tone: Tone, factor: float) -> Tone:
    """`tone` followed by a scaling of the difference to the image's mean grey (of other channels, to their means)."""
    if factor == 1:
        return tone
    mean = _LUMA @ tone.mean if tone.channels == 3 else tone.mean
    return tone.then(factor, (1 - factor) * mean)


def saturated(tone: Tone, factor: float) -> Tone:
    """`tone` followed by a scaling of the difference to grey; images without three channels do not change."""
    if factor == 1 or tone.channels != 3:
        return tone
    return tone.then(factor * np.eye(3) + (1 - factor) * _LUMA)


def shift_hsv(image: Tensor, hue: float, saturation: float, value: float) -> Tensor:
    """Rotate the hue of an RGB image [3, H, W] by `hue` full turns; scale and clip saturation and value.

    There is no conversion to HSV and back: rotating the hue samples, for each channel, a hexagonal wave between the
    pixel's largest and smallest value.
    """
    scale = 255.0 if image.dtype == torch.uint8 else 1.0
    rgb = image.to(torch.float32) / scale
    red, green, blue = rgb
    top, low = rgb.amax(0), rgb.amin(0)
    spread = top - low
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    # Hue in sixths of a turn (Smith, "Color Gamut Transform Pairs", 1978).
    sixths = torch.where(
        top == red, (green - blue) / safe, torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    new_top = (top * value).clamp_(max=1)
    new_spread = new_top * (spread / top.clamp(min=1e-8) * saturation).clamp_(max=1)
    phases = torch.tensor([5.0, 3.0, 1.0])[:, None, None] + 6 * hue
    wave = (sixths + phases).remainder_(6)
    wave = torch.minimum(wave, 4 - wave).clamp_(0, 1)
    return to_dtype((new_top - new_spread * wave) * scale, image.dtype)


def _factor(amount: float, p: float, generator: np.random.Generator) -> float:
    """1 with probability 1 − p, else uniform in (1 − amount, 1 + amount)."""
    if amount < 0:
        raise InputError(f"amount is {amount}, but must not be negative")
    return generator.uniform(1 - amount, 1 + amount) if generator.random() < p else 1.0
