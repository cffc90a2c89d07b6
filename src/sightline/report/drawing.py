"""Results drawn on images, pairs of labels and predictions, and contact sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from PIL import Image

from sightline.errors import InputError
from sightline.report.canvas import heading, side_by_side
from sightline.report.draw_class_map import draw_class_map
from sightline.report.draw_class_scores import draw_class_scores
from sightline.report.draw_objects import draw_objects
from sightline.report.pictures import PictureLike, as_picture, scaled_to
from sightline.report.style import Style
from sightline.runtime.values import require_seed, require_whole
from sightline.structures import ClassMap, ClassScores, Instances


def draw(
    image: PictureLike,
    result: Any,
    names: bool = True,
    scores: bool = True,
    *,
    size: int | None = None,
    opacity: float = 0.45,
    skeleton: Sequence[tuple[int, int]] = (),
    remarks: Sequence[str | None] | None = None,
    scale: float = 1.0,
) -> Image.Image:
    """A new picture of the image with what was found, or what is labelled, on it.

    Colours belong to class ids and are the same in every picture; masks of a single class have one colour per object
    instead. Letters that no font has are written as their codes. Line width and letters suit the picture's size.

    Args:
        image: path, Pillow image, array [H, W] or [H, W, C], tensor [H, W] or [C, H, W]; of any number of channels,
            8 or 16 bits, or float. It is not changed.
        result: objects, a class map (drawn as translucent colours with a legend below; a class named "background" is
            left as it is), or image classes (the five best as bars below), in the pixels of `image`.
        names: write the class names.
        scores: write the scores, where there are some.
        size: longer side of the picture to return, in pixels; None for the image's own.
        opacity: of masks and class maps, 0 … 1.
        skeleton: pairs of keypoint positions to join by lines.
        remarks: for each object a word to write behind its name, or None; objects with a remark get a dashed outline.
        scale: factor on the width of lines and the size of letters.

    Raises:
        InputError: the image cannot be read, or is of another size than the result belongs to; or there are several.
    """
    if isinstance(result, list):
        raise InputError(f"draw takes the result of one image, not a list of {len(result)}; draw each on its own image")
    picture = as_picture(image)
    own = (picture.height, picture.width)
    if result.image_size != own:
        height, width = result.image_size
        raise InputError(
            f"the result belongs to an image of {width}×{height} pixels, but this one has {own[1]}×{own[0]}; "
            "draw it on the image that was given to the model"
        )
    style = Style(names, scores, opacity, skeleton, remarks, scale)
    return drawn(result, scaled_to(picture, size), style)


@singledispatch
def drawn(result: Any, picture: Image.Image, style: Style) -> Image.Image:
    """A result drawn on a picture of its image; `drawn.register` says how for a type of your own.

    Args:
        result: in pixels of the image.
        picture: the image, perhaps smaller or larger; may be drawn on in place.
        style: how to draw.

    Returns:
        The picture, or a larger one with more below it.

    Raises:
        InputError: nobody has said how to draw the type.
    """
    name = type(result).__name__
    raise InputError(
        f"there is no way to draw a {name} yet; register one with sightline.report.drawing.drawn.register, a function "
        "(result, picture, style) → picture"
    )


drawn.register(Instances, draw_objects)
drawn.register(ClassMap, draw_class_map)
drawn.register(ClassScores, draw_class_scores)


def draw_pair(
    image: PictureLike,
    target: Any,
    prediction: Any,
    *,
    size: int | None = None,
    scale: float = 1.0,
    target_remarks: Sequence[str | None] | None = None,
    prediction_remarks: Sequence[str | None] | None = None,
) -> Image.Image:
    """The labels beside the prediction, each with a heading.

    Args:
        image, size, scale: as for `draw`.
        target, prediction: what to draw at the left and at the right.
        target_remarks, prediction_remarks: as `remarks` of `draw`, for either side.
    """
    left = draw(image, target, size=size, scale=scale, remarks=target_remarks)
    right = draw(image, prediction, size=size, scale=scale, remarks=prediction_remarks)
    return side_by_side([heading(left, "labels", scale), heading(right, "prediction", scale)], 2)


def contact_sheet(
    dataset: Any,
    transform: Callable[..., tuple[Any, Any]] | None = None,
    n: int = 16,
    columns: int = 4,
    seed: int = 0,
    size: int = 260,
) -> Image.Image:
    """A picture of samples with their labels, as they are or augmented, to look at before training.

    Args:
        dataset: gives (image, target) by position; `name(i)` is written above each where it has one.
        transform: `transform(image, target, generator)` as training uses it; None for the images as they are.
        n: how many samples, drawn without repetition (all in order if the dataset has no more).
        columns: how many in a row.
        seed: of the choice of samples and of the transform.
        size: longer side of each sample, in pixels.

    Raises:
        InputError: the dataset is empty, or a number is below 1.
    """
    require_seed(seed)
    n, columns = (require_whole(what, value, 1, "count") for what, value in (("n", n), ("columns", columns)))
    size = require_whole("size", size, 1, "image_side")
    if not len(dataset):
        raise InputError("the dataset holds no images to show; check the path and the split")
    generator = np.random.default_rng(seed)
    count = min(n, len(dataset))
    chosen = range(count) if count == len(dataset) else sorted(generator.choice(len(dataset), count, replace=False))
    samples = []
    for position in chosen:
        image, target = dataset[int(position)]
        if transform is not None:
            image, target = transform(image, target, generator)
        title = dataset.name(int(position)).rsplit("/", 1)[-1] if hasattr(dataset, "name") else str(position)
        if len(getattr(dataset, "splits", ())) > 1:
            title = f"{dataset.split_of(int(position))}: {title}"
        samples.append(heading(draw(image, target, size=size), title))
    return side_by_side(samples, columns)
