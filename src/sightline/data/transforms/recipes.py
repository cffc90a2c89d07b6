"""Augmentation in a few lines: ready recipes, made of the pieces that anyone can put together otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sightline.data.transforms.base import Augmentation, Transform
from sightline.data.transforms.colour import ChannelNoise, Colour, PixelNoise
from sightline.data.transforms.compose import Compose
from sightline.data.transforms.crops import (
    IoUCrop,
    RandomCrop,
    RandomResizedCrop,
    Rescale,
    SafeCrop,
    ScaleJitter,
    ZoomOut,
)
from sightline.data.transforms.geometry import HorizontalFlip, Rotate, Shear, VerticalFlip
from sightline.data.transforms.mosaic import MixUp, Mosaic
from sightline.errors import InputError


def none() -> Compose:
    """Nothing: every epoch sees the same pictures."""
    return Compose([])


def detection(
    strength: str = "default",
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    colour: bool = True,
    keypoint_swap: Iterable[int] | None = None,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For detectors that keep the picture's shape (Faster R-CNN).

    Args:
        strength: "light" (flip, a little colour), "default" (also scale from ⅔ to 1½), "strong" (also crops, small
            turns, slants and noise; for small data sets and long trainings).
        flip: probability of mirroring left and right; 0 where left and right differ, as with writing.
        vertical_flip: probability of mirroring top and bottom; 0.5 for pictures without an up.
        colour: change colours; switch off where colour is what tells the classes apart.
        keypoint_swap: see `Compose`.
        extra: more augmentations, applied last, e.g. `Kornia(…)`.

    Raises:
        InputError: an unknown strength.
    """
    flips = [HorizontalFlip(flip)] * (flip > 0) + [VerticalFlip(vertical_flip)] * (vertical_flip > 0)
    geometry: dict[str, list[Any]] = {
        "light": [],
        "default": [ScaleJitter(scale=(0.67, 1.5), p=0.7)],
        "strong": [
            ScaleJitter(scale=(0.5, 2.0), aspect=(0.8, 1.25)),
            Rotate(10.0, p=0.3),
            Shear(5.0, p=0.2),
            SafeCrop(p=0.3),
        ],
    }
    if strength not in geometry:
        raise InputError(f"unknown augmentation strength {strength!r}; choose one of {', '.join(geometry)}")
    tones: dict[str, list[Any]] = {
        "light": [Colour(0.1, 0.1, 0.1, 0.0)],
        "default": [Colour()],
        "strong": [Colour(0.3, 0.3, 0.5, 0.04), ChannelNoise(0.1, p=0.3), PixelNoise(0.04, p=0.2)],
    }
    pieces = [*flips, *geometry[strength], *(tones[strength] if colour else []), *extra]
    return Compose(pieces, keypoint_swap=keypoint_swap)


def ssd(flip: float = 0.5, colour: bool = True, extra: Iterable[Augmentation] = ()) -> Compose:
    """For detectors that squash the picture to a fixed square (SSD, SSDlite); Liu et al., 2016, sections 2.2, 3.6."""
    geometry = [ZoomOut((1.0, 4.0), p=0.5), IoUCrop(), HorizontalFlip(flip)]
    tones = [Colour(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)]
    return Compose([*geometry, *(tones if colour else []), *extra])


def mosaic(
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    colour: bool = True,
    scale: tuple[float, float] = (0.5, 1.5),
    mixup: float = 0.0,
    closing: float = 0.15,
    keypoint_swap: Iterable[int] | None = None,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For dense detectors that learn from random numbers: four pictures in one, until the training's last part.

    Args:
        flip, vertical_flip, colour: as for `detection`.
        scale: range of each picture's factor.
        mixup: probability of a second mosaic laid over the first; helps large models, and hinders small ones (Ge et
            al., "YOLOX", 2021, section 2.1).
        closing: share of the training, its last, that sees single pictures.
        keypoint_swap: see `Compose`.
        extra: more augmentations, applied last.
    """
    swap = None if keypoint_swap is None else tuple(keypoint_swap)
    tiles: Transform = Mosaic(scale=scale, flip=flip, vertical_flip=vertical_flip, keypoint_swap=swap)
    pieces = [MixUp(tiles, mixup) if mixup > 0 else tiles]
    tones = [Colour(brightness=0.2, contrast=0.2, saturation=0.4, hue=0.015)] if colour else []
    return Compose([*pieces, *tones, *extra], keypoint_swap=swap, closing=closing)


def crops(
    size: int = 320,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    scale: tuple[float, float] = (0.67, 1.5),
    colour: bool = True,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For segmenters: the picture at a random scale, and of what is larger than `size` pixels or than before a random
    part.

    Args:
        size: side of the largest crop in pixels.
        flip, vertical_flip, colour, extra: as for `detection`.
        scale: range of the picture's factor.
    """
    geometry = [HorizontalFlip(flip), VerticalFlip(vertical_flip), Rescale(scale), RandomCrop(size, within_source=True)]
    return Compose([*geometry, *([Colour()] if colour else []), *extra])


def resized_crops(
    scale: tuple[float, float] = (0.25, 1.0),
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    colour: bool = True,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For classifiers of whole images: a random part of the picture at the size that the model sees.

    Args:
        scale: range of the part's area as a share of the picture's. Trainings on millions of images from random numbers
            use (0.08, 1.0); the smaller the part, the likelier it lacks what the label names.
        flip, vertical_flip, colour, extra: as for `detection`.
    """
    geometry = [HorizontalFlip(flip), VerticalFlip(vertical_flip), RandomResizedCrop(scale=scale)]
    return Compose([*geometry, *([Colour(hue=0.01)] if colour else []), *extra])


NAMES: dict[str, Callable[[], Compose]] = {
    "none": none,
    "light": lambda: detection("light"),
    "default": lambda: detection("default"),
    "strong": lambda: detection("strong"),
    "ssd": ssd,
    "mosaic": mosaic,
    "crops": crops,
    "resized_crops": resized_crops,
}
"""The recipes that have a name, for a command line or a file."""


def named(name: str) -> Compose:
    """The recipe of a name: none, light, default, strong, ssd, mosaic, crops, resized_crops.

    Raises:
        InputError: there is no recipe of that name; lists them.
    """
    if name not in NAMES:
        raise InputError(f"unknown augmentation recipe {name!r}; choose one of {', '.join(NAMES)}")
    return NAMES[name]()
