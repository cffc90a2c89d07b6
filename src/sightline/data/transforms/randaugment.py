"""RandAugment: Cubuk, Zoph, Shlens, Le, "RandAugment: practical automated data augmentation", NeurIPS 2020."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sightline.data.transforms.base import Transform
from sightline.data.transforms.colour import brightened, contrasted, saturated
from sightline.data.transforms.compose import Drawn, Geometric, Photometric, Viewport
from sightline.data.transforms.geometry import about_centre, affine, turn
from sightline.data.transforms.levels import AutoContrast, Equalize, Posterize, Solarize, sharpened
from sightline.data.transforms.tone import Tone
from sightline.errors import InputError
from sightline.structures import Size, camera_of, with_camera

LARGEST = 30.0
"""The largest magnitude that is accepted; the paper's scale ends at 10, but its largest networks use up to 30."""


@dataclass(frozen=True)
class Moved(Geometric):
    """A geometric operation of a fixed amount: "rotate" (degrees), "shear_x", "shear_y", "translate_x", "translate_y".

    Shears are tangents of the angle, translations fractions of the image's width or height.
    """

    kind: str
    amount: float

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        height, width = view.size
        if self.kind == "rotate":
            return turn(view.size, self.amount, expand=False)
        if self.kind == "translate_x":
            return affine(1, 0, round(self.amount * width), 0, 1, 0), view.size
        if self.kind == "translate_y":
            return affine(1, 0, 0, 0, 1, round(self.amount * height)), view.size
        x, y = (self.amount, 0.0) if self.kind == "shear_x" else (0.0, self.amount)
        return about_centre(affine(1, x, 0, y, 1, 0), view.size), view.size


@dataclass(frozen=True)
class Toned(Photometric):
    """A linear change of colour by a fixed factor, such as `brightened`."""

    change: Callable[[Tone, float], Tone]
    factor: float

    def tone(self, tone: Tone, generator: np.random.Generator) -> Tone:
        return self.change(tone, self.factor)


@dataclass(frozen=True)
class Sharpened(Transform):
    """A change of sharpness by a fixed factor."""

    factor: float

    def __call__(self, image: Tensor, target: Any, generator: np.random.Generator) -> tuple[Tensor, Any]:
        return with_camera(sharpened(image, self.factor), camera_of(image)), target


Operation = Callable[[float, float], Transform | None]
"""(strength, sign) → the transform; None for the identity. The strength is 1 at the end of the paper's scale."""

OPERATIONS: dict[str, Operation] = {
    "identity": lambda strength, sign: None,
    "auto_contrast": lambda strength, sign: AutoContrast(),
    "equalize": lambda strength, sign: Equalize(),
    "rotate": lambda strength, sign: Moved("rotate", sign * 30 * strength),
    "solarize": lambda strength, sign: Solarize(max(0.0, 1 - strength) * 256 / 255),
    "colour": lambda strength, sign: Toned(saturated, max(0.0, 1 + sign * 0.9 * strength)),
    "posterize": lambda strength, sign: Posterize(max(1, 8 - round(4 * strength))),
    "contrast": lambda strength, sign: Toned(contrasted, max(0.0, 1 + sign * 0.9 * strength)),
    "brightness": lambda strength, sign: Toned(brightened, max(0.0, 1 + sign * 0.9 * strength)),
    "sharpness": lambda strength, sign: Sharpened(max(0.0, 1 + sign * 0.9 * strength)),
    "shear_x": lambda strength, sign: Moved("shear_x", sign * 0.3 * strength),
    "shear_y": lambda strength, sign: Moved("shear_y", sign * 0.3 * strength),
    "translate_x": lambda strength, sign: Moved("translate_x", sign * 150 / 331 * strength),
    "translate_y": lambda strength, sign: Moved("translate_y", sign * 150 / 331 * strength),
}
"""The paper's 14 operations (section 3), with AutoAugment's ranges (Cubuk et al. 2019, table 6)."""


@dataclass(frozen=True)
class RandAugment(Drawn):
    """`n` of the paper's 14 operations, drawn uniformly for each image, all with the same `magnitude`.

    Inside a `Compose`, geometry is composed with that of the transforms before it, so that the image is resampled once,
    and boxes, masks and keypoints move along.

    Args:
        n: number of operations per image.
        magnitude: strength on the paper's scale: 0 changes nothing, 10 is the end of AutoAugment's ranges (30°, a shear
            of 0.3, a translation by 150/331 of the side, factors 0.1 and 1.9, 4 bits). Larger values go beyond. The
            sign of a rotation, shear, translation or factor is random.

    Source: Cubuk et al., "RandAugment", 2020, section 3 and figure 2. Departures: the geometric operations of an image
    come before those that change its colours; contrast is relative to the mean of every fourth row and column.

    Raises:
        InputError: a number is out of range.
    """

    n: int = 2
    magnitude: float = 5.0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"n is {self.n}, but at least 1 operation is drawn for each image; 2 is usual")
        if not 0 <= self.magnitude <= LARGEST:
            raise InputError(f"magnitude is {self.magnitude}, but must be from 0 to {LARGEST:g}; 5 is moderate")

    def draw(self, generator: np.random.Generator) -> Sequence[Transform]:
        names = list(OPERATIONS)
        chosen: list[Any] = []
        for number in generator.integers(len(names), size=self.n):
            sign = 1.0 if generator.random() < 0.5 else -1.0
            chosen.append(OPERATIONS[names[number]](self.magnitude / 10, sign))
        moves = [operation for operation in chosen if isinstance(operation, Geometric)]
        return [*moves, *(o for o in chosen if o is not None and not isinstance(o, Geometric))]
