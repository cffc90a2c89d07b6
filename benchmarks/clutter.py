"""Images of clutter with boxes: 256 made-up classes, each an outline with a surface, for pretraining detectors.

Every image has a textured background, pieces that belong to no class, and objects of random size, rotation, aspect and
colours that cover each other in part; then light, blur and noise. What tells a class are its outline and its surface,
never its colour. Nothing is taken from photographs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from sightline.structures import Classes, Instances

Draw = np.random.Generator
Pixels = np.ndarray


def _star(points: int, inner: float) -> Callable[[Draw], np.ndarray]:
    """A polygon of `points` tips, between which the radius is `inner`."""

    def outline(draw: Draw) -> np.ndarray:
        turn = np.arange(2 * points) * np.pi / points
        radius = np.where(np.arange(2 * points) % 2, inner * draw.uniform(0.9, 1.1), 1.0)
        return np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)

    return outline


def _polar(radius: Callable[[np.ndarray, Draw], np.ndarray]) -> Callable[[Draw], np.ndarray]:
    """A closed curve by its radius at 72 angles."""

    def outline(draw: Draw) -> np.ndarray:
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        r = radius(turn, draw)
        return np.stack([r * np.cos(turn), r * np.sin(turn)], 1) / np.abs(r).max()

    return outline


def _corners(*corners: tuple[float, float]) -> Callable[[Draw], np.ndarray]:
    return lambda draw: np.array(corners) * draw.uniform(0.9, 1.1, (1, 2))


def _blob(turn: np.ndarray, draw: Draw) -> np.ndarray:
    waves = sum(draw.uniform(-0.25, 0.25) * np.cos(k * turn + draw.uniform(0, 6)) for k in (2, 3, 4, 5))
    return 1 + np.asarray(waves)


def _crescent(draw: Draw) -> np.ndarray:
    turn = np.linspace(0.6, 2 * np.pi - 0.6, 40)
    outer = np.stack([np.cos(turn), np.sin(turn)], 1)
    return np.concatenate([outer, outer[::-1] * (0.72, 0.72) + (0.25, 0)])


def _heart(draw: Draw) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], 1) / 17


OUTLINES: dict[str, Callable[[Draw], np.ndarray]] = {
    "disc": _polar(lambda turn, draw: np.ones_like(turn)),
    "square": _corners((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),
    "bar": _corners((-1, -0.25), (1, -0.25), (1, 0.25), (-1, 0.25)),
    "triangle": _corners((0, -1), (0.87, 0.5), (-0.87, 0.5)),
    "hexagon": _star(3, 1.0),
    "star": _star(5, 0.42),
    "burst": _star(11, 0.7),
    "cross": _corners(
        *((-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)),
        *((0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)),
    ),
    "arrow": _corners((-1, -0.25), (0.2, -0.25), (0.2, -0.7), (1, 0), (0.2, 0.7), (0.2, 0.25), (-1, 0.25)),
    "corner": _corners((-0.8, -1), (-0.1, -1), (-0.1, 0.4), (0.8, 0.4), (0.8, 1), (-0.8, 1)),
    "tee": _corners((-1, -0.8), (1, -0.8), (1, -0.2), (0.3, -0.2), (0.3, 1), (-0.3, 1), (-0.3, -0.2), (-1, -0.2)),
    "flower": _polar(lambda turn, draw: 0.75 + 0.25 * np.cos(5 * turn)),
    "drop": _polar(lambda turn, draw: 0.55 + 0.45 * np.maximum(np.cos(turn), 0) ** 6),
    "blob": _polar(_blob),
    "crescent": _crescent,
    "heart": _heart,
}
"""Outlines within about [-1, 1]², [P, 2]."""


def _fold(x: Pixels) -> Pixels:
    """Triangle wave of period 1, between 0 and 1."""
    return np.abs(2 * (x - np.floor(x)) - 1)


def noise(draw: Draw, shape: tuple[int, int], cells: int) -> Pixels:
    """Smooth noise in [0, 1] with about `cells` bumps along the longer side."""
    longer = max(shape)
    grid = draw.random((max(2, cells * shape[0] // longer + 1), max(2, cells * shape[1] // longer + 1)), np.float32)
    return np.clip(np.asarray(Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC)), 0, 1)


def _scattered(u: Pixels, v: Pixels, draw: Draw) -> Pixels:
    """Distance from the nearest of 12 points, with the period of about their distance."""
    places = draw.uniform(-1, 1, (12, 2)).astype(np.float32)
    return np.sqrt(np.min([(u - x) ** 2 + (v - y) ** 2 for x, y in places], axis=0))


SURFACES: dict[str, Callable[[Pixels, Pixels, Draw], Pixels]] = {
    "plain": lambda u, v, draw: np.zeros_like(u),
    "graded": lambda u, v, draw: np.clip(u / 2 + 0.5, 0, 1),
    "lit": lambda u, v, draw: np.clip(np.hypot(u - 0.3, v + 0.3), 0, 1),
    "cloudy": lambda u, v, draw: noise(draw, u.shape, 5),
    "grainy": lambda u, v, draw: noise(draw, u.shape, 24),
    "striped": lambda u, v, draw: (_fold(2.2 * u) > 0.5).astype(np.float32),
    "fluted": lambda u, v, draw: _fold(4 * u),
    "chequered": lambda u, v, draw: ((_fold(1.7 * u) > 0.5) ^ (_fold(1.7 * v) > 0.5)).astype(np.float32),
    "dotted": lambda u, v, draw: (np.hypot(_fold(2 * u) - 0.5, _fold(2 * v) - 0.5) < 0.33).astype(np.float32),
    "meshed": lambda u, v, draw: (np.minimum(_fold(2 * u), _fold(2 * v)) < 0.25).astype(np.float32),
    "ringed": lambda u, v, draw: (_fold(2.5 * np.hypot(u, v)) > 0.5).astype(np.float32),
    "waved": lambda u, v, draw: (_fold(2.2 * u + 0.4 * np.sin(7 * v)) > 0.5).astype(np.float32),
    "halved": lambda u, v, draw: (u > 0).astype(np.float32),
    "cored": lambda u, v, draw: (np.hypot(u, v) < 0.45).astype(np.float32),
    "celled": lambda u, v, draw: np.clip(2.2 * _scattered(u, v, draw), 0, 1),
    "spoked": lambda u, v, draw: (_fold(np.arctan2(v, u) * 3 / np.pi) > 0.5).astype(np.float32),
}
"""The share of the second of two colours, of positions in [-1, 1]²."""
CLASSES = [f"{surface} {outline}" for outline in OUTLINES for surface in SURFACES]


def _colours(draw: Draw) -> np.ndarray:
    """Two colours [2, 3] in [0, 255], of which the second differs by at least 70 in brightness."""
    first = draw.uniform(0, 255, 3)
    second = draw.uniform(0, 255, 3)
    shift = second.mean() - first.mean()
    if abs(shift) < 70:
        second = second + (70 if first.mean() < 128 else -70) - shift
    return np.clip(np.stack([first, second]), 0, 255).astype(np.float32)


def _frame(shape: tuple[int, int], centre: tuple[float, float], axes: np.ndarray) -> tuple[Pixels, Pixels]:
    """Coordinates of an object's own frame at each pixel; `axes` [2, 2] maps that frame to pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    u, v = np.linalg.inv(axes) @ np.stack([x.ravel() - centre[0], y.ravel() - centre[1]])
    return u.reshape(shape).astype(np.float32), v.reshape(shape).astype(np.float32)


def _piece(draw: Draw, outline: str, surface: str, size: float) -> tuple[Pixels, Pixels]:
    """Colours [h, w, 3] and coverage [h, w] of one object, cropped to its box; `size` is its extent in pixels."""
    stretch = draw.uniform(0.75, 1.33)
    turn, half = draw.uniform(0, 2 * np.pi), size / 2
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    axes = rotation @ np.diag([half * np.sqrt(stretch), half / np.sqrt(stretch)])
    corners = OUTLINES[outline](draw) @ axes.T
    low, high = corners.min(0), corners.max(0)
    width, height = np.maximum(np.ceil(high - low).astype(int), 3)
    canvas = Image.new("L", (2 * width, 2 * height))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in 2 * (corners - low)], fill=255)
    cover = np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float32) / 255
    u, v = _frame((height, width), (-low[0], -low[1]), axes)
    share = SURFACES[surface](u, v, draw)[..., None]
    first, second = _colours(draw)
    light = 1 + draw.uniform(0, 0.35) * np.clip(-(u + v) / 2, -1, 1)[..., None]
    return np.clip((first + (second - first) * share) * light, 0, 255), cover


def _background(draw: Draw, size: int) -> Pixels:
    half = draw.uniform(0.1, 0.8) * size
    turn = draw.uniform(0, 2 * np.pi)
    axes = half * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    u, v = _frame((size, size), tuple(draw.uniform(0, size, 2)), axes)
    share = SURFACES[draw.choice(list(SURFACES))](u, v, draw)[..., None]
    first, second = _colours(draw)
    image = first + (second - first) * share * draw.uniform(0.1, 1)
    for cells in (int(draw.integers(2, 8)), int(draw.integers(10, 60))):
        image = image + draw.uniform(0, 60) * (noise(draw, (size, size), cells)[..., None] - 0.5)
    return image


def _scribble(draw: Draw, image: Pixels) -> Pixels:
    """Lines and splinters that belong to no class."""
    size = len(image)
    canvas = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(draw.integers(0, 16))):
        ink = tuple(int(c) for c in draw.integers(0, 256, 3))
        start = draw.uniform(0, size, 2)
        points = [tuple(start + step) for step in draw.normal(0, draw.uniform(0.03, 0.25) * size, (3, 2))]
        if draw.random() < 0.5:
            pen.line(points, fill=ink, width=int(draw.integers(1, 5)))
        else:
            pen.polygon(points, fill=ink)
    return np.asarray(canvas, np.float32)


def _exposed(draw: Draw, image: Pixels) -> Pixels:
    """Light that varies over the image, blur, and noise of the sensor."""
    size = len(image)
    image = image * (1 + draw.uniform(0, 0.5) * (noise(draw, (size, size), 2)[..., None] - 0.5))
    if draw.random() < 0.5:
        soft = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        image = np.asarray(soft.filter(ImageFilter.GaussianBlur(draw.uniform(0.3, 1.6))), np.float32)
    image = image + draw.normal(0, draw.uniform(0, 10), image.shape).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def clutter(draw: Draw, size: int = 224) -> tuple[Tensor, Instances]:
    """An image [3, size, size] uint8 and the boxes and labels (0 … 255) of its objects."""
    image = _scribble(draw, _background(draw, size))
    owner = np.full((size, size), -1)
    labels, areas = [], []
    count, scale = int(draw.integers(1, 13)), draw.uniform(0.06, 0.5)
    for number in range(count):
        label = int(draw.integers(len(CLASSES)))
        surface, outline = CLASSES[label].split(" ")
        colours, cover = _piece(draw, outline, surface, size * scale * draw.uniform(0.6, 1.6))
        height, width = cover.shape
        left, top = (int(draw.integers(-side // 4, size - side + side // 4 + 1)) for side in (width, height))
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, size), min(top + height, size)
        labels.append(label)
        areas.append(float((cover > 0.5).sum()))
        if x1 <= x0 or y1 <= y0:
            continue
        inner = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        alpha = cover[inner][..., None]
        place = (slice(y0, y1), slice(x0, x1))
        image[place] += alpha * (colours[inner] - image[place])
        owner[place][cover[inner] > 0.5] = number
    boxes, kept = [], []
    for number, (label, area) in enumerate(zip(labels, areas, strict=True)):
        rows, columns = np.nonzero(owner == number)
        if len(rows) >= max(12.0, 0.35 * area):
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            kept.append(label)
    pixels = torch.from_numpy(np.ascontiguousarray(_exposed(draw, image).transpose(2, 0, 1)))
    return pixels, Instances(
        (size, size),
        classes=Classes(CLASSES),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(kept, dtype=torch.int64),
    )
