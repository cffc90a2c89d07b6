"""Semantic segmentation: one class per pixel."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size
from sightline.structures.tabular import Tabular
from sightline.words import listed

IGNORE = -1
"""The label of pixels that losses and metrics ignore, in a `ClassMap`."""


class LaterScores(Protocol):
    """Class probabilities that are computed when they are asked for."""

    def __call__(self) -> Tensor:
        """[K, H, W] float, the probability of each class at each pixel."""
        ...

    def to(self, device: torch.device | str) -> LaterScores:
        """The same on another device."""
        ...


class ClassMap(Tabular):
    """The target or prediction of semantic segmentation: one class per pixel.

    Args:
        labels: [H, W] class ids 0 … K−1, or `IGNORE`.
        classes: names of the classes, or None if they are unknown.
        scores: [K, H, W] float class probabilities of a prediction, or what computes them; None without.
        source: file or item that the map belongs to, or None.

    Attributes:
        labels: [H, W] int64.
        scores: as given. Probabilities that are still to be computed are computed at the first look, and then kept:
            they take K times as much memory as the map.

    Raises:
        InputError: a shape is wrong, or a label is neither a class id nor `IGNORE`.
    """

    def __init__(
        self,
        labels: Tensor,
        classes: Classes | None = None,
        scores: Tensor | LaterScores | None = None,
        source: str | None = None,
    ):
        what = f"{source}: " if source else ""
        if labels.ndim != 2:
            raise InputError(f"{what}a class map must have shape [height, width], not {list(labels.shape)}")
        if isinstance(scores, Tensor) and scores.shape[1:] != labels.shape:
            raise InputError(f"{what}scores {list(scores.shape)} do not fit a map of {list(labels.shape)}")
        self.labels, self.classes, self.source = labels.to(torch.int64), classes, source
        self._scores = scores
        if classes is not None and labels.device.type == "cpu" and labels.numel():
            low, high = (int(end) for end in self.labels.aminmax())
            if low < IGNORE or high >= len(classes):
                bad_id = low if low < IGNORE else high
                raise InputError(
                    f"{what}the map holds id {bad_id}, but there are {len(classes)} classes: "
                    f"ids are 0 to {len(classes) - 1}, or {IGNORE} for pixels to ignore"
                )

    @classmethod
    def unchecked(cls, labels: Tensor, classes: Classes | None, scores: Tensor | LaterScores | None = None) -> ClassMap:
        """Like the constructor, but without checking the values, for int64 labels that are valid by construction."""
        self = cls.__new__(cls)
        self.labels, self.classes, self.source, self._scores = labels, classes, None, scores
        return self

    @property
    def scores(self) -> Tensor | None:
        if self._scores is not None and not isinstance(self._scores, Tensor):
            self._scores = self._scores()
        return self._scores

    @property
    def image_size(self) -> Size:
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    def __repr__(self) -> str:
        height, width = self.image_size
        ids, counts = self.labels.unique(return_counts=True)
        most = sorted(zip(counts.tolist(), ids.tolist(), strict=True), reverse=True)
        names = ["not counted" if i < 0 else f"class {i}" if self.classes is None else self.classes[i] for _, i in most]
        shares = [f"{name} {100 * n / self.labels.numel():.1f} %" for name, (n, _) in zip(names, most, strict=True)]
        where = f" of {self.source}" if self.source else ""
        scores = ", with scores" if self._scores is not None else ""
        return f"ClassMap({width}×{height} pixels{where}{scores}: {listed(shares)})"

    def to_columns(self) -> dict[str, list[Any]]:
        """One row per class: image, class, label, pixels and fraction of the image; and one for ignored pixels, if any.

        All classes are listed if their names are known, else those that occur.
        """
        ids, counts = self.labels.unique(return_counts=True)
        found = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        known = dict.fromkeys(range(len(self.classes)), 0) if self.classes is not None else {}
        pixels = known | {label: count for label, count in found.items() if label != IGNORE}
        names = list(self.classes) if self.classes is not None else [f"class {label}" for label in pixels]
        if IGNORE in found:
            pixels[IGNORE] = found[IGNORE]
            names.append("ignored")
        total = max(1, self.labels.numel())
        return {
            "image": [self.source] * len(pixels),
            "class": names,
            "label": list(pixels),
            "pixels": list(pixels.values()),
            "fraction": [count / total for count in pixels.values()],
        }

    def to(self, device: torch.device | str) -> ClassMap:
        """The same map with every tensor on `device`."""
        scores = None if self._scores is None else self._scores.to(device)
        return ClassMap(self.labels.to(device), self.classes, scores, self.source)

    def named(self, source: str | None) -> ClassMap:
        """The same map with another `source`."""
        return ClassMap(self.labels, self.classes, self._scores, source)
