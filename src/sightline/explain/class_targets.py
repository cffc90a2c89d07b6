"""A class of the whole image, and a class in a region of a class map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.target import Target, prepared
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.model import Model
from sightline.models.segmentation.segmenter import Segmenter
from sightline.structures import ImageBatch
from sightline.structures.classes import BACKGROUND


@dataclass(frozen=True)
class ImageClass(Target):
    """The score of a class before the softmax.

    Attributes:
        class_id: the class.
    """

    class_id: int
    quantity = "logit"

    def score(self, model: ImageClassifier, batch: ImageBatch) -> Tensor:
        return model.logits(batch)[:, self.class_id]

    def describe(self, model: Model) -> str:
        return f"class {model.classes[self.class_id]}"


@dataclass(frozen=True)
class RegionClass(Target):
    """The mean score of a class, before the softmax, over a region of a class map (Vinogradova, Dibrov, Myers, "Towards
    interpretable semantic segmentation via gradient-weighted class activation mapping", AAAI 2020, equation 2).

    Attributes:
        class_id: the class.
        region: [H, W] bool, in pixels of the batch.
        where: the region in words.
    """

    class_id: int
    region: Tensor = field(compare=False)
    where: str = "the pixels predicted as it"
    quantity = "mean logit"

    def score(self, model: Segmenter, batch: ImageBatch) -> Tensor:
        scores = model.outputs(batch)["out"][:, self.class_id]
        return scores[:, self.region.to(scores.device)].mean(1)

    def describe(self, model: Model) -> str:
        return f"class {model.classes[self.class_id]} in {self.where}"


def image_class(model: Model, image: Tensor, words: Sequence[str]) -> ImageClass:
    """The target of the words "class:NAME"."""
    return ImageClass(model.classes.id(":".join(words)))


@torch.no_grad()
def most_likely_class(model: Model, image: Tensor) -> ImageClass:
    """The class with the highest score."""
    assert isinstance(model, ImageClassifier)
    return ImageClass(int(model.logits(prepared(model, image))[0].argmax()))


def region_class(model: Model, image: Tensor, words: Sequence[str]) -> RegionClass:
    """The target of the words "class:NAME" or "class:NAME:x1,y1,x2,y2", a box in pixels of the image."""
    *names, last = words
    if names and last.count(",") == 3:
        return class_in_box(model, image, model.classes.id(":".join(names)), last)
    class_id = model.classes.id(":".join(words))
    labels = predicted_labels(model, image)
    region = labels == class_id
    if not region.any():
        found = [model.classes[i] for i in labels.unique().tolist() if i >= 0]
        raise InputError(
            f"no pixel is predicted as {model.classes[class_id]}, only {', '.join(found)}; name the region whose "
            f"pixels are explained: class:{model.classes[class_id]}:x1,y1,x2,y2 in pixels of the image"
        )
    return RegionClass(class_id, region)


def class_in_box(model: Model, image: Tensor, class_id: int, box: str) -> RegionClass:
    """A class in a box "x1,y1,x2,y2" in pixels of the image.

    Raises:
        InputError: it is no box, or outside the image.
    """
    try:
        x1, y1, x2, y2 = (float(number) for number in box.split(","))
    except ValueError:
        raise InputError(
            f"the region is {box!r}, but must be four numbers x1,y1,x2,y2 in pixels of the image"
        ) from None
    batch = prepared(model, image)
    left, top, right, bottom = batch.frame(0)
    height, width = batch.original_sizes[0]
    across, down = (right - left) / width, (bottom - top) / height
    rows = torch.arange(batch.tensor.shape[-2], device=batch.tensor.device) + 0.5
    columns = torch.arange(batch.tensor.shape[-1], device=batch.tensor.device) + 0.5
    inside = ((rows > top + y1 * down) & (rows < top + y2 * down))[:, None]
    inside = inside & (columns > left + x1 * across) & (columns < left + x2 * across)
    inside &= _valid(batch)
    if not inside.any():
        raise InputError(
            f"the region {box} has no pixel of the image, which has {width}×{height} pixels (width × height); give "
            "x1,y1,x2,y2 with 0 ≤ x1 < x2 ≤ width and 0 ≤ y1 < y2 ≤ height"
        )
    return RegionClass(class_id, inside, f"the region {box}")


@torch.no_grad()
def predicted_labels(model: Model, image: Tensor) -> Tensor:
    """The predicted class of each pixel of the batch, [H, W] int64; −1 for padding."""
    assert isinstance(model, Segmenter)
    batch = prepared(model, image)
    return model.outputs(batch)["out"][0].argmax(0).where(_valid(batch), -1)


def largest_class(model: Model, image: Tensor) -> RegionClass:
    """The class with the most pixels other than the background, in these pixels."""
    labels = predicted_labels(model, image)
    counts = labels[labels >= 0].bincount(minlength=len(model.classes))
    behind = [i for i, name in enumerate(model.classes) if name == BACKGROUND]
    objects = counts.index_fill(0, counts.new_tensor(behind), 0)
    class_id = int((objects if bool(objects.any()) else counts).argmax())
    return RegionClass(class_id, labels == class_id)


def _valid(batch: ImageBatch) -> Tensor:
    """The pixels of a batch of one image without padding: [H, W] bool."""
    inside = torch.zeros(batch.tensor.shape[-2:], dtype=torch.bool, device=batch.tensor.device)
    inside[: batch.sizes[0][0], : batch.sizes[0][1]] = True
    return inside
