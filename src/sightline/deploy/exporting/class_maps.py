"""ONNX nodes behind the logits of a segmentation model: the class of each pixel of the image, as `Segmenter.decode`.

Logits on a coarse grid are resized to the size of the batch, cut off at its padding, and resized to the image. All of
this is linear in rows and in columns, so two matrices do it, which takes a third of the time of two resizings. Classes
that are best at no pixel are left out before. In memory, the values of all classes lie together for every few pixels,
since both runtimes search the best of values that are far apart slowly.
"""

from __future__ import annotations

from typing import Any

import torch

from sightline.deploy.exporting.nodes import Node, Nodes, resize
from sightline.deploy.exporting.part import as_batch
from sightline.models.keep_size import KeepSize
from sightline.models.preprocess import Preprocess
from sightline.structures import Size

COARSE = 5
"""Cells of logits with this number of pixels or more are resized by matrices, whose size grows with the map."""
NEXT = 16
"""Number of pixels in a row whose values lie together for each class."""
ROWS = 48
"""Number of rows that are computed together."""


def cell_size(model: Any, size: Size) -> float:
    """Height in pixels of a cell of the logits that a segmentation model gives for batches of `size`."""
    with torch.no_grad():
        logits = model.network_logits(as_batch(torch.zeros(1, model.in_channels, *size)))
    return size[0] / int(logits.shape[-2])


def add_class_map(
    nodes: Nodes,
    preprocess: Preprocess,
    logits: Node,
    batch: Node,
    size: Node,
    original: Node,
    cell: float,
    scores: bool = True,
) -> list[Node]:
    """Add what makes class maps of logits.

    Args:
        nodes: the list of nodes.
        preprocess: of the model.
        logits: [N, K, h, w] of a padded batch.
        batch: [N, C, H, W], the batch.
        size, original: [2] int64 (height, width) of the images in the batch and of the original images.
        cell: of `cell_size`.
        scores: whether probabilities are asked for.

    Returns:
        The classes [N, H, W] int64 of the pixels of the original images, and their probabilities [N, K, H, W] on
        request.
    """
    keeps = isinstance(preprocess, KeepSize)
    if cell >= COARSE:
        possible = None
        if not scores:
            possible = _possible(nodes, logits, 2 if keeps else 3)
            logits = nodes.Gather(logits, possible, axis=1)
        rows, columns = (_chain(nodes, keeps, logits, batch, size, original, axis) for axis in (0, 1))
        return _of_coarse(nodes, logits, rows, columns, possible)
    if cell > 1:
        logits = resize(nodes, logits, nodes.side(nodes.Shape(batch), 2, 4))
    whole = logits
    if scores or not keeps:
        logits = nodes.Slice(logits, [0, 0], size, [2, 3])
    if keeps:  # padding is cut off from classes, which is cheaper than from logits
        labels = nodes.Slice(_best(nodes, _swapped(nodes, whole)), [0, 0], size, [1, 2])
    else:
        logits = resize(nodes, logits, original)
        labels = _best(nodes, _swapped(nodes, logits))
    return [labels, *([nodes.Softmax(logits, axis=1)] if scores else [])]


def _possible(nodes: Nodes, logits: Node, side: int) -> Node:
    """The classes [P] int64 that are best at some place between the cells of logits [N, K, h, w].

    Between `side` × `side` cells, each value is a mean of theirs. A class whose largest value there is below the
    smallest value of another class is not best.
    """
    window = {"kernel_shape": [side, side], "pads": [1] * 4}  # at the border, padding is left out
    most, least = nodes.MaxPool(logits, **window), nodes.Neg(nodes.MaxPool(nodes.Neg(logits), **window))
    above = nodes.GreaterOrEqual(most, nodes.ReduceMax(least, [1], keepdims=1))
    found = nodes.ReduceMax(nodes.cast(above, "UINT8"), [0, 2, 3], keepdims=0)
    found = nodes.Max(found, nodes.Sub(nodes.constant(1, "uint8"), nodes.ReduceMax(found)))  # all, where all are NaN
    return nodes.Reshape(nodes.NonZero(found), [-1])


def _of_coarse(nodes: Nodes, logits: Node, rows: Node, columns: Node, possible: Node | None) -> list[Node]:
    """The classes of logits [N, P, h, w] resized by the weights of rows [H, h] and columns [W, w].

    Without `possible`, which class each of the P is, their probabilities, too.
    """
    height, width = (nodes.Shape(weights, start=0, end=1) for weights in (rows, columns))
    rows, columns = _filled(nodes, rows, ROWS), _filled(nodes, columns, NEXT)
    x = nodes.MatMul(logits, nodes.Transpose(columns, perm=[1, 0]))
    x = nodes.Transpose(nodes.Reshape(x, [0, 0, 0, -1, NEXT]), perm=[0, 2, 3, 1, 4])  # [N, h, W / NEXT, P, NEXT]
    shape = nodes.Shape(x)
    x = _rows_of(nodes, rows, nodes.Reshape(x, [0, 0, -1]))
    best = nodes.ArgMax(nodes.Reshape(x, nodes.Concat([-1], nodes.side(shape, 3, 5), axis=0)), axis=1, keepdims=0)
    if possible is not None:  # between vectors, ONNX Runtime gathers elements in a third of the time
        best = nodes.GatherElements(possible, nodes.Reshape(best, [-1]), axis=0)
    whole = nodes.Concat(nodes.side(shape, 0, 1), nodes.Shape(rows, start=0, end=1), axis=0)
    size = nodes.Concat(height, width, axis=0)
    labels = nodes.Slice(nodes.Reshape(best, nodes.Concat(whole, [-1], axis=0)), [0] * 2, size, [1, 2])
    if possible is not None:
        return [labels]
    x = nodes.Softmax(nodes.Reshape(x, nodes.Concat(whole, nodes.side(shape, 2, 5), axis=0)), axis=3)
    x = nodes.Reshape(nodes.Transpose(x, perm=[0, 3, 1, 2, 4]), [0, 0, 0, -1])
    return [labels, nodes.Slice(x, [0] * 2, size, [2, 3])]


def _filled(nodes: Nodes, weights: Node, divisor: int) -> Node:
    """Weights [new, old] with zeros for further new ones, so that their number is a multiple of the divisor."""
    lacking = nodes.Mod(nodes.Neg(nodes.Shape(weights, start=0, end=1)), [divisor])
    return nodes.Pad(weights, nodes.Concat([0] * 2, lacking, [0], axis=0))


def _rows_of(nodes: Nodes, weights: Node, x: Node) -> Node:
    """Rows of `x` [N, h, X] summed with weights [H, h]: [N, H / ROWS, ROWS, X].

    Each `ROWS` new ones depend on few old ones, and only these are multiplied.
    """
    blocks = nodes.Reshape(weights, nodes.Concat([-1, ROWS], nodes.Shape(weights, start=1), axis=0))
    used = nodes.cast(nodes.Greater(nodes.ReduceMax(blocks, [1], keepdims=0), nodes.constant(0.0)), "INT32")
    number = nodes.cast(nodes.ReduceMax(nodes.ReduceSum(used, [1], keepdims=0), keepdims=1), "INT64")  # [1]
    last = nodes.Sub(nodes.Shape(x, start=1, end=2), number)
    steps = nodes.Range(nodes.constant(0), nodes.Squeeze(number), nodes.constant(1))
    places = nodes.Add(nodes.Min(nodes.ArgMax(used, axis=1, keepdims=1), last), steps)  # [H / ROWS, number]
    each = nodes.Concat(nodes.Shape(blocks, start=0, end=2), number, axis=0)
    weights = nodes.GatherElements(blocks, nodes.Expand(nodes.Unsqueeze(places, [1]), each), axis=2)
    return nodes.MatMul(weights, nodes.Gather(x, places, axis=1))


def _chain(nodes: Nodes, keeps: bool, logits: Node, batch: Node, size: Node, original: Node, axis: int) -> Node:
    """The weights [new, old] of the rows (axis 0) or columns (1) of logits for those of the original image."""
    before, padded = (nodes.side(nodes.Shape(x), axis + 2, axis + 3) for x in (logits, batch))
    inner, after = (nodes.side(x, axis, axis + 1) for x in (size, original))
    weights = nodes.Slice(_linear(nodes, before, padded), [0], inner, [0])
    return weights if keeps else nodes.MatMul(_linear(nodes, inner, after), weights)


def _linear(nodes: Nodes, before: Node, after: Node) -> Node:
    """The weights [after, before] of linear interpolation, as of `F.interpolate`; both numbers are [1] int64."""
    old, new = (nodes.cast(number, "FLOAT") for number in (before, after))
    begin, half, one = (nodes.constant(value, "float32") for value in (0.0, 0.5, 1.0))
    place = nodes.Mul(nodes.Add(nodes.Range(begin, nodes.Squeeze(new), one), half), nodes.Div(old, new))
    place = nodes.Min(nodes.Max(nodes.Sub(place, half), begin), nodes.Sub(old, one))
    apart = nodes.Abs(nodes.Sub(nodes.Unsqueeze(place, [1]), nodes.Range(begin, nodes.Squeeze(old), one)))
    return nodes.Relu(nodes.Sub(one, apart))


def _swapped(nodes: Nodes, x: Node) -> Node:
    """[N, K, H, W] as [N, H, K, W], and the other way round."""
    return nodes.Transpose(x, perm=[0, 2, 1, 3])


def _best(nodes: Nodes, x: Node) -> Node:
    """The class of the largest of values [N, H, K, W], the first of equal ones: [N, H, W] int64."""
    shape = nodes.Shape(x)
    flat = nodes.Reshape(x, nodes.Concat([-1], nodes.side(shape, 2, 4), axis=0))  # so that no transposing is undone
    best = nodes.ArgMax(flat, axis=1, keepdims=0)
    return nodes.Reshape(best, nodes.Concat(nodes.side(shape, 0, 2), nodes.side(shape, 3, 4), axis=0))
