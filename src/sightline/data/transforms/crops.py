"""Pieces that choose a part of the picture, or its scale on a canvas, with an eye on the objects that must stay."""

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
    """Large-scale jitter: the picture grows or shrinks inside a canvas that keeps its size, at a random place.

    What grows beyond the canvas is cut, what shrinks is surrounded by fill. At least one object that was there stays:
    of `tries` places the first that keeps one is taken, and where none does the picture stays as it is.

    Args:
        scale: range of the factor, drawn uniformly in its logarithm, so that halving is as likely as doubling.
        aspect: range of the factor's width / height, so that shapes vary too; (1, 1) keeps them.
        size: (height, width) of the canvas; None keeps that of the picture.
        tries: places tried.
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
        # Whole pixels, so that the picture's border falls between pixels of the canvas.
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
    """The picture larger or smaller, and its canvas with it.

    Args:
        scale: range of the factor, drawn uniformly in its logarithm.
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
class RandomCrop(Geometric):
    """A window of at most `size` × `size` pixels at a random place; a picture that fits stays whole.

    Segmenters learn from crops (Long et al., "Fully convolutional networks", 2015, section 4.3, found that patches
    converge as whole images do), which take the memory and time of their own size.

    Args:
        size: side of the largest window in pixels.
        within_source: the window is not larger than the source image either. After `Rescale`, whose small pictures are
            padded to the largest of their batch, this keeps batches at the size of the images, and about halves the
            time of a step on small ones.
    """

    size: int = 320
    within_source: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"size is {self.size}, but a crop has at least 1 pixel a side; give 320 if in doubt")

    def step(self, view: Viewport, generator: np.random.Generator) -> tuple[np.ndarray, Size]:
        full = np.array([view.size[1], view.size[0]])
        extent = np.minimum(full, self.size)
        if self.within_source:
            extent = np.minimum(extent, view.source_size[::-1])
        corner = generator.integers(0, full - extent + 1)
        return _window(np.concatenate([corner, corner + extent]))


@dataclass(frozen=True)
class RandomResizedCrop(Geometric):
    """A window of random area, shape and place, resized to one size: how classifiers are trained.

    Of `tries` windows the first that fits into the picture is taken; where none does, the largest one in the middle
    whose shape is allowed.

    Args:
        size: (height, width) of the result. None is the size at which the model sees images, where that is known; the
            model then resizes nothing, and takes its centre crop out of the window. Otherwise windows are not resized.
        scale: range of the window's area as a share of the picture's.
        aspect: range of the window's width / height, drawn uniformly in its logarithm.
        tries: windows tried.

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
            raise InputError(f"scale is {self.scale}, but a window is at most the picture; give shares up to 1")

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
    """The picture shrunk by a random ratio on a canvas of its own size, at a random place.

    Equal to SSD's "expand" (Liu et al., 2016, section 3.6: the picture placed on a canvas `ratio` times as large)
    followed by the resizing that the detector does, at a fraction of the cost.
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

    A threshold is drawn from `min_iou` (1 or more: no crop), then `tries` windows; the first is taken that holds the
    centre of an object whose IoU with the window reaches the threshold, and that keeps this object by the rule of
    `Compose`. Where none does, the next threshold is drawn. An image without objects is not cropped.

    Args:
        min_iou: thresholds to choose from.
        scale: range of the window's width and height as shares of the picture's.
        aspect: range of the window's width / height, the picture counted as square.
        tries: windows tried for each threshold.
        p: probability.

    Source: Liu et al., "SSD", 2016, section 2.2. Departures: which objects stay is decided by their visible share
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
    """A window of random size and place that holds one randomly chosen object whole (anywhere where there is none).

    Args:
        scale: range of the window's area as a share of the picture's; grown where the object needs more.
        aspect: range of the factor on the picture's width / height.
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
        raise InputError(f"{name} is {limits}, but it must be (low, high) with {above} < low ≤ high")
