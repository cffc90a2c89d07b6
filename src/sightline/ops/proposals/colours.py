"""The colour spaces of selective search (Uijlings et al. 2013, section 3.2.1), each scaled to [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError


def as_rgb(image: Tensor) -> np.ndarray:
    """Image [C, H, W], uint8 or float in [0, 1] → float32 [H, W, 3] in [0, 1].

    One channel, or two, are seen as grey; of more than three the first three are red, green and blue.
    """
    if image.ndim != 3 or 0 in image.shape:
        raise InputError(f"the image has shape {list(image.shape)}, but proposals need [channels, height, width]")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise InputError(f"the image is of {image.dtype}, but must be uint8, or floating point in [0, 1]")
    pixels = image.detach().cpu()
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float().nan_to_num(0, 1, 0).clamp(0, 1)
    pixels = pixels[:3] if len(pixels) >= 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def in_space(rgb: np.ndarray, space: str) -> np.ndarray:
    """float32 [H, W, 3] in [0, 1] → float32 [H, W, c] in [0, 1], in the colour space of that name.

    "rgb"; "hsv"; "lab" (L, a, b on the scale 8-bit images use); "rgi" (normalised red and green, intensity); "hue";
    "grey" (intensity).
    """
    if space not in _SPACES:
        raise InputError(f"there is no colour space {space!r}; there are {', '.join(_SPACES)}")
    return np.ascontiguousarray(_SPACES[space](rgb), dtype=np.float32)


def _hsv(rgb: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2hsv

    return rgb2hsv(rgb)


def _lab(rgb: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2lab

    lab = rgb2lab(rgb)
    return np.clip((lab + np.array([0, 128, 128], np.float32)) / np.array([100, 255, 255], np.float32), 0, 1)


def _rgi(rgb: np.ndarray) -> np.ndarray:
    total = rgb.sum(2)
    share = rgb[..., :2] / np.maximum(total, 1 / 255)[..., None]
    return np.dstack([share, total / 3])


def _grey(rgb: np.ndarray) -> np.ndarray:
    return rgb.mean(2, keepdims=True)


_SPACES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rgb": lambda rgb: rgb,
    "hsv": _hsv,
    "lab": _lab,
    "rgi": _rgi,
    "hue": lambda rgb: _hsv(rgb)[..., :1],
    "grey": _grey,
}
