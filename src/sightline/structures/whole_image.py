"""Targets that are true of a whole image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from sightline.structures.size import Size


class WholeImage:
    """A target that is true of a whole image, wherever things lie in it: a class, a count, a sentence.

    Augmentations leave it as it is, flips and crops too, and change its `image_size` alone. Subclasses are dataclasses
    with these attributes:

    Attributes:
        image_size: (height, width) of the image in pixels.
        source: the file or item it belongs to, or None.
    """

    image_size: Size
    source: str | None

    def resized(self, size: Size) -> Self:
        """The same for an image of `size`."""
        return self._with(image_size=size)

    def to(self, device: torch.device | str) -> Self:
        """The same with every tensor on `device`."""
        values = vars(self).items()
        return self._with(**{name: value.to(device) for name, value in values if isinstance(value, Tensor)})

    def _with(self, **values: Any) -> Self:
        return replace(self, **values)  # type: ignore[type-var]  # subclasses are dataclasses
