"""ONNX nodes behind the logits of a segmentation model: the class of each pixel of the image, as `Segmenter.decode`.

Logits on a coarse grid are resized to the size of the batch, cut off at its padding, and resized to the image. All of
this is linear in rows and in columns, so two matrices do it, which takes a third of the time of two resizings. Classes
lie next to rows, not in front of them, since both runtimes search the best of values that are far apart slowly.
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
        rows, columns = (_chain(nodes, keeps, logits, batch, size, original, axis) for axis in (0, 1))
        x = _swapped(nodes, nodes.MatMul(logits, nodes.Transpose(columns, perm=[1, 0])))
        shape = nodes.Shape(x)
        x = nodes.MatMul(rows, nodes.Reshape(x, nodes.Concat(nodes.side(shape, 0, 2), [-1], axis=0)))
        x = nodes.Reshape(x, nodes.Concat(nodes.side(shape, 0, 1), [-1], nodes.side(shape, 2, 4), axis=0))
        return [_best(nodes, x), *([_swapped(nodes, nodes.Softmax(x, axis=2))] if scores else [])]
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
