"""The largest differences between the results of two models that should agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.model import Model
from sightline.ops.cuboids import cuboid_corners
from sightline.structures import ClassMap, ClassScores, Instances

LEAST_SCORE = 0.05
"""Objects with a lower score are not compared: whether they are found depends on the last bit of a number."""


@dataclass(frozen=True)
class Difference:
    """The largest differences over some images.

    Attributes:
        scores: of class probabilities, and of the scores of objects that both find.
        pixels: of corners of boxes, in pixels of the image.
        labels: fraction of pixels with another class, for class maps.
        masks: of the masks of objects that both find, the fraction of pixels that are in one of the two masks alone.
        keypoints: of the keypoints of objects that both find, the fraction that is more than a pixel apart.
        cuboids: of the corners of the cuboids of objects that both find, relative to their distance from the camera.
        images: number of images.
        objects: number of objects that both find.
        alone: number of objects that only one of the two finds; as a limit, their fraction. Suppression decides by the
            last bit of a number where the IoU of two boxes equals its threshold.
    """

    scores: float = 0.0
    pixels: float = 0.0
    labels: float = 0.0
    images: int = 1
    objects: int = 0
    alone: float = 0
    masks: float = 0.0
    keypoints: float = 0.0
    cuboids: float = 0.0

    def __add__(self, other: Difference) -> Difference:
        """The larger of two, over the images of both."""
        return Difference(
            max(self.scores, other.scores),
            max(self.pixels, other.pixels),
            max(self.labels, other.labels),
            self.images + other.images,
            self.objects + other.objects,
            self.alone + other.alone,
            max(self.masks, other.masks),
            max(self.keypoints, other.keypoints),
            max(self.cuboids, other.cuboids),
        )

    def within(self, limit: Difference) -> bool:
        """Whether no difference exceeds that of `limit`."""
        return not self.beyond(limit)

    def beyond(self, limit: Difference) -> list[str]:
        """The differences that exceed those of `limit`, each in words with its limit."""
        values = {name: getattr(self, name) for name in _WORDS}
        values["alone"] = self.alone / max(1, self.objects + self.alone)
        return [
            f"{words.format(values[name])} (at most {getattr(limit, name):g})"
            for name, words in _WORDS.items()
            if not values[name] <= getattr(limit, name)  # nor is NaN within a limit
        ]

    def __str__(self) -> str:
        parts = [f"scores {self.scores:.1e}"]
        if self.objects:
            parts.append(f"boxes {self.pixels:.3f} pixels ({self.objects} objects)")
        if self.alone:
            parts.append(f"{self.alone:g} objects found by one alone")
        if self.keypoints:
            parts.append(f"{100 * self.keypoints:.3f} % of the keypoints at other places")
        if self.cuboids:
            parts.append(f"corners of cuboids {100 * self.cuboids:.3f} % of their distance")
        if self.masks:
            parts.append(f"{100 * self.masks:.3f} % of the masks' pixels")
        if self.labels:
            parts.append(f"another class at {100 * self.labels:.3f} % of the pixels")
        return f"{', '.join(parts)} on {self.images} images"


_WORDS = {
    "scores": "scores {:.1e}",
    "pixels": "boxes {:.3f} pixels",
    "alone": "a fraction of {:.3f} of the objects found by one alone",
    "keypoints": "a fraction of {:.3f} of the keypoints at other places",
    "cuboids": "corners of cuboids {:.5f} of their distance",
    "masks": "a fraction of {:.5f} of the masks' pixels",
    "labels": "another class at a fraction of {:.5f} of the pixels",
}
"""How much each value differs, in words; fractions as in the limits."""
TOLERANCE = Difference(scores=1e-3, pixels=0.5, labels=1e-3, alone=0.01, masks=0.01, keypoints=0.01, cuboids=0.01)
"""The largest differences that another order of sums may make; all but `scores` and `pixels` are fractions.

A keypoint is the maximum of a heat map, which jumps where two places are equally likely.
"""


def compare(one: Model, other: Model, images: Sequence[Tensor]) -> Difference:
    """Compare the results of two models for images [C, H, W].

    Raises:
        InputError: there are no images.
    """
    if not len(images):
        raise InputError("there are no images to compare the results on; give at least one")
    mode = one.training
    with torch.no_grad():
        pairs = list(zip(one.eval()(images), other.eval()(images), strict=True))
    one.train(mode)
    total = difference(*pairs[0])
    for pair in pairs[1:]:
        total = total + difference(*pair)
    return total


@singledispatch
def difference(one: Any, other: Any) -> Difference:
    """The differences of two results for one image.

    Raises:
        InputError: results of this type cannot be compared.
    """
    raise InputError(f"results of type {type(one).__name__} cannot be compared")


@difference.register
def _of_scores(one: ClassScores, other: ClassScores) -> Difference:
    assert one.scores is not None
    assert other.scores is not None
    return Difference(float((one.scores.cpu().float() - other.scores.cpu().float()).abs().max()))


@difference.register
def _of_maps(one: ClassMap, other: ClassMap) -> Difference:
    changed = float((one.labels.cpu() != other.labels.cpu()).float().mean())
    if one.scores is None or other.scores is None:
        return Difference(labels=changed)
    return Difference(float((one.scores.cpu().float() - other.scores.cpu().float()).abs().max()), labels=changed)


@difference.register
def _of_objects(one: Instances, other: Instances) -> Difference:
    """Each object of the one, best first, is compared with the nearest object of its class in the other."""
    a, b = (_compared(x.to("cpu")) for x in (one, other))
    scores, pixels, free = 0.0, 0.0, torch.ones(len(b), dtype=torch.bool)
    pairs = []
    for i in range(len(a)):
        distance = (b.boxes.float() - a.boxes[i].float()).abs().amax(1)
        distance = distance.masked_fill(~(free & (b.labels == a.labels[i]) if "labels" in a else free), torch.inf)
        nearest = int(distance.argmin()) if len(distance) else -1
        if nearest < 0 or float(distance[nearest]) > max(4.0, 0.02 * max(one.image_size)):
            continue
        free[nearest] = False
        pairs.append((i, nearest))
        pixels = max(pixels, float(distance[nearest]))
        scores = max(scores, abs(float(a.scores[i]) - float(b.scores[nearest])))
    both = len(pairs)
    own, others = (a[[i for i, _ in pairs]], b[[j for _, j in pairs]])
    masks = keypoints = cuboids = 0.0
    if "masks" in a and both:
        masks = float((own.masks ^ others.masks).sum() / (own.masks | others.masks).sum().clamp(min=1))
    if "keypoints" in a and both:
        apart = (own.keypoints - others.keypoints)[..., :2].abs().amax(-1) > 1
        keypoints = float(apart.float().mean())
    if "cuboids" in a and both:
        ends, other_ends = (cuboid_corners(found.cuboids.double()) for found in (own, others))
        cuboids = float(((ends - other_ends).norm(dim=-1) / ends.norm(dim=-1)).max())
    alone = len(a) + len(b) - 2 * both
    return Difference(scores, pixels, objects=both, alone=alone, masks=masks, keypoints=keypoints, cuboids=cuboids)


def _compared(found: Instances) -> Instances:
    """The objects that are compared. Boxes that were clipped to nothing often have equal scores."""
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).clamp(min=0).prod(1)
    return found[(found.scores >= LEAST_SCORE) & (area > 0)]


def example_images(channels: int, dtype: str = "uint8", count: int = 4) -> list[Tensor]:
    """A few rendered scenes of different sizes [C, H, W], uint8 or float in [0, 1]; noise if they are not RGB."""
    sizes = [(240, 320), (320, 240), (200, 200), (300, 420)][:count]
    if channels == 3:
        from sightline.data.scenes import scenes

        side = max(max(size) for size in sizes)
        found = [image[:, : size[0], : size[1]] for (image, _), size in zip(scenes(count, side), sizes, strict=True)]
    else:
        generator = torch.Generator().manual_seed(0)
        found = [torch.randint(0, 256, (channels, *s), generator=generator, dtype=torch.uint8) for s in sizes]
    return found if dtype == "uint8" else [image.float() / 255 for image in found]
