"""Results drawn on images: boxes, masks and keypoints, class maps, image classes; pairs and contact sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sightline.errors import InputError
from sightline.report.canvas import Canvas, heading, side_by_side
from sightline.report.colours import class_colour
from sightline.report.fonts import drawable, font_for
from sightline.report.pictures import PictureLike, as_picture, scaled_to
from sightline.runtime.values import require_seed, require_whole
from sightline.structures import BACKGROUND, ClassMap, ClassScores, Instances, Target

_PAPER, _INK, _FAINT = (24, 26, 31), (235, 235, 235), (120, 124, 132)

Colour = tuple[int, int, int]

_LABELLED = 0.15
"""Share of a picture that the labels of a crowd may cover."""


def draw(
    image: PictureLike,
    result: Target,
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
    picture = scaled_to(picture, size)
    if isinstance(result, Instances):
        _draw_instances(picture, result, names, scores, opacity, skeleton, remarks, scale)
        return picture
    if isinstance(result, ClassMap):
        return _draw_class_map(picture, result, names, opacity)
    return _draw_class_scores(picture, result, scores)


def draw_pair(
    image: PictureLike,
    target: Target,
    prediction: Target,
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


def _draw_instances(
    picture: Image.Image,
    result: Instances,
    names: bool,
    scores: bool,
    opacity: float,
    skeleton: Sequence[tuple[int, int]],
    remarks: Sequence[str | None] | None,
    scale: float,
) -> None:
    count = len(result)
    if remarks is not None and len(remarks) != count:
        raise InputError(f"there are {len(remarks)} remarks for {count} objects; give one, or None, for each")
    result = result.to("cpu")
    height, width = result.image_size
    sx, sy = picture.width / max(width, 1), picture.height / max(height, 1)
    canvas = Canvas(picture, scale if count <= 12 else 0.85 * scale)
    labels = result.labels.tolist() if "labels" in result else [0] * count
    colours = [class_colour(label) for label in labels]
    if "masks" in result and (len(result.classes) == 1 if result.classes is not None else len(set(labels)) == 1):
        colours = [class_colour(i) for i in range(count)]
    if "masks" in result and count:
        rows = np.minimum(((np.arange(picture.height) + 0.5) / sy).astype(int), height - 1)
        columns = np.minimum(((np.arange(picture.width) + 0.5) / sx).astype(int), width - 1)
        for mask, colour in zip(result.masks.numpy(), colours, strict=True):
            canvas.mask(mask[rows][:, columns], colour, opacity)
    if "boxes" in result and count:
        boxes = (result.boxes.double().numpy() * [sx, sy, sx, sy]).tolist()
        sizes = ((result.boxes[:, 2] - result.boxes[:, 0]) * (result.boxes[:, 3] - result.boxes[:, 1])).tolist()
        order = sorted(range(count), key=lambda i: -sizes[i])  # small objects on top of large ones
        texts = _texts(result, labels, names, scores, remarks)
        for i in order:
            canvas.box(boxes[i], colours[i], dashed=bool(remarks and remarks[i]))
        room = _LABELLED * picture.width * picture.height
        for i in order:  # in a crowd the largest have their names; the colours tell the others'
            if texts[i] and (canvas.labelled < room or count <= 12 or (remarks and remarks[i])):
                canvas.label(boxes[i], texts[i], colours[i])
    if "keypoints" in result and count:
        for points, colour in zip((result.keypoints.double().numpy() * [sx, sy, 1]).tolist(), colours, strict=True):
            for a, b in skeleton:
                if points[a][2] > 0 and points[b][2] > 0:
                    canvas.stroke([(points[a][0], points[a][1]), (points[b][0], points[b][1])], colour)
            for x, y, seen in points:
                if seen > 0:
                    canvas.dot(x, y, colour, filled=seen > 1)


def _texts(
    result: Instances, labels: list[int], names: bool, scores: bool, remarks: Sequence[str | None] | None
) -> list[str]:
    words: list[list[str]] = [[] for _ in labels]
    if names and "labels" in result:
        for text, label in zip(words, labels, strict=True):
            known = result.classes is not None and 0 <= label < len(result.classes)
            text.append(result.classes[label] if known and result.classes is not None else f"class {label}")
    if scores and "scores" in result:
        for text, score in zip(words, result.scores.tolist(), strict=True):
            text.append(f"{score:.2f}")
    if remarks is not None:
        for text, remark in zip(words, remarks, strict=True):
            text += [f"· {remark}"] if remark else []
    return [" ".join(text) for text in words]


def _draw_class_map(picture: Image.Image, result: ClassMap, names: bool, opacity: float) -> Image.Image:
    labels = result.labels.cpu().numpy()
    height, width = labels.shape
    there, counts = np.unique(labels, return_counts=True)
    rows = np.minimum(np.arange(picture.height) * height // picture.height, height - 1)
    columns = np.minimum(np.arange(picture.width) * width // picture.width, width - 1)
    shown = labels[rows][:, columns]
    classes = result.classes
    clear = classes.index(BACKGROUND) if classes is not None and BACKGROUND in classes else None
    ids = there[there >= 0]
    palette = np.array([class_colour(int(i)) for i in ids], dtype=np.float32).reshape(-1, 3)
    pixels = np.asarray(picture).astype(np.float32)
    known = shown >= 0
    tinted = known if clear is None else known & (shown != clear)
    pixels[tinted] += (palette[np.searchsorted(ids, shown[tinted])] - pixels[tinted]) * opacity
    pixels[~known] *= 0.5  # pixels that do not count are darkened
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    if not names:
        return picture
    entries: list[tuple[str, Colour | None, str]] = []
    for i, count in sorted(zip(there.tolist(), counts.tolist(), strict=True), key=lambda entry: -entry[1]):
        name = "not counted" if i < 0 else result.classes[i] if result.classes is not None else f"class {i}"
        colour = None if i == clear else (40, 40, 40) if i < 0 else class_colour(i)
        share = 100 * count / labels.size
        entries.append((name, colour, f"{share:.0f} %" if share >= 0.5 else "< 1 %"))
    return _with_legend(picture, entries)


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour | None, str]]) -> Image.Image:
    """The picture over its legend: names, colours (None: an empty box), shares."""
    size = max(10, round(np.hypot(*picture.size) / 55))
    line = round(size * 1.6)
    fonts = [font_for(name, size) for name, _, _ in entries]
    entries = [(drawable(name), colour, share) for name, colour, share in entries]
    measure = ImageDraw.Draw(picture)
    widths = [
        round(measure.textlength(f"{name} {share}", font=font) + size * 2.6)
        for (name, _, share), font in zip(entries, fonts, strict=True)
    ]
    places, x, y = [], 0, 0
    for width in widths:
        if x and x + width > picture.width:
            x, y = 0, y + line
        places.append((x, y))
        x += width
    out = Image.new("RGB", (max(picture.width, *widths), picture.height + y + line), _PAPER)
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for (name, colour, share), font, (x, y) in zip(entries, fonts, places, strict=True):
        top = picture.height + y + line / 2
        box = (x + size * 0.5, top - size * 0.45, x + size * 1.4, top + size * 0.45)
        pen.rectangle(box, fill=colour, outline=_FAINT if colour is None else None)
        pen.text((x + size * 1.8, top), f"{name} {share}", fill=_INK, font=font, anchor="lm")
    return out


def _draw_class_scores(picture: Image.Image, result: ClassScores, scores: bool) -> Image.Image:
    size = max(11, round(np.hypot(*picture.size) / 50))
    truth = None if result.label is None else int(result.label)

    def name_of(i: int) -> str:
        return result.classes[i] if result.classes is not None else f"class {i}"

    rows: list[tuple[str, int, float | None]] = []
    if result.scores is not None:
        values, ids = result.scores.detach().cpu().float().topk(min(5, len(result.scores)))
        rows = [
            (name_of(i) + (" ✓" if i == truth else ""), i, value)
            for i, value in zip(ids.tolist(), values.tolist(), strict=True)
        ]
    if truth is not None and truth not in [i for _, i, _ in rows]:
        rows.append((f"label: {name_of(truth)}", truth, None))
    line = round(size * 1.7)
    out = Image.new("RGB", (picture.width, picture.height + line * len(rows) + size // 2), _PAPER)
    out.paste(picture, (0, 0))
    pen = ImageDraw.Draw(out)
    for position, (name, i, value) in enumerate(rows):
        middle = picture.height + size // 4 + line * position + line / 2
        if value is not None:
            end = max(2, round((picture.width - 2) * min(max(value, 0), 1)))
            pen.rectangle((0, middle + size * 0.55, end, middle + size * 0.75), fill=class_colour(i))
            if scores:
                right = (picture.width - size * 0.4, middle)
                pen.text(right, f"{value:.2f}", fill=_INK, font=font_for("", size), anchor="rm")
        ink = _INK if value is not None else _FAINT
        pen.text((size * 0.4, middle), drawable(name), fill=ink, font=font_for(name, size), anchor="lm")
    return out
