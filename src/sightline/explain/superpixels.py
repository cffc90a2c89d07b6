"""Superpixels: the regions of similar colour that LIME keeps or removes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.runtime.optional import require

COMPACTNESS = (10.0, 100.0, 1000.0)
"""Weights of the distance between pixels against that of their colours. Noise has no connected regions of one colour;
the next weight is used if an image falls into fewer than half of the superpixels."""


def superpixels(inputs: Tensor, count: int) -> Tensor:
    """Divide an image into superpixels by SLIC (Achanta et al. 2012), with scikit-image.

    Args:
        inputs: [1, C, H, W] float, of any range; each channel is scaled to [0, 1].
        count: approximate number of superpixels.

    Returns:
        [H, W] int64: the superpixel of each pixel, 0 … n − 1.

    Raises:
        InputError: scikit-image is not installed.
    """
    require("skimage", "scikit-image", "explain", "lime")
    from skimage.segmentation import slic

    image = inputs[0].detach().float().cpu()
    low, high = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
    scaled = ((image - low) / (high - low).clamp(min=1e-6)).permute(1, 2, 0).numpy()
    lab = len(image) == 3
    for compactness in COMPACTNESS:
        found = slic(scaled, count, compactness, start_label=0, channel_axis=-1, convert2lab=lab)
        if int(found.max()) + 1 >= count / 2:
            break
    _, numbered = np.unique(found, return_inverse=True)
    return torch.from_numpy(numbered.reshape(found.shape).astype(np.int64)).to(inputs.device)
