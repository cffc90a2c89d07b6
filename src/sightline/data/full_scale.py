"""The full scale of whole-number samples: the value that stands for white, such as 4095 for a camera of 12 bits.

A file of 16 bits a sample does not say how many of them its camera used. Dividing 12-bit data by 65535 makes images
black, and dividing each image by its own maximum makes them incomparable, so the scale is found once for a whole set:
the smallest of 255, 1023, 4095, 16383 and 65535 that holds every value of a sample of its images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from sightline.errors import InputError

LADDER = (255, 1023, 4095, 16383, 65535)
"""Largest values of 8, 10, 12, 14 and 16 bits."""
SAMPLED = 200
"""Images that are looked at to find the full scale of a set, at most."""

Scale = int | Callable[[], int | None] | None
"""A full scale, or a function that gives it (called only for samples that need one), or None where it is not known."""

_lock = Lock()


class FullScale:
    """The full scale of a set of images: as stated, or found at the first image that needs it.

    All views of a dataset share one, so that training and validation images are scaled alike.

    Attributes:
        stated: what the caller said, or None.
        highest: the largest value found in the sampled images; None where none has more than 8 bits, and before.
    """

    def __init__(self, stated: int | None = None):
        self.stated = None if stated is None else checked(stated)
        self.highest: int | None = None
        self._looked = False

    @property
    def found(self) -> int | None:
        """The scale found so far; None before, and where no image needs one."""
        return None if self.highest is None else at_least(self.highest)

    def value(
        self, highest: Callable[[], Iterable[int | None]], said: Callable[[int, int], None] | None = None
    ) -> int | None:
        """The full scale, found now if it is not known yet.

        Args:
            highest: gives the largest value of each sampled image; None for one that has 8 bits or cannot be read.
            said: called once, with the largest value and the scale, when one was found.
        """
        if self.stated is not None:
            return self.stated
        with _lock:
            if not self._looked:
                self.highest = max((value for value in highest() if value is not None), default=None)
                self._looked = True
                if said is not None and self.highest is not None:
                    said(self.highest, at_least(self.highest))
        return self.found


def checked(full_scale: Any) -> int:
    """A full scale that was given, as a number.

    Raises:
        InputError: it is not a whole number from 1 to 65535.
    """
    if isinstance(full_scale, bool) or not isinstance(full_scale, int | np.integer) or not 1 <= full_scale <= 65535:
        raise InputError(
            f"full_scale is {full_scale!r}, but it must be the sample value that stands for white, a whole number from "
            "1 to 65535, such as 4095 for 12 bits"
        )
    return int(full_scale)


def at_least(highest: int) -> int:
    """The smallest usual full scale that holds `highest`; for values above 65535 the largest."""
    return next((scale for scale in LADDER if scale >= highest), LADDER[-1])


def sampled(items: Sequence[Any]) -> list[Any]:
    """At most `SAMPLED` of `items`, evenly spread."""
    if len(items) <= SAMPLED:
        return [*items]
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, SAMPLED).round()]


def scaled_alike(pictures: Mapping[str, np.ndarray], full_scale: int | None) -> list[np.ndarray]:
    """Arrays in memory by name, all divided by one full scale: the given one, or the one found from all of them."""
    scale = FullScale(full_scale).value(lambda: (highest_of(picture) for picture in pictures.values()))
    return [scaled(picture, scale, name) for name, picture in pictures.items()]


def highest_of(array: np.ndarray) -> int | None:
    """The largest sample, where samples are whole numbers that need a full scale; None for all others."""
    wide = array.dtype.kind in "ui" and array.dtype != np.uint8
    return int(array.max()) if wide and array.size else None


def scaled(array: np.ndarray, full_scale: Scale, what: str) -> np.ndarray:
    """Samples as uint8, or as floats in [0, 1].

    Args:
        array: bool, whole numbers, or floats in [0, 1], of any shape.
        full_scale: of whole numbers that are not uint8; without one, uint16 is divided by 65535 and other types are
            refused.
        what: the file or image, for messages.

    Returns:
        uint8 where the samples are bool, uint8 or of a full scale of 255; else float32 (floats keep their type).

    Raises:
        InputError: values beyond the range, or a range that is not known.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "ui":
        low, high = int(array.min()), int(array.max())
        scale = scale_of(low, high, array.dtype.kind + str(array.dtype.itemsize) == "u2", full_scale, what, array.dtype)
        return array.astype(np.uint8) if scale == 255 else array.astype(np.float32) * np.float32(1 / scale)
    if array.dtype.kind == "f":
        low_f, high_f = float(array.min()), float(array.max())
        if not (low_f >= 0 and high_f <= 1):  # also true of NaN
            raise InputError(
                f"{what} has float samples from {low_f:g} to {high_f:g}, but they must lie in [0, 1]; "
                "divide them by their range"
            )
        return array
    raise InputError(f"{what} has samples of type {array.dtype}, but an image has whole-number or float samples")


def scale_of(low: int, high: int, unsigned16: bool, full_scale: Scale, what: str, dtype: object) -> int:
    """What whole numbers from `low` to `high` are divided by; see `scaled`."""
    if low < 0 or high > 65535:
        raise InputError(
            f"{what} has whole numbers from {low} to {high}, but samples must fit 8 or 16 bits (0 to 65535); "
            "scale them, or save them as floats in [0, 1]"
        )
    scale = full_scale() if callable(full_scale) else full_scale
    if scale is None and not unsigned16:
        raise InputError(
            f"{what} has samples of type {dtype}, whose range is not known; give full_scale, the value that stands for "
            "white (255 for 8 bits, 4095 for 12), or save it as uint8 or uint16"
        )
    scale = 65535 if scale is None else checked(scale)
    if high > scale:
        raise InputError(
            f"{what} has samples of up to {high}, but the full scale of these images is {scale} (stated, or found in a "
            f"sample of them); give --full-scale {at_least(high)} (in Python full_scale=) if that is their range"
        )
    return scale
