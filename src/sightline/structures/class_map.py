"""Semantic segmentation: one class per pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.structures.classes import Classes
from sightline.structures.size import Size
from sightline.structures.tabular import Tabular
from sightline.words import listed

IGNORE = -1
"""The label of pixels that losses and metrics ignore, in a `ClassMap`."""


@dataclass(frozen=True, repr=False)
class ClassMap(Tabular):
    """The target or prediction of semantic segmentation: one class per pixel.

    Attributes:
        labels: [H, W] int64 class ids 0 … K−1, or `IGNORE`.
        classes: names of the classes, or None if they are unknown.
        scores: [K, H, W] float class probabilities of a prediction, or None.
        source: file or item that the map belongs to, or None.

    Raises:
        InputError: a shape is wrong, or a label is neither a class id nor `IGNORE`.
    """

    labels: Tensor
    classes: Classes | None = None
    scores: Tensor | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        what = f"{self.source}: " if self.source else ""
        if self.labels.ndim != 2:
            raise InputError(f"{what}a class map must have shape [height, width], not {list(self.labels.shape)}")
        if self.scores is not None and self.scores.shape[1:] != self.labels.shape:
            raise InputError(f"{what}scores {list(self.scores.shape)} do not fit a map of {list(self.labels.shape)}")
        object.__setattr__(self, "labels", self.labels.to(torch.int64))
        if self.classes is not None and self.labels.device.type == "cpu" and self.labels.numel():
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < IGNORE or high >= len(self.classes):
                bad_id = low if low < IGNORE else high
                raise InputError(
                    f"{what}the map holds id {bad_id}, but there are {len(self.classes)} classes: "
                    f"ids are 0 to {len(self.classes) - 1}, or {IGNORE} for pixels to ignore"
                )

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
        scores = ", with scores" if self.scores is not None else ""
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
        scores = None if self.scores is None else self.scores.to(device)
        return ClassMap(self.labels.to(device), self.classes, scores, self.source)
