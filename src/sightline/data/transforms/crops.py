"""Transforms that choose a part of the image, or its scale on a canvas, depending on the objects to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sightline.data.transforms.compose import Geometric, Viewport
from sightline.data.transforms.geometry import Resize, affine
from sightline.errors import InputError
from sightline.structures import Size


@dataclass(frozen=True)
class ScaleJitter(Geometric):
    """Large-scale jitter: the image is scaled inside a canvas of fixed size, at a random position.

    Parts beyond the canvas are cropped, and a smaller image is surrounded by fill. At least one object is kept: of
    `tries` positions, the first that keeps one is used. If none does, the image is not changed.

    Args:
        scale: range of the factor, drawn log-uniformly, so that halving is as likely as doubling.
        aspect: range of the factor's width / height, which varies shapes; (1, 1) keeps them.
        size: (height, width) of the canvas; None for that of the image.
        tries: number of positions tried.
        p: probability.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method", 2021, section 3 (there the factor
    is uniform in 0.1 … 2 and the canvas fixed).
    """

    scale: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] = (1.0, 1.0)
    size: Size | None = None
    tries: int = 10
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_range("scale", self.scale, above=0)
        _check_range("aspect", self.aspect, above=0)

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        jitter = generator.random() < self.p
        height, width = view.size
        canvas = self.size or view.size
        fit = min(canvas[0] / height, canvas[1] / width)
        scale = fit * (_log_uniform(generator, self.scale) if jitter else 1.0)
        stretch = math.sqrt(_log_uniform(generator, self.aspect)) if jitter else 1.0
        # Whole pixels, so that the image's border falls between pixels of the canvas.
        inner = (max(1, round(height * scale / stretch)), max(1, round(width * scale * stretch)))
        room = np.array([canvas[1] - inner[1], canvas[0] - inner[0]])
        places = generator.integers(np.minimum(room, 0), np.maximum(room, 0) + 1, size=(self.tries, 2))
        grow = np.array([inner[1] / width, inner[0] / height])
        boxes = view.boxes
        if view.kept(np.array([[0, 0, width, height]]), boxes).any():
            windows = np.concatenate([-places, [canvas[1], canvas[0]] - places], axis=1)
            places = places[view.kept(windows, boxes * np.tile(grow, 2)).any(1)]
            if not len(places):
                return (np.eye(3), view.size) if self.size is None else Resize(canvas).step(view, generator)
        left, top = places[0]
        return affine(grow[0], 0, left, 0, grow[1], top), canvas


@dataclass(frozen=True)
class Rescale(Geometric):
    """Scale the image together with its canvas.

    Args:
        scale: range of the factor, drawn log-uniformly.
        aspect: range of the factor's width / height; (1, 1) keeps shapes.
        p: probability.
    """

    scale: tuple[float, float] = (0.67, 1.5)
    aspect: tuple[float, float] = (1.0, 1.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_range("scale", self.scale, above=0)
        _check_range("aspect", self.aspect, above=0)

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        height, width = view.size
        scale, stretch = _log_uniform(generator, self.scale), math.sqrt(_log_uniform(generator, self.aspect))
        size = (max(1, round(height * scale / stretch)), max(1, round(width * scale * stretch)))
        return affine(size[1] / width, 0, 0, 0, size[0] / height, 0), size


@dataclass(frozen=True)
class ModelScale(Geometric):
    """Scale the image as the model will, so that later steps are in pixels that the model sees.

    Args:
        side: length of the shorter side after scaling. If None, it is the one that the model resizes images to, if it
            resizes them; otherwise the image is not scaled.
    """

    side: int | None = None

    def sized(self, size: Size | None) -> ModelScale:
        return self if self.side is not None or size is None else replace(self, side=min(size))

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if self.side is None:
            return np.eye(3), view.size
        height, width = view.size
        scale = self.side / min(view.size)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return affine(size[1] / width, 0, 0, 0, size[0] / height, 0), size


@dataclass(frozen=True)
class RandomCrop(Geometric):
    """Crop a window of at most `size` × `size` pixels at a random position; smaller images are not cropped.

    Segmentation models learn from crops, which take memory and time in proportion to their size (Long et al., "Fully
    convolutional networks", 2015, section 4.3, found that patches converge like whole images).

    Args:
        size: side of the largest window in pixels.
        within_source: limit the window to the size of the source image. After `Rescale`, whose small images are padded
            to the largest of their batch, this keeps batches at the size of the images, and about halves the time of a
            step on small ones.
        seen: for a model that resizes the shorter side of images, the window is a square of this side, which the model
            does not resize; a smaller image is surrounded by fill. Such a model would enlarge other windows, and so
            learn at another scale than that at which it predicts. Use it after `ModelScale`.
        exact: the window is always `size` × `size`; set by `seen`.
    """

    size: int = 320
    within_source: bool = False
    seen: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size is {self.size}, but a crop has at least 1 pixel per side; the default is 320")

    def sized(self, size: Size | None) -> RandomCrop:
        return replace(self, size=min(size), exact=True) if self.seen and size is not None else self

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        full = np.array([view.size[1], view.size[0]])
        if self.exact:
            room = full - self.size
            corner = generator.integers(np.minimum(room, 0), np.maximum(room, 0) + 1)
            return _window(np.concatenate([corner, corner + self.size]))
        extent = np.minimum(full, self.size)
        if self.within_source:
            extent = np.minimum(extent, view.source_size[::-1])
        corner = generator.integers(0, full - extent + 1)
        return _window(np.concatenate([corner, corner + extent]))


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """Crop a window of random area, aspect ratio and position and resize it to one size, as for training classifiers.

    Of `tries` windows, the first that fits into the image is used. If none fits, the largest centred window with an
    allowed aspect ratio is used.

    Args:
        size: (height, width) of the result. If None, it is the size at which the model sees images, if known; the model
            then resizes nothing, and takes its centre crop from the window. Otherwise windows are not resized.
        scale: range of the window's area as a fraction of the image's.
        aspect: range of the window's width / height, drawn log-uniformly.
        tries: number of windows tried.

    Source: Szegedy et al., "Going deeper with convolutions", 2015, section 6.
    """

    size: Size | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    tries: int = 10

    def __post_init__(self) -> None:
        _check_range("scale", self.scale, above=0)
        _check_range("aspect", self.aspect, above=0)
        if self.scale[1] > 1:
            raise InputError(f"scale is {self.scale}, but a window is at most the image; give fractions up to 1")

    def sized(self, size: Size | None) -> RandomResizedCrop:
        return self if self.size is not None or size is None else replace(self, size=size)

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        height, width = view.size
        for _ in range(self.tries):
            area = height * width * generator.uniform(*self.scale)
            shape = _log_uniform(generator, self.aspect)
            w, h = max(1, round(math.sqrt(area * shape))), max(1, round(math.sqrt(area / shape)))
            if w <= width and h <= height:
                left, top = int(generator.integers(0, width - w + 1)), int(generator.integers(0, height - h + 1))
                break
        else:
            w = max(1, min(width, round(height * self.aspect[1])))
            h = max(1, min(height, round(width / self.aspect[0])))
            left, top = (width - w) // 2, (height - h) // 2
        out = self.size or (h, w)
        return affine(out[1] / w, 0, -left * out[1] / w, 0, out[0] / h, -top * out[0] / h), out


@dataclass(frozen=True)
class ZoomOut(Geometric):
    """Shrink the image by a random ratio on a canvas of its size, at a random position.

    Equivalent to SSD's "expand" (Liu et al., 2016, section 3.6: the image is placed on a canvas `ratio` times as large)
    followed by the resizing of the detector, but much cheaper.
    """

    ratio: tuple[float, float] = (1.0, 4.0)
    p: float = 0.5

    def __post_init__(self) -> None:
        _check_range("ratio", self.ratio, above=0)
        if self.ratio[0] < 1:
            raise InputError(
                f"ratio is {self.ratio}, but zooming out needs ratios of at least 1; use ScaleJitter for both"
            )

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        shrink = 1 / generator.uniform(*self.ratio)
        return ScaleJitter((shrink, shrink)).step(view, generator)


@dataclass(frozen=True)
class IoUCrop(Geometric):
    """SSD's crop: a window whose IoU with some object is at least a randomly chosen threshold.

    A threshold is drawn from `min_iou` (1 or more: no crop), then `tries` windows. The first window is used that
    contains the centre of an object, has at least this IoU with it, and keeps it by the rule of `Compose`. If there is
    none, the next threshold is drawn. An image without objects is not cropped.

    Args:
        min_iou: thresholds to choose from.
        scale: range of the window's width and height as fractions of the image's.
        aspect: range of the window's width / height relative to that of the image.
        tries: number of windows tried per threshold.
        p: probability.

    Source: Liu et al., "SSD", 2016, section 2.2. Departures: objects are kept by their visible fraction
    (`Compose.min_visible`), not by their centre; each threshold is tried once.
    """

    min_iou: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    scale: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    tries: int = 40
    p: float = 1.0

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        height, width = view.size
        boxes = view.boxes
        if generator.random() >= self.p or not len(boxes):
            return np.eye(3), view.size
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        for threshold in generator.permutation(self.min_iou):
            if threshold >= 1:
                break
            share = generator.uniform(*self.scale, size=(self.tries, 2))
            ratio = share[:, 0] / share[:, 1]
            extent = np.maximum((share * [width, height]).astype(np.int64), 1)
            low = generator.integers(0, np.array([width, height]) - extent + 1)
            windows = np.concatenate([low, low + extent], axis=1)
            overlap = np.minimum(boxes[:, 2:], windows[:, None, 2:]) - np.maximum(boxes[:, :2], windows[:, None, :2])
            common = overlap.clip(0).prod(2)
            iou = common / np.maximum(extent.prod(1)[:, None] + areas - common, 1e-12)
            centred = ((centres > windows[:, None, :2]) & (centres < windows[:, None, 2:])).all(2)
            good = (centred & (iou >= threshold) & view.kept(windows, boxes)).any(1)
            good &= (ratio >= self.aspect[0]) & (ratio <= self.aspect[1])
            if good.any():
                return _window(windows[np.flatnonzero(good)[0]])
        return np.eye(3), view.size


@dataclass(frozen=True)
class SafeCrop(Geometric):
    """Crop a window of random size and position that contains one randomly chosen object (if there is one).

    Args:
        scale: range of the window's area as a fraction of the image's; the window is enlarged to contain the object.
        aspect: range of the factor on the image's width / height.
        p: probability.
    """

    scale: tuple[float, float] = (0.4, 1.0)
    aspect: tuple[float, float] = (0.75, 1.33)
    p: float = 0.5

    def __post_init__(self) -> None:
        _check_range("scale", self.scale, above=0)
        _check_range("aspect", self.aspect, above=0)

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        if generator.random() >= self.p:
            return np.eye(3), view.size
        full = np.array([view.size[1], view.size[0]])
        side = math.sqrt(generator.uniform(*self.scale))
        stretch = math.sqrt(_log_uniform(generator, self.aspect))
        extent = np.minimum(np.maximum(np.round(full * side * [stretch, 1 / stretch]), 1), full).astype(np.int64)
        lowest, highest = np.zeros(2, dtype=np.int64), full - extent
        boxes = view.boxes
        inside = np.concatenate([boxes[:, :2].clip(0), np.minimum(boxes[:, 2:], full)], axis=1)
        inside = inside[(inside[:, 2:] - inside[:, :2] >= 1).all(1)]
        if len(inside):
            chosen = inside[generator.integers(len(inside))]
            low, high = np.floor(chosen[:2]).astype(np.int64), np.ceil(chosen[2:]).astype(np.int64)
            extent = np.maximum(extent, high - low)
            lowest = np.maximum(high - extent, 0)
            highest = np.minimum(low, full - extent)
        corner = generator.integers(lowest, highest + 1)
        return _window(np.concatenate([corner, corner + extent]))


def _window(window: np.ndarray) -> tuple[np.ndarray, Size]:
    x1, y1, x2, y2 = (int(value) for value in window)
    return affine(1, 0, -x1, 0, 1, -y1), (y2 - y1, x2 - x1)


def _log_uniform(generator: np.random.Generator, limits: tuple[float, float]) -> float:
    return math.exp(generator.uniform(math.log(limits[0]), math.log(limits[1])))


def _check_range(name: str, limits: tuple[float, float], above: float) -> None:
    low, high = limits
    if not above < low <= high:
        raise InputError(f"{name} is {limits}, but must be (low, high) with {above} < low ≤ high")
