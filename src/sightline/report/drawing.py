"""Draw results on images, labels beside predictions, and contact sheets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sightline.errors import InputError
from sightline.explain.explanation import Explanation
from sightline.report.canvas import heading, side_by_side, stacked
from sightline.report.draw_class_map import draw_class_map
from sightline.report.draw_class_scores import draw_class_scores
from sightline.report.draw_events import SHOWN, draw_events
from sightline.report.draw_explanation import draw_explanation
from sightline.report.draw_objects import draw_objects
from sightline.report.pictures import PictureLike, as_picture, loaded, picture_for, scaled_to
from sightline.report.style import Style
from sightline.runtime.values import require_seed, require_whole
from sightline.structures import ClassMap, ClassScores, Clip, Events, Instances, Size, camera_of


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
    min_size: int = 0,
) -> Image.Image:
    """Draw a result, or labels, on an image.

    Colours belong to class ids and are the same in all images; masks of a single class have one colour per object
    instead. Characters that no font has are written as their codes. Line width and font size are adapted to the size of
    the image.

    Args:
        image: path, Pillow image, array [H, W] or [H, W, C], tensor [H, W] or [C, H, W]; of any number of channels, 8
            or 16 bits, or float; or a `Clip`. It is not modified.
        result: objects (cuboids in the image, if its camera is known, and from above to its right), a class map (drawn
            as translucent colours with a legend below; a class named "background" is not coloured), image classes (the
            five best as bars below), events (a strip of frames, and bars of time with captions below), or an
            explanation (its heat map, with a colour bar below), in pixels of `image`.
        names: write the class names.
        scores: write the scores, if there are any.
        size: longer side of the returned image, in pixels; None for the size of `image`.
        opacity: opacity of masks and class maps, in [0, 1].
        skeleton: pairs of keypoint indices to connect by lines.
        remarks: for each object a word to write after its name, or None; objects with a remark get a dashed outline.
        scale: factor of line width and font size.
        min_size: minimum length of the longer side in pixels, if `size` is None. Smaller images are enlarged by an
            integer factor, so that labels do not hide them.

    Returns:
        A new RGB Pillow image.

    Raises:
        InputError: the image cannot be read, has another size than the result's image, or several results are given.
    """
    if isinstance(result, list):
        raise InputError(f"draw takes the result of one image, not a list of {len(result)}; draw them one by one")
    image = loaded(image)
    picture, own = picture_for(image, result.image_size)
    if result.image_size not in own:
        height, width = result.image_size
        raise InputError(
            f"the result belongs to an image of {width}×{height} pixels, but this one has {own[-1][1]}×{own[-1][0]}; "
            "draw it on the image that was given to the model"
        )
    camera = camera_of(image) if isinstance(image, Tensor) else None
    style = Style(names, scores, opacity, skeleton, remarks, scale, camera)
    longer = max(own[-1])
    if size is None and longer < min_size:
        size = longer * math.ceil(min_size / longer)
    return drawn(result, scaled_to(picture, _film_size(picture, own[-1], size)), style)


def _film_size(picture: Image.Image, frame: Size, size: int | None) -> int | None:
    """The longer side of the picture; of a film, `SHOWN` of its frames (height, width) become 3 · `size` wide."""
    if size is None or frame == (picture.height, picture.width):
        return size
    return max(1, round(picture.width * 3 * size / SHOWN / frame[1]))


@singledispatch
def drawn(result: Any, picture: Image.Image, style: Style) -> Image.Image:
    """Draw a result on its image; use `drawn.register` to add a function for another type.

    Args:
        result: the result, in pixels of the original image.
        picture: the image, possibly resized; may be modified in place.
        style: how to draw.

    Returns:
        The image, or a larger one with more below it.

    Raises:
        InputError: there is no function for the type.
    """
    name = type(result).__name__
    raise InputError(
        f"a {name} cannot be drawn; register a function (result, picture, style) → picture for it with "
        "sightline.report.drawing.drawn.register"
    )


drawn.register(Instances, draw_objects)
drawn.register(ClassMap, draw_class_map)
drawn.register(ClassScores, draw_class_scores)
drawn.register(Events, draw_events)
drawn.register(Explanation, draw_explanation)


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
    """Draw the labels beside the prediction, each with a title.

    Args:
        image, size, scale: as for `draw`.
        target, prediction: what to draw on the left and on the right.
        target_remarks, prediction_remarks: as `remarks` of `draw`, for each side.
    """
    left = draw(image, target, size=size, scale=scale, remarks=target_remarks)
    right = draw(image, prediction, size=size, scale=scale, remarks=prediction_remarks)
    return side_by_side([heading(left, "labels", scale), heading(right, "prediction", scale)], 2)


def draw_explanations(
    image: PictureLike, explanations: Sequence[Explanation], *, size: int | None = None, columns: int = 4
) -> Image.Image:
    """Draw the image and several explanations of it side by side, each with the name of its method.

    Args:
        image: as for `draw`.
        explanations: of this image.
        size: longer side of each picture in pixels; None for the size of the image.
        columns: maximum number of pictures per row.
    """
    if isinstance(image, Clip):
        columns = 1
    seen, sizes = picture_for(image, explanations[0].image_size) if explanations else (as_picture(image), [(0, 0)])
    plain = scaled_to(seen, _film_size(seen, sizes[-1], size) if len(sizes) > 1 else size)
    parts = [heading(plain, explanations[0].model if explanations else "image")]
    for own in explanations:
        drawn = draw(image, own, size=size)
        scale = math.hypot(*plain.size) / math.hypot(*drawn.size)  # the bar must not make the title larger
        parts.append(heading(drawn, own.method, scale))
    return side_by_side(parts, min(columns, len(parts)))


def contact_sheet(
    dataset: Any,
    transform: Callable[..., tuple[Any, Any]] | None = None,
    n: int = 16,
    columns: int = 4,
    seed: int = 0,
    size: int = 260,
) -> Image.Image:
    """Draw samples with their labels, original or augmented, to inspect data before training.

    Args:
        dataset: a dataset of (image, target) pairs; if it has a method `name(i)`, the name is written above each image.
        transform: `transform(image, target, generator)` as used by training; None for the original images.
        n: number of samples, drawn without repetition (all in order if the dataset has no more).
        columns: number of columns. Images of one height form rows; each other image is below the shortest column.
        seed: seed of the choice of samples and of the transform.
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
        sample = draw(image, target, size=size)
        scale = 1.25 * size / math.hypot(*sample.size)  # captions below an image must not make its title larger
        samples.append(heading(sample, title, scale))
    return stacked(samples, columns)
