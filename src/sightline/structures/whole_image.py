"""Targets that describe a whole image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from sightline.structures.size import Size
from sightline.structures.tabular import Tabular


class WholeImage(Tabular):
    """Base class of targets that describe a whole image, such as a class, a count or a caption.

    Augmentations, including flips and crops, change only `image_size`. Subclasses are dataclasses with these
    attributes:

    Attributes:
        image_size: (height, width) of the image in pixels.
        source: file or item that the target belongs to, or None.
    """

    image_size: Size
    source: str | None

    def resized(self, size: Size) -> Self:
        """The same target for an image of size `size`."""
        return self._with(image_size=size)

    def to(self, device: torch.device | str) -> Self:
        """The same target with every tensor on `device`."""
        values = vars(self).items()
        return self._with(**{name: value.to(device) for name, value in values if isinstance(value, Tensor)})

    def to_columns(self) -> dict[str, list[Any]]:
        """One row: image, and the values that are numbers or texts."""
        values = {name: value for name, value in vars(self).items() if isinstance(value, int | float | str)}
        return {"image": [self.source]} | {name: [value] for name, value in values.items() if name != "source"}

    def _with(self, **values: Any) -> Self:
        return replace(self, **values)  # type: ignore[type-var]  # subclasses are dataclasses
