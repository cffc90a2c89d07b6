"""Checks that predictions and names belong to the targets of an evaluation, one for each image."""

from __future__ import annotations

from collections.abc import Sequence, Sized

from sightline.errors import InputError


def require_pairs(targets: Sized, predictions: Sized, item: str = "image") -> None:
    """Check that there is one prediction for each target; `item` is what they are about: "image" or "video".

    Raises:
        InputError: their numbers differ.
    """
    if len(targets) != len(predictions):
        raise InputError(
            f"there are {len(targets)} targets but {len(predictions)} predictions; give one for each {item}"
        )


def require_images(images: int, names: Sequence[str] | None = None) -> None:
    """Check that there is at least one image and, if they are given, one name for each.

    Raises:
        InputError: there are no images, or the number of names differs.
    """
    if not images:
        raise InputError("there are no images to evaluate; give at least one with its labels")
    if names is not None and len(names) != images:
        raise InputError(f"there are {len(names)} names but {images} images; give one for each image")
