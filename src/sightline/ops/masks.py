"""Masks: pasting predicted masks into an image, and conversion between bitmaps, polygons and RLE.

A bitmap is [H, W] bool. A polygon is a flat sequence x1, y1, x2, y2, … (or [P, 2]) in pixels, where (0, 0) is the outer
corner of the top-left pixel; several polygons form one mask. An RLE is COCO's run-length encoding: a dict with "size"
[height, width] and "counts", the lengths of runs in column-major order, background first, as a list of integers or in
COCO's compressed format.

Pasting is differentiable and runs on the device of the masks. Conversions run on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.ops._pasting import border_weights, paste_around, touched
from sightline.ops.outlines import trace_outlines
from sightline.structures import Size
from sightline.structures.deferred import Deferred

RLE = dict[str, Any]
Polygon = Sequence[float] | np.ndarray | Tensor

_PASTE_BYTES = 16 * 2**20  # of float32 held at once while pasting; more is slower, for it leaves the cache


def paste_masks(masks: Tensor, boxes: Tensor, size: Size, threshold: float | None = 0.5) -> Tensor:
    """Paste masks, predicted on a grid over each box, into the image.

    Masks are padded with a border of zeros, resized bilinearly to the pixels that the box touches, and clipped to the
    image. Resizing is computed as two products with matrices of interpolation weights, in chunks of masks. On the CPU,
    with a threshold, only the pixels around each box are computed.

    Args:
        masks: [N, M, M] or [N, 1, M, M] float probabilities.
        boxes: [N, 4] xyxy pixels.
        size: (height, width) of the image.
        threshold: pixels with a higher probability are inside; None returns probabilities.

    Returns:
        [N, height, width] bool, or float without a threshold (differentiable with respect to `masks`).

    Raises:
        InputError: masks have the wrong shape, or the numbers of masks and boxes differ.

    Source: He et al., Mask R-CNN, 2017, section 3.1, "Implementation Details"; the border and the rounding of boxes to
    pixels are those that published checkpoints were evaluated with.
    """
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks.ndim != 3 or len(masks) != len(boxes):
        raise InputError(
            f"masks {list(masks.shape)} do not fit {len(boxes)} boxes; give [N, M, M] or [N, 1, M, M], one mask per box"
        )
    if threshold is not None and threshold >= 0 and masks.device.type == "cpu":
        return paste_around(masks.detach(), boxes.detach().float(), size, threshold)
    height, width = size
    dtype = masks.dtype if threshold is None else torch.bool
    chunk = max(1, _PASTE_BYTES // (4 * max(1, height * width)))
    pasted = torch.empty(len(masks), height, width, dtype=dtype, device=masks.device)
    # automatic mixed precision would compute these products in half precision
    with torch.autocast(masks.device.type, enabled=False):
        for start in range(0, len(masks), chunk):
            part = masks[start : start + chunk].float()
            box = boxes[start : start + chunk].detach().float()
            (left, top), (right, bottom) = (side.T for side in touched(box[:, :2], box[:, 2:], part.shape[2]))
            rows = border_weights(torch.arange(height, device=box.device), top, bottom, part.shape[1])
            columns = border_weights(torch.arange(width, device=box.device), left, right, part.shape[2])
            full = rows @ part @ columns.transpose(1, 2)
            pasted[start : start + chunk] = full if threshold is None else full > threshold
    return pasted


def deferred_masks(masks: Tensor, boxes: Tensor, size: Size) -> Deferred:
    """`paste_masks` for a field of `Instances` that pastes when it is first read; arguments as there."""
    return Deferred(partial(paste_masks, size=size), (masks.detach(), boxes.detach().clone()))


def masks_to_boxes(masks: Tensor, inclusive: bool = False) -> Tensor:
    """The bounding box of each mask.

    Args:
        masks: [N, H, W] bool, or numbers; non-zero pixels are inside.
        inclusive: whether x2, y2 are the last column and row inside (as in some tools), instead of the edge after them.

    Returns:
        [N, 4] float32 xyxy pixels; zeros for an empty mask.
    """
    masks = masks if masks.dtype == torch.bool else masks != 0
    x1, x2 = _first_and_end(masks.any(1))
    y1, y2 = _first_and_end(masks.any(2))
    if inclusive:
        x2, y2 = (x2 - 1).clamp(min=0), (y2 - 1).clamp(min=0)
    return torch.stack((x1, y1, x2, y2), 1).float()


def _first_and_end(inside: Tensor) -> tuple[Tensor, Tensor]:
    """First and last + 1 position of true values in each row of [N, L]; 0, 0 if there are none."""
    number = torch.arange(1, inside.shape[1] + 1, device=inside.device) * inside
    if inside.shape[1] == 0:
        none = number.sum(1)
        return none, none
    end = number.amax(1)
    return inside.int().argmax(1), end


# Run-length encoding.


def mask_to_rle(mask: Tensor | np.ndarray) -> RLE:
    """Convert a bitmap [H, W] to a compressed RLE: {"size": [H, W], "counts": str}, which JSON can store.

    Raises:
        InputError: the mask is not [H, W].
    """
    from hotcoco import mask as coco

    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.ndim != 2:
        raise InputError(f"a mask to encode must have shape [height, width], not {list(array.shape)}")
    return _as_text(coco.encode(np.asfortranarray(array != 0)))


def rle_to_mask(rle: RLE) -> Tensor:
    """Convert an RLE, compressed (str or bytes) or with a list of counts, to a bitmap [H, W] bool.

    Raises:
        InputError: size or counts are missing, or the runs do not add up to the image.
    """
    (height, width), counts = _runs(rle)
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return torch.from_numpy(np.ascontiguousarray(inside.reshape(width, height).T))


def rle_spans(rle: RLE) -> tuple[np.ndarray, np.ndarray]:
    """Start positions, in column-major order, and lengths of the runs inside. Raises the errors of `rle_to_mask`."""
    counts = _runs(rle)[1]
    return counts.cumsum()[1::2] - counts[1::2], counts[1::2]


def span_pixels(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Positions of all pixels of these runs, in column-major order."""
    skipped = np.repeat(starts - (lengths.cumsum() - lengths), lengths)
    skipped += np.arange(len(skipped))
    return skipped


def rle_area(rle: RLE) -> int:
    """The number of pixels inside. Raises the errors of `rle_to_mask`."""
    return int(_runs(rle)[1][1::2].sum())


def rle_to_box(rle: RLE) -> Tensor:
    """The bounding box of an RLE: [4] float32 xyxy, zeros if it is empty. Raises the errors of `rle_to_mask`."""
    (height, _), counts = _runs(rle)
    ends = counts.cumsum()[1::2]
    starts = ends - counts[1::2]
    filled = ends > starts
    starts, last = starts[filled], ends[filled] - 1
    if not len(starts):
        return torch.zeros(4)
    x1, x2 = starts[0] // height, last[-1] // height + 1
    if (starts // height < last // height).any():  # a run across columns contains the bottom and the top row
        y1, y2 = 0, height
    else:
        y1, y2 = (starts % height).min(), (last % height).max() + 1
    return torch.tensor([x1, y1, x2, y2], dtype=torch.float32)


def _as_text(rle: RLE) -> RLE:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _runs(rle: RLE) -> tuple[Size, np.ndarray]:
    """Size and run lengths of an RLE after validation, which libraries do not do."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f'an RLE must be a dict of "size" [height, width] and "counts", not {str(rle)[:80]}') from None
    if isinstance(counts, str | bytes):
        runs = _decompress(counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts)
    else:
        values = _numbers(counts)
        if values is None or values.ndim != 1 or (values != np.floor(values)).any() or (abs(values) > 2**53).any():
            raise InputError(f"the counts of an RLE must be whole numbers, not {str(counts)[:80]}")
        runs = values.astype(np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise InputError(
            f"the counts of an RLE add up to {int(runs.sum())}, but its size {height}×{width} has {height * width} "
            "pixels and no run may be negative; encode the mask again"
        )
    return (height, width), runs


def _numbers(values: Any) -> np.ndarray | None:
    """The values as a float64 array, or None if they are not finite numbers."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _decompress(text: bytes) -> np.ndarray:
    """Decode COCO's compressed counts.

    Each character minus 48 holds five bits, low bits first. Bit 32 marks that more characters follow; bit 16 of the
    last character is the sign. From the fourth count on, the difference to the count two positions before is stored.
    """
    code = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if len(code) == 0:
        return code
    more = (code & 32) != 0
    if (code < 0).any() or (code > 63).any() or more[-1]:
        raise InputError(f"the counts {text[:40]!r} are not a compressed RLE; the text is broken or cut off")
    first = np.flatnonzero(np.concatenate(([True], ~more[:-1])))
    length = np.diff(np.append(first, len(code)))
    if length.max() > 7:  # 35 bits: no image is that large
        raise InputError(f"the counts {text[:40]!r} are not a compressed RLE; a number in it is too long")
    place = 5 * (np.arange(len(code)) - np.repeat(first, length))
    value = np.add.reduceat((code & 31) << place, first)
    value -= np.where(code[first + length - 1] & 16, 1 << (5 * length), 0)
    value[1::2] = value[1::2].cumsum()
    value[2::2] = value[2::2].cumsum()
    return value


# Polygons.


def polygons_to_rle(polygons: Sequence[Polygon], size: Size) -> RLE:
    """Rasterise the union of polygons to a compressed RLE, exactly as COCO's tools do.

    Args:
        polygons: flat sequences x1, y1, x2, y2, … or [P, 2]. Polygons with fewer than three points are empty.
        size: (height, width) of the image.

    Returns:
        {"size": [height, width], "counts": str}.

    Raises:
        InputError: a polygon has an odd number of values, or one that is not a finite number.
    """
    from hotcoco import mask as coco

    height, width = size
    if height * width >= 2**32:
        raise InputError(f"a mask of {width} × {height} pixels is too large: its runs are counted in 32 bits")
    pieces = []
    for number, polygon in enumerate(polygons):
        points = _numbers(polygon)
        if points is None:
            raise InputError(f"polygon {number} must be of finite numbers, not {str(polygon)[:80]}; remove it")
        points = points.reshape(-1)
        if len(points) % 2:
            raise InputError(
                f"polygon {number} has {len(points)} values, but points need an even number: x1, y1, x2, …"
            )
        if len(points) >= 6:
            pieces.append(coco.frPoly(points.tolist(), height, width))
    if not pieces:
        return mask_to_rle(np.zeros((height, width), dtype=bool))
    return _as_text(pieces[0] if len(pieces) == 1 else coco.merge(pieces, intersect=False))


def polygons_to_mask(polygons: Sequence[Polygon], size: Size) -> Tensor:
    """Rasterise the union of polygons to a bitmap [H, W] bool. Arguments and errors are those of `polygons_to_rle`."""
    return rle_to_mask(polygons_to_rle(polygons, size))


def mask_to_polygons(mask: Tensor | np.ndarray) -> list[list[float]]:
    """Convert a bitmap to polygons along the edges of its pixels; `polygons_to_mask` restores exactly the same bitmap.

    Args:
        mask: [H, W] bool, or numbers; non-zero pixels are inside.

    Returns:
        One flat polygon x1, y1, x2, y2, … per 4-connected component, clockwise. Holes are connected to the outline by a
        slit of zero width, since a list of polygons cannot represent holes.

    Raises:
        InputError: the mask is not [H, W].
    """
    array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.ndim != 2:
        raise InputError(f"a mask to outline must have shape [height, width], not {list(array.shape)}")
    return [ring.reshape(-1).tolist() for ring in trace_outlines(array != 0)]
