"""Two results on the same images: intervals of their difference.

Each bootstrap sample of images is evaluated for both results, and the percentiles of the difference are taken. What is
hard in an image is hard for both and cancels out, so the interval is much narrower than those of the two metrics.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from sightline.errors import InputError
from sightline.evaluation.result import Result


@runtime_checkable
class Paired(Protocol):
    """A result that has intervals of its difference from another of its kind."""

    def paired_intervals(self, other: Any, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """The intervals of this result's metrics minus those of `other`, on the same images in the same order."""


def paired_intervals(before: Result, after: Result, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of after − before, by metric; empty for results that have none.

    Raises:
        InputError: the results are of different kinds or numbers of images.
    """
    if type(before) is not type(after) or before.images != after.images:
        raise InputError(
            f"the results cannot be compared: one is of {before.task} on {before.images} images, the other of "
            f"{after.task} on {after.images}"
        )
    return after.paired_intervals(before, level) if isinstance(after, Paired) else {}
