"""Ready-made augmentation recipes, composed of the transforms in this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sightline.data.transforms.base import Augmentation, Transform
from sightline.data.transforms.colour import ChannelNoise, Colour, PixelNoise
from sightline.data.transforms.compose import Compose, Geometric
from sightline.data.transforms.crops import (
    IoUCrop,
    ModelScale,
    RandomCrop,
    RandomResizedCrop,
    Rescale,
    SafeCrop,
    ScaleJitter,
    ZoomOut,
)
from sightline.data.transforms.erasing import RandomErasing
from sightline.data.transforms.geometry import HorizontalFlip, QuarterTurn, Rotate, Shear, VerticalFlip
from sightline.data.transforms.mixing import CutMix, MixUp, OneOf
from sightline.data.transforms.mosaic import Mosaic
from sightline.data.transforms.randaugment import RandAugment
from sightline.errors import InputError


def none() -> Compose:
    """No augmentation: every epoch sees the same images."""
    return Compose([])


def detection(
    strength: str = "default",
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    colour: bool = True,
    keypoint_swap: Iterable[int] | None = None,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For detectors that keep the aspect ratio of images (Faster R-CNN).

    Args:
        strength: "light" (flip, slight colour changes), "default" (also scaling from ⅔ to 1½), "strong" (also crops,
            small rotations, shears and noise; for small datasets and long training).
        flip: probability of a horizontal flip; use 0 if left and right matter, as in text.
        vertical_flip: probability of a vertical flip; use 0.5 for images without an up direction.
        colour: change colours; set to False if classes are distinguished by colour.
        keypoint_swap: see `Compose`.
        extra: additional augmentations, applied last, e.g. `Kornia(…)`.

    Raises:
        InputError: the strength is unknown.
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
    transforms = [*flips, *geometry[strength], *(tones[strength] if colour else []), *extra]
    return Compose(transforms, keypoint_swap=keypoint_swap)


def ssd(flip: float = 0.5, colour: bool = True, extra: Iterable[Augmentation] = ()) -> Compose:
    """For detectors that resize images to a fixed square (SSD, SSDlite); Liu et al., 2016, sections 2.2, 3.6."""
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
    """For dense detectors trained from scratch: four images combined into one, until the last part of training.

    Args:
        flip, vertical_flip, colour: as for `detection`.
        scale: range of each image's factor.
        mixup: probability of blending with a second mosaic; helps large models, and hurts small ones (Ge et al.,
            "YOLOX", 2021, section 2.1).
        closing: fraction of training, at its end, that uses single images.
        keypoint_swap: see `Compose`.
        extra: additional augmentations, applied last.
    """
    swap = None if keypoint_swap is None else tuple(keypoint_swap)
    tiles: Transform = Mosaic(scale=scale, flip=flip, vertical_flip=vertical_flip, keypoint_swap=swap)
    transforms = [MixUp(tiles, mixup) if mixup > 0 else tiles]
    tones = [Colour(brightness=0.2, contrast=0.2, saturation=0.4, hue=0.015)] if colour else []
    return Compose([*transforms, *tones, *extra], keypoint_swap=swap, closing=closing)


def crops(
    size: int = 320,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    scale: tuple[float, float] = (0.67, 1.5),
    colour: bool = True,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For segmentation models: random scale, then a random crop of at most `size` pixels and at most the original size.

    For a model that resizes images (`image_size`), crops are squares of the side that it resizes to, of images at that
    scale.

    Args:
        size: side of the largest crop in pixels.
        flip, vertical_flip, colour, extra: as for `detection`.
        scale: range of the image's factor.
    """
    flips = [HorizontalFlip(flip), VerticalFlip(vertical_flip)]
    geometry = [*flips, ModelScale(), Rescale(scale), RandomCrop(size, within_source=True, seen=True)]
    return Compose([*geometry, *([Colour()] if colour else []), *extra])


def resized_crops(
    scale: tuple[float, float] = (0.25, 1.0),
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    colour: bool = True,
    extra: Iterable[Augmentation] = (),
) -> Compose:
    """For image classifiers: a random part of the image at the input size of the model.

    Args:
        scale: range of the part's area as a fraction of the image's. Training from scratch on millions of images uses
            (0.08, 1.0); the smaller the part, the more likely it does not contain the labelled object.
        flip, vertical_flip, colour, extra: as for `detection`.
    """
    geometry = [HorizontalFlip(flip), VerticalFlip(vertical_flip), RandomResizedCrop(scale=scale)]
    return Compose([*geometry, *([Colour(hue=0.01)] if colour else []), *extra])


NAMES: dict[str, Callable[[float], Compose]] = {
    "none": lambda flip: none(),
    "light": lambda flip: detection("light", flip=flip),
    "default": lambda flip: detection("default", flip=flip),
    "strong": lambda flip: detection("strong", flip=flip),
    "ssd": lambda flip: ssd(flip=flip),
    "mosaic": lambda flip: mosaic(flip=flip),
    "crops": lambda flip: crops(flip=flip),
    "resized_crops": lambda flip: resized_crops(flip=flip),
}
"""The named recipes by the probability of a horizontal flip, for the command line and for files."""

POLICIES = ("turns", "randaugment", "erasing", "mixup", "cutmix")
"""What can be added to a recipe: "resized_crops+randaugment+erasing+cutmix"."""


def with_policies(
    base: Compose,
    turns: bool = False,
    randaugment: bool = False,
    erasing: bool = False,
    mixup: bool = False,
    cutmix: bool = False,
) -> Compose:
    """A recipe with additional augmentation policies.

    Args:
        base: the recipe.
        turns: `QuarterTurn`, for images without an up direction, such as those from above or from a microscope.
        randaugment: `RandAugment`, whose geometry is composed with that of the recipe.
        erasing: `RandomErasing`, after everything else.
        mixup: `MixUp` of all images, each augmented by itself; with `cutmix`, of every second image on average.
        cutmix: `CutMix`, for image classifiers.
    """
    transforms = list(base.transforms)
    geometry = [*([QuarterTurn()] if turns else []), *([RandAugment()] if randaugment else [])]
    last = [i for i, own in enumerate(transforms) if isinstance(own, Geometric) or own.combines]
    place = max(last, default=-1) + 1
    transforms[place:place] = geometry
    if erasing:
        transforms.append(RandomErasing())
    inner = Compose(transforms, base.min_visible, base.fill, base.keypoint_swap, base.closing)
    mixing = [*([MixUp(inner, p=1.0)] if mixup else []), *([CutMix(inner)] if cutmix else [])]
    if not mixing:
        return inner
    whole = mixing[0] if len(mixing) == 1 else OneOf(tuple(mixing))
    return Compose([whole], base.min_visible, base.fill, base.keypoint_swap, base.closing)


def named(name: str, mirror: bool = True) -> Compose:
    """The augmentation recipe with this name.

    Args:
        name: none, light, default, strong, ssd, mosaic, crops or resized_crops; with "+", further policies are added
            to it: turns, randaugment, erasing, mixup, cutmix. Without one of the first, images are not changed
            otherwise.
        mirror: whether images are mirrored, each with a probability of a half.

    Raises:
        InputError: there is no such recipe; the message lists all names.
    """
    words = name.split("+")
    for word in words:
        if word not in NAMES and word not in POLICIES:
            raise InputError(
                f"unknown augmentation recipe {word!r}; choose one of {', '.join(NAMES)}, and add to it any of "
                f"{', '.join(POLICIES)}, as in resized_crops+randaugment+cutmix"
            )
    bases = [word for word in words if word in NAMES]
    if len(bases) > 1 or len(set(words)) < len(words):
        raise InputError(
            f"the augmentation {name!r} has {'several recipes' if len(bases) > 1 else 'a name twice'}; give one of "
            f"{', '.join(NAMES)}, and each of {', '.join(POLICIES)} at most once"
        )
    base = NAMES[bases[0] if bases else "none"](0.5 if mirror else 0.0)
    return with_policies(base, **{word: True for word in words if word in POLICIES})


def completed(name: str, base: str) -> str:
    """The name of an augmentation: `name`, after the recipe of `base` if it consists of policies only.

    For example, "randaugment" with the base "resized_crops" is "resized_crops+randaugment".
    """
    if any(word not in POLICIES for word in name.split("+")):
        return name
    return "+".join([*(word for word in base.split("+") if word not in POLICIES), name])
