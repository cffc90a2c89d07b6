"""Features of the frames of films: a classification network on every frame, and small pictures that show motion."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.nn.backbones.features import FeatureMaps


class FrameMaps(nn.Module):
    """Films [N, C, H, T · W] → maps [N, D, G, T · G], one grid of G × G cells per frame, in the order of the frames.

    The channels of a cell are the features of the network, averaged over the cell, and then the pixels of the cell in a
    small picture of the frame, so that motion can be seen that the network's features do not show.

    Args:
        maps: feature maps of a classification network.
        frames: number of frames T.
        grid: number of cells G per side.
        pixels: side in pixels of the part of the small picture in each cell.
    """

    def __init__(self, maps: FeatureMaps, frames: int, grid: int, pixels: int):
        super().__init__()
        self.maps, self.frames, self.grid, self.pixels = maps, frames, grid, pixels

    @property
    def features(self) -> int:
        """Number of channels of the network's features; the others are pixels."""
        return sum(self.maps.channels)

    def forward(self, films: Tensor) -> Tensor:
        frames = as_frames(films, self.frames)
        size = (self.grid, self.grid)
        found = [F.adaptive_avg_pool2d(own, size) for own in self.maps(frames).values()]
        small = F.interpolate(
            frames, size=self.grid * self.pixels, mode="bilinear", align_corners=False, antialias=True
        )
        return as_films(torch.cat([*found, F.pixel_unshuffle(small, self.pixels)], 1), self.frames)


class FilmFeatures(nn.Module):
    """The backbone of models of films: `FrameMaps` as a sequence of one layer, whose parts are those of its network.

    Args:
        layer: see `FrameMaps`.
    """

    taken = ("frames",)

    def __init__(self, layer: FrameMaps):
        super().__init__()
        self.frames = layer

    def layers(self) -> dict[str, nn.Module]:
        """The layer by name."""
        return {"frames": self.frames}

    def part_layers(self) -> dict[str, list[nn.Module]]:
        """The layers of each part of the network that can be frozen."""
        return self.frames.maps.part_layers()

    def map_layers(self) -> list[nn.Module]:
        """The layer whose output is the map of a film."""
        return [self.frames]

    def forward(self, films: Tensor) -> Tensor:
        found: Any = self.frames(films)
        return found


class CellEncoder(nn.Module):
    """Maps of `FrameMaps` [N, D, G, T · G] → cells [N, width + 1, G, T · G] that know what moves in them, and how.

    Appearance comes from the network's features by a 1 × 1 convolution. Motion comes from the small pictures: each with
    its differences from the picture before and after it. Residual blocks then mix neighbouring moments and cells. The
    last channel is how much moves in a cell: the mean absolute difference of its pixels.

    Args:
        features: number of channels of the network's features.
        channels: number of channels of the small pictures.
        frames, pixels: as for `FrameMaps`; `pixels` is a power of 2.
        width: number of channels of the cells.
        blocks: number of residual blocks.
    """

    def __init__(self, features: int, channels: int, frames: int, pixels: int, width: int, blocks: int):
        super().__init__()
        self.features, self.frames, self.pixels = features, frames, pixels
        self.appearance = nn.Sequential(nn.Conv2d(features, width, 1, bias=False), nn.BatchNorm2d(width))
        steps = pixels.bit_length() - 1
        widths = [3 * channels, *(max(16, width >> (steps - k)) for k in range(1, steps)), width]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()] if k < steps - 1 else []
        self.motion = nn.Sequential(*layers)
        self.blocks = nn.ModuleList(MomentBlock(width) for _ in range(blocks))

    def forward(self, films: Tensor) -> Tensor:
        frames, count = as_frames(films, self.frames), self.frames
        small = F.pixel_shuffle(frames[:, self.features :], self.pixels).unflatten(0, (-1, count))
        changes = F.pad(
            small.diff(dim=1), (0, 0, 0, 0, 0, 0, 1, 1)
        )  # nothing before the first and after the last frame
        pictures = torch.cat([small, changes[:, :-1], changes[:, 1:]], 2).flatten(0, 1)
        cells = F.relu(self.appearance(frames[:, : self.features]) + self.motion(pictures))
        for block in self.blocks:
            cells = block(cells, count)
        moved = (changes[:, :-1].abs() + changes[:, 1:].abs()).mean(2).flatten(0, 1)[:, None] / 2
        return as_films(torch.cat([cells, F.avg_pool2d(moved, self.pixels)], 1), count)


class MomentBlock(nn.Module):
    """A residual block on frames [N · T, D, G, G]: a convolution over 3 moments, and one over 3 × 3 cells."""

    in_order = (("moments", "norm1"), ("cells", "norm2"))  # for `fuse`

    def __init__(self, width: int):
        super().__init__()
        self.moments = nn.Conv2d(width, width, (3, 1), padding=(1, 0), bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.cells = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, count: int) -> Tensor:
        """`count` is T."""
        grid = x.shape[-2:]
        along = x.unflatten(0, (-1, count)).transpose(1, 2).flatten(3)  # [N, D, T, G · G]
        y = self.moments(along).unflatten(3, grid).transpose(1, 2).flatten(0, 1)
        return F.relu(x + self.norm2(self.cells(F.relu(self.norm1(y)))))


def as_frames(films: Tensor, count: int) -> Tensor:
    """Films [N, C, H, T · W] → frames [N · T, C, H, W], clip by clip."""
    n, c, h, w = films.shape
    return films.reshape(n, c, h, count, w // count).permute(0, 3, 1, 2, 4).reshape(n * count, c, h, w // count)


def as_films(frames: Tensor, count: int) -> Tensor:
    """Frames [N · T, C, H, W] → films [N, C, H, T · W]; the inverse of `as_frames`."""
    c, h, w = frames.shape[1:]
    return frames.reshape(-1, count, c, h, w).permute(0, 2, 3, 1, 4).reshape(-1, c, h, count * w)
