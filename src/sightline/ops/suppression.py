"""Non-maximum suppression (NMS): greedy, per class, and Soft-NMS.

Plain PyTorch for any device; results equal torchvision's. Boxes are sorted by position, and each box is compared only
with boxes that are near enough to overlap it. Greedy selection then uses the short list of overlapping pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.errors import InputError

_TILE = (1 << 15) - 1  # comparisons at a time on a processor: they stay in its cache, and in one thread of PyTorch's
_HEAD = 1024  # boxes of highest score that go first where many pairs are to be feared
_PAIRS = 1 << 20  # pairs that may be held at a time


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4] float, (x1, y1, x2, y2) pixels.
        scores: [N] float.
        iou_threshold: threshold in [0, 1]. A box is removed if its IoU with a selected box of higher score is above it.
            As in torchvision, the IoU is float32 and the threshold float64, so an IoU of 3/10 is above 0.3.

    Returns:
        [K] int64 indices of the selected boxes in descending order of scores; ties keep their order.

    Raises:
        InputError: shapes do not fit, or the threshold is not in [0, 1].
    """
    _check(boxes, scores, iou_threshold)
    order = scores.argsort(stable=True, descending=True)
    return _of(order, _greedy(_Boxes.of(_of(boxes, order), None, iou_threshold), iou_threshold))


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each class, level or image: boxes with different labels do not affect each other.

    Labels are compared directly, without offsets on the coordinates, so large coordinates lose no precision.

    Args:
        boxes: [N, 4] float, (x1, y1, x2, y2) pixels.
        scores: [N] float.
        labels: [N] integer; any ids.
        iou_threshold: as for `nms`.

    Returns:
        [K] int64 indices of the selected boxes of all labels in descending order of scores; ties keep their order.

    Raises:
        InputError: shapes do not fit, or the threshold is not in [0, 1].
    """
    _check(boxes, scores, iou_threshold, labels)
    order = scores.argsort(stable=True, descending=True)
    return _of(order, _greedy(_Boxes.of(_of(boxes, order), _of(labels, order), iou_threshold), iou_threshold))


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "gaussian",
    iou_threshold: float = 0.3,
    labels: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS (Bodla et al. 2017): decreases the scores of overlapping boxes instead of removing them.

    Repeatedly, the box with the highest score is selected, and the scores of the others are decreased according to
    their IoU with it.

    Args:
        boxes: [N, 4] float, (x1, y1, x2, y2) pixels.
        scores: [N] float, not negative.
        sigma: width of the Gaussian decay exp(−IoU² / sigma).
        score_threshold: boxes with a lower new score are removed.
        method: "gaussian", or "linear" for a factor of 1 − IoU if the IoU is above `iou_threshold`.
        iou_threshold: threshold of the linear method.
        labels: [N] integer; boxes with different labels do not affect each other. None: all have the same label.

    Returns:
        ids [K] int64 of the boxes left, by descending new score, and their new scores [K] in the dtype of `scores`.

    Raises:
        InputError: shapes do not fit, the method is unknown, or a number is out of its range.
    """
    _check(boxes, scores, iou_threshold, labels)
    if method not in ("gaussian", "linear"):
        raise InputError(f"method is {method!r}, but must be 'gaussian' or 'linear'")
    if not sigma > 0:
        raise InputError(f"sigma is {sigma}, but must be above 0")
    least = 0.0 if method == "gaussian" else iou_threshold
    near = _Boxes.of(boxes, labels, least)
    order, count = near.order()
    a, b = near.at(order).pairs(count, least)
    a, b = _of(order, a), _of(order, b)
    iou = _iou(near.at(a).columns, near.at(b).columns)
    decay = torch.exp(-(iou**2) / sigma) if method == "gaussian" else 1 - iou
    left = scores.detach().to(iou.dtype)
    waiting = left >= score_threshold
    # A box that no waiting neighbour surpasses is taken before all its neighbours whatever happens elsewhere, so its
    # score is final. All such boxes are taken at once; only chains of neighbours cost a round each.
    while True:
        alive = (_of(waiting, a) & _of(waiting, b)).nonzero().flatten()
        if not len(alive):
            break
        a, b, decay = _of(a, alive), _of(b, alive), _of(decay, alive)
        left_a, left_b = _of(left, a), _of(left, b)
        a_first = (left_a > left_b) | ((left_a == left_b) & (a < b))
        winner, loser = a.where(a_first, b), b.where(a_first, a)
        taken = waiting.scatter(0, loser, False)
        decided = _of(taken, winner).nonzero().flatten()
        left = left.scatter_reduce(0, _of(loser, decided), _of(decay, decided), "prod")
        waiting = waiting & ~taken & (left >= score_threshold)
    ids = left.argsort(stable=True, descending=True)
    ids = ids[left[ids] >= score_threshold]
    return ids, left[ids].to(scores.dtype)


def _greedy(boxes: _Boxes, iou_threshold: float) -> Tensor:
    """Positions of the kept among boxes that come by descending score."""
    waiting = torch.arange(len(boxes.key), device=boxes.key.device)
    kept = [waiting[:0]]
    at_once = 2.0 * _HEAD
    while len(waiting):
        head, rest = waiting, waiting[:0]
        order, count = boxes.at(head).order()
        if len(waiting) > at_once and int(count.sum()) > _PAIRS:
            head, rest = waiting[:_HEAD], waiting[_HEAD:]
            order, count = boxes.at(head).order()
        a, b = boxes.at(_of(head, order)).pairs(count, iou_threshold)
        a, b = _of(order, a), _of(order, b)
        kept.append(head.masked_select(_resolve(len(head), torch.minimum(a, b), torch.maximum(a, b))))
        waiting = rest
        if len(rest):
            waiting = rest.masked_select(~boxes.at(rest).covered(boxes.at(kept[-1]), iou_threshold))
        # Pairs grow with the square of the boxes: after a head with few of them the rest can be done at once.
        at_once = max(at_once, _HEAD * math.sqrt(_PAIRS / (len(a) + 1)))
    return torch.cat(kept)


def _resolve(count: int, first: Tensor, second: Tensor) -> Tensor:
    """The greedy choice among `count` boxes by descending score, if box `first` suppresses the later box `second`."""
    kept = torch.ones(count, dtype=torch.bool, device=first.device)
    # It is the one fixed point of "kept if no kept one suppresses it": each round settles at least one box more.
    while True:
        again = torch.ones_like(kept).scatter(0, second.masked_select(_of(kept, first)), False)
        if torch.equal(again, kept):
            return kept
        kept = again


class _Boxes(NamedTuple):
    """Boxes as columns [N], with their place on a line.

    Attributes:
        x1, y1, x2, y2, area: float32 or float64.
        key: the centre's x, moved apart by label; for sorting, never for the overlap itself.
        reach: boxes whose keys differ by more have no IoU above the threshold that `of` was given.
        label: number, or None.
    """

    x1: Tensor
    y1: Tensor
    x2: Tensor
    y2: Tensor
    area: Tensor
    key: Tensor
    reach: Tensor
    label: Tensor | None

    @classmethod
    def of(cls, boxes: Tensor, label: Tensor | None, iou_threshold: float) -> _Boxes:
        boxes = boxes.detach()
        if boxes.dtype not in (torch.float32, torch.float64):
            boxes = boxes.float()
        x1, y1, x2, y2 = boxes.T.contiguous()
        precise = torch.float32 if boxes.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        left, right = x1.to(precise), x2.to(precise)
        # Boxes that are not finite, or inverted, overlap with nothing: any place will do.
        key = ((left + right) / 2).nan_to_num(0, 0, 0)
        reach = width = (right - left).nan_to_num(0, 0, 0).clamp(min=0)
        if len(boxes):
            # IoU > t needs, already on the x axis alone, intersection > t·union: centres nearer than
            # (w + w')/2·(1−t)/(1+t), where w' is at most w/t. A little less than t makes up for rounding.
            t = max(iou_threshold - 1e-5, 0.0)
            other = width.max() if t == 0 else torch.minimum(width / t, width.max())
            reach = (width + other) * ((1 - t) / (1 + t) / 2)
            if label is not None:
                key = key + label * (key.max() - key.min() + 2 * reach.max() + 1)
            reach = reach + key.abs().max() * (8 * torch.finfo(precise).eps)
        return cls(x1, y1, x2, y2, (x2 - x1) * (y2 - y1), key, reach, label)

    def at(self, ids: Tensor) -> _Boxes:
        """The chosen boxes."""
        label = None if self.label is None else _of(self.label, ids)
        x1, y1, x2, y2, area, key, reach = (_of(column, ids) for column in self[:7])
        return _Boxes(x1, y1, x2, y2, area, key, reach, label)

    @property
    def columns(self) -> list[Tensor]:
        """What `_above` compares."""
        return [*self[:5], *([] if self.label is None else [self.label])]

    def order(self) -> tuple[Tensor, Tensor]:
        """Ids along the line, and for each box in that order how many of those after it are within its reach."""
        key, order = self.key.sort()
        end = torch.searchsorted(key, key + _of(self.reach, order), right=True)
        return order, end - torch.arange(1, len(key) + 1, device=key.device)

    def pairs(self, count: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
        """Ids of the one and of the other of all pairs whose IoU is above the threshold.

        Args:
            count: [N], as `order` gives it; the boxes lie in that order.
        """
        ones, others = [count[:0]], [count[:0]]
        tiles = _tiles(count)
        widest = max([0, *(most for _, _, most in tiles)])
        after = [F.pad(c, (0, widest), value=math.nan if c.is_floating_point() else 0) for c in self.columns]
        for begin, end, most in tiles:
            rows = [column[begin:end, None] for column in self.columns]
            # Row i holds the `most` boxes after box i: views, nothing is copied.
            windows = [column[begin + 1 : end + most].unfold(0, most, 1) for column in after]
            i, j = _above(rows, windows, iou_threshold).nonzero(as_tuple=True)
            ones.append(i + begin)
            others.append(i + j + (begin + 1))
        return torch.cat(ones), torch.cat(others)

    def covered(self, by: _Boxes, iou_threshold: float) -> Tensor:
        """Which boxes [N] bool have an IoU above the threshold with one of those in `by`."""
        order = self.key.argsort()
        here, by = self.at(order), by.at(by.key.argsort())
        low = torch.searchsorted(here.key, by.key - by.reach)
        high = torch.searchsorted(here.key, by.key + by.reach, right=True)
        rows = 16 if order.device.type == "cpu" else 1024
        low = F.pad(low, (0, -len(low) % rows), value=len(order)).view(-1, rows).amin(1)
        high = F.pad(high, (0, -len(high) % rows)).view(-1, rows).amax(1)
        result = torch.zeros_like(order, dtype=torch.bool)
        for tile, (begin, end) in enumerate(torch.stack([low, high], 1).tolist()):
            ones = [column[tile * rows : (tile + 1) * rows, None] for column in by.columns]
            others = [column[None, begin:end] for column in here.columns]
            result[begin:end] |= _above(ones, others, iou_threshold).any(0)
        return torch.empty_like(result).index_copy_(0, order, result)


def _tiles(count: Tensor) -> list[tuple[int, int, int]]:
    """Runs of rows (begin, end) with their largest `count` [N], such that rows times count stay in a cache."""
    step, limit = 16, _TILE if count.device.type == "cpu" else _TILE << 9
    peaks = F.pad(count, (0, -len(count) % step)).view(-1, step).amax(1).tolist()
    tiles = []
    end = 0
    while end < len(peaks):
        begin, most = end, 0
        while end < len(peaks) and (end == begin or (end + 1 - begin) * step * max(most, peaks[end]) <= limit):
            most = max(most, peaks[end])
            end += 1
        if most:
            tiles.append((begin * step, min(end * step, len(count)), most))
    return tiles


def _above(a: Sequence[Tensor], b: Sequence[Tensor], iou_threshold: float) -> Tensor:
    """Whether the IoU is above the threshold, from columns x1, y1, x2, y2, area (and label) that broadcast."""
    iou = _iou(a, b)
    above = iou > _rounded_down(iou_threshold, iou.dtype)  # nan, for two boxes without area, is not
    return above & (a[5] == b[5]) if len(a) > 5 else above


@cache
def _rounded_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of a dtype that is at most the threshold.

    torchvision compares a float32 IoU with a double: 3/10 in float32 is above 0.3. A tensor and a number are compared
    in the tensor's dtype, where the two are equal; with the threshold rounded down the answers agree.
    """
    if dtype == torch.float64:
        return threshold
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-1)))


def _iou(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp_(min=0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp_(min=0)
    intersection = width.mul_(height)
    return intersection / (a[4] + b[4]).sub_(intersection)


def _of(values: Tensor, ids: Tensor) -> Tensor:
    """`values[ids]`, which PyTorch splits among its threads even when short: on a busy machine 1000 times slower."""
    return values.index_select(0, ids)


def _check(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes have shape {list(boxes.shape)}, but must be [N, 4]: x1, y1, x2, y2")
    for name, value in (("scores", scores), ("labels", labels)):
        if value is not None and value.shape != boxes.shape[:1]:
            raise InputError(f"{name} have shape {list(value.shape)}, but there are {len(boxes)} boxes: must be [N]")
    if not 0 <= iou_threshold <= 1:
        raise InputError(f"iou_threshold is {iou_threshold}, but IoU lies in [0, 1]; give a number in that range")
