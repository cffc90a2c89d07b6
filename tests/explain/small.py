"""A small model whose maps are easy to work out, and images for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import sightline as sl
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.structures import ClassScores, ImageBatch


class SmallClassifier(Model):
    """Two 3×3 convolutions, the first of stride 2, with positive weights; global average pooling; a dense layer."""

    task = "classification"

    def __init__(self, channels: int = 6, size: int = 24):
        super().__init__(
            ["red", "blue"], Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), min_size=size, max_size=2 * size, divisor=8)
        )
        self.first = nn.Conv2d(3, channels, 3, 2, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        self.dense = nn.Linear(channels, 2)
        for layer in (self.first, self.second):
            nn.init.uniform_(layer.weight, 0.1, 1.0, generator=torch.Generator().manual_seed(0))

    def batch_results(self, batch: ImageBatch) -> list[Any]:
        maps = self.second(self.first(batch.tensor))
        scores = self.dense(maps.mean((2, 3))).softmax(1)
        sizes = batch.original_sizes
        return [ClassScores(size, scores=row, classes=self.classes) for size, row in zip(sizes, scores, strict=True)]


def labelled(count: int = 12, size: tuple[int, int] = (24, 32)) -> sl.Dataset:
    """Images of noise with a bright square of one of two colours, which is their class."""
    generator = torch.Generator().manual_seed(1)
    images, labels = [], []
    for i in range(count):
        image = torch.randint(0, 60, (3, *size), generator=generator, dtype=torch.uint8)
        y, x = (int(torch.randint(0, side - 6, (), generator=generator)) for side in size)
        image[2 * (i % 2), y : y + 6, x : x + 6] = 255
        images.append(image)
        labels.append(i % 2)
    return sl.Dataset.from_labels(images, labels, ["red", "blue"])
