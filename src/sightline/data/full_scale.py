"""The full scale of integer samples: the value of white, such as 4095 for a 12-bit camera.

A 16-bit file does not say how many bits its camera used. Dividing 12-bit data by 65535 makes images black, and dividing
each image by its maximum makes images incomparable. The scale is therefore determined once per dataset: the smallest of
255, 1023, 4095, 16383 and 65535 that is not below any sample of its images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from sightline.errors import InputError

LADDER = (255, 1023, 4095, 16383, 65535)
"""The largest values of 8, 10, 12, 14 and 16 bits."""
SAMPLED = 200
"""The maximum number of images that are read to determine the full scale of a dataset."""

Scale = int | Callable[[], int | None] | None
"""A full scale, or a function that returns it (called only for samples that need one), or None if it is unknown."""

_lock = Lock()


class FullScale:
    """The full scale of a set of images: given, or determined at the first image that needs it.

    All views of a dataset share one, so that training and validation images are scaled alike.

    Attributes:
        stated: the given value, or None.
        highest: the largest value in the sampled images; None before it is determined, and if all images have 8 bits.
    """

    def __init__(self, stated: int | None = None):
        self.stated = None if stated is None else validated(stated)
        self.highest: int | None = None
        self._looked = False

    @property
    def found(self) -> int | None:
        """The scale determined so far; None before that, and if no image needs one."""
        return None if self.highest is None else usual_full_scale(self.highest)

    def value(
        self, highest: Callable[[], Iterable[int | None]], on_found: Callable[[int, int], None] | None = None
    ) -> int | None:
        """The full scale; it is determined now if it is not known yet.

        Args:
            highest: returns the largest value of each sampled image; None for an 8-bit or unreadable image.
            said: called once, with the largest value and the scale, when the scale is determined.
        """
        if self.stated is not None:
            return self.stated
        with _lock:
            if not self._looked:
                self.highest = max((value for value in highest() if value is not None), default=None)
                self._looked = True
                if on_found is not None and self.highest is not None:
                    on_found(self.highest, usual_full_scale(self.highest))
        return self.found


def validated(full_scale: Any) -> int:
    """Validate a given full scale.

    Raises:
        InputError: it is not an integer from 1 to 65535.
    """
    if isinstance(full_scale, bool) or not isinstance(full_scale, int | np.integer) or not 1 <= full_scale <= 65535:
        raise InputError(
            f"full_scale is {full_scale!r}, but must be the sample value of white, a whole number from 1 to 65535, "
            "such as 4095 for 12 bits"
        )
    return int(full_scale)


def usual_full_scale(highest: int) -> int:
    """The smallest usual full scale that is at least `highest`; the largest one for values above 65535."""
    return next((scale for scale in LADDER if scale >= highest), LADDER[-1])


def evenly_spaced(items: Sequence[Any]) -> list[Any]:
    """At most `SAMPLED` of `items`, evenly spaced."""
    if len(items) <= SAMPLED:
        return [*items]
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, SAMPLED).round()]


def scale_together(arrays: Mapping[str, np.ndarray], full_scale: int | None) -> list[np.ndarray]:
    """Divide arrays (by name) by one full scale: the given one, or the one determined from all of them."""
    scale = FullScale(full_scale).value(lambda: (max_sample_of(picture) for picture in arrays.values()))
    return [scale_samples(picture, scale, name) for name, picture in arrays.items()]


def max_sample_of(array: np.ndarray) -> int | None:
    """The largest sample, if samples are integers that need a full scale; None otherwise."""
    wide = array.dtype.kind in "ui" and array.dtype != np.uint8
    return int(array.max()) if wide and array.size else None


def scale_samples(array: np.ndarray, full_scale: Scale, what: str) -> np.ndarray:
    """Convert samples to uint8, or to floats in [0, 1].

    Args:
        array: bool, integers, or floats in [0, 1], of any shape.
        full_scale: full scale of integers other than uint8. Without one, uint16 is divided by 65535, and other types
            raise an error.
        what: the file or image, for messages.

    Returns:
        uint8 if the samples are bool or uint8, or have a full scale of 255; else float32 (floats keep their type).

    Raises:
        InputError: values are out of range, or the range is unknown.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "ui":
        low, high = int(array.min()), int(array.max())
        scale = divisor_of(
            low, high, array.dtype.kind + str(array.dtype.itemsize) == "u2", full_scale, what, array.dtype
        )
        return array.astype(np.uint8) if scale == 255 else array.astype(np.float32) * np.float32(1 / scale)
    if array.dtype.kind == "f":
        low_f, high_f = float(array.min()), float(array.max())
        if low_f != low_f:
            raise InputError(f"{what} has samples that are NaN; replace them, by 0 or by the values around them")
        if not (low_f >= 0 and high_f <= 1):
            raise InputError(
                f"{what} has float samples from {low_f:g} to {high_f:g}, but they must lie in [0, 1]; "
                "divide them by their range"
            )
        return array
    raise InputError(f"{what} has samples of type {array.dtype}, but an image must have integer or float samples")


def divisor_of(low: int, high: int, unsigned16: bool, full_scale: Scale, what: str, dtype: object) -> int:
    """The divisor for integers from `low` to `high`; see `scale_samples`."""
    if low < 0 or high > 65535:
        raise InputError(
            f"{what} has whole numbers from {low} to {high}, but samples must fit 8 or 16 bits (0 to 65535); "
            "scale them, or save them as floats in [0, 1]"
        )
    scale = full_scale() if callable(full_scale) else full_scale
    if scale is None and not unsigned16:
        raise InputError(
            f"{what} has samples of type {dtype}, whose range is unknown; give full_scale, the value of white "
            "(255 for 8 bits, 4095 for 12), or save it as uint8 or uint16"
        )
    scale = 65535 if scale is None else validated(scale)
    if high > scale:
        raise InputError(
            f"{what} has samples of up to {high}, but the full scale of these images is {scale} (given, or found in a "
            f"sample of them); set --full-scale {usual_full_scale(high)} (in Python full_scale=) if that is their range"
        )
    return scale
