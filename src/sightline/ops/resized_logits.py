"""Class maps of logits on a coarser grid: the best class of each pixel, a few rows at a time.

The logits of all classes at the size of an image take far more memory than the map and than the network's own logits:
26 MB for 21 classes at 480×640. They are made for a few rows at a time, and only those who ask for the probabilities
get them for the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from sightline.structures import Size

_CACHE = 1 << 17  # number of logits at a time, which stay in a CPU's cache
_MEMORY = 1 << 26  # number of logits at a time on other devices


@dataclass(frozen=True)
class ResizedLogits:
    """Logits of one image of a padded batch, and the sizes that they are resized to, bilinearly and in this order.

    Calling it returns the class probabilities.

    Attributes:
        logits: [K, h, w] float, of the whole batch with its padding, on any grid.
        batch_size: (height, width) of the batch.
        size: (height, width) of the image within the batch, at its upper left. Padding is removed before the logits
            are resized once more.
        image_size: (height, width) of the original image.
    """

    logits: Tensor
    batch_size: Size
    size: Size
    image_size: Size

    def labels(self) -> Tensor:
        """The class with the largest logit at each pixel, the first of equal ones: [H, W] int64."""
        result = torch.empty(self.image_size, dtype=torch.int64, device=self.logits.device)
        for begin, rows in self._blocks():
            result[begin : begin + len(rows)] = rows.max(1).indices
        return result

    def __call__(self) -> Tensor:
        """Class probabilities, which sum to 1 at each pixel: [K, H, W] float32."""
        result = self.logits.new_empty((len(self.logits), *self.image_size), dtype=torch.float32)
        for begin, rows in self._blocks():
            result[:, begin : begin + len(rows)] = rows.softmax(1).transpose(0, 1)
        return result

    def to(self, device: torch.device | str) -> ResizedLogits:
        """The same on another device."""
        return replace(self, logits=self.logits.to(device))

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        """The first row of each part of the image, and its logits [rows, K, W] float32."""
        columns = self.logits[None].float()
        for (_, width), kept in ((self.batch_size, self.size[1]), (self.image_size, self.image_size[1])):
            if columns.shape[-1] != width:  # rows and columns are resized independently
                size = (columns.shape[-2], width)
                columns = F.interpolate(columns, size=size, mode="bilinear", align_corners=False)
            columns = columns[..., :kept]
        chain = [(self.logits.shape[1], self.batch_size[0]), (self.size[0], self.image_size[0])]
        steps = [_Rows.between(before, after, columns.device) for before, after in chain if before != after]
        maps = columns[0].transpose(0, 1)
        if steps:
            maps = maps.contiguous()
        limit = _CACHE if maps.device.type == "cpu" else _MEMORY
        step = max(1, limit // (maps.shape[1] * maps.shape[2]))
        for begin in range(0, self.image_size[0], step):
            yield begin, _rows(maps, steps, begin, min(begin + step, self.image_size[0]))


@dataclass(frozen=True)
class _Rows:
    """Linear interpolation between rows, with corners of pixels aligned as by `F.interpolate`.

    Attributes:
        low, high: [rows after] int64, the two rows that each row lies between.
        share: [rows after, 1, 1] float32, the weight of the second one.
    """

    low: Tensor
    high: Tensor
    share: Tensor

    @classmethod
    def between(cls, before: int, after: int, device: torch.device) -> _Rows:
        place = ((torch.arange(after, device=device) + 0.5) * (before / after) - 0.5).clamp(min=0)
        low = place.long().clamp(max=before - 1)
        return cls(low, (low + 1).clamp(max=before - 1), (place - low)[:, None, None])


def _rows(maps: Tensor, steps: Sequence[_Rows], begin: int, end: int) -> Tensor:
    """The rows `begin` to `end` of maps [h, K, W] after some steps of interpolation."""
    if not steps:
        return maps[begin:end]
    low, high, share = (values[begin:end] for values in (steps[-1].low, steps[-1].high, steps[-1].share))
    first = int(low[0])
    source = _rows(maps, steps[:-1], first, int(high[-1]) + 1)
    return torch.lerp(source.index_select(0, low - first), source.index_select(0, high - first), share)
