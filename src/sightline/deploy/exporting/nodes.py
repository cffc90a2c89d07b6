"""ONNX nodes written by hand: preprocessing in front of the network.

The size of a preprocessed image depends on that of the image by rounding and a case distinction, so it is computed by
nodes on the shape of the input. The arithmetic is that of `Preprocess.resized`, in double precision where that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.models.classification.classifier import ImageClassifier
from sightline.models.darknet.preprocess import GREY, DarknetPreprocess
from sightline.models.keep_size import KeepSize
from sightline.models.model import Model
from sightline.models.preprocess import LONGEST, Preprocess

Node = Any
"""A value of an ONNX graph (`onnx_ir.Value`)."""


class Nodes:
    """Adds nodes to a list: `nodes.Add(a, b)` is the output of a new node; numbers and arrays become constants."""

    def __init__(self) -> None:
        from onnx_ir.tape import Tape

        self.tape = Tape()

    def constant(self, value: Any, dtype: Any = None) -> Node:
        """A constant; whole numbers are int64 and others float32 by default."""
        import onnx_ir as ir

        array = np.asarray(value, dtype)
        if dtype is None:
            array = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
        return self.tape.op("Constant", [], {"value": ir.tensor(array)})

    def __getattr__(self, op: str) -> Any:
        def add(*inputs: Any, **attributes: Any) -> Node:
            import onnx_ir as ir

            values = [x if x is None or isinstance(x, ir.Value) else self.constant(x) for x in inputs]
            return self.tape.op(op, values, attributes)

        return add

    def cast(self, value: Node, to: str) -> Node:
        """A value with another dtype, such as "FLOAT"."""
        import onnx_ir as ir

        return self.Cast(value, to=ir.DataType[to])

    def side(self, shape: Node, begin: int, end: int) -> Node:
        """Entries `begin` to `end` of a vector."""
        return self.Slice(shape, [begin], [end], [0])


def add_preprocessing(nodes: Nodes, model: Model, images: Node, uint8: bool) -> tuple[Node, Node, Node]:
    """Add what a model's preprocessing does to images of one size.

    Args:
        nodes: the list of nodes.
        model: the model.
        images: [N, C, H, W] uint8, or float in [0, 1].
        uint8: whether images are uint8.

    Returns:
        The batch [N, C, h, w], and as [2] int64 (height, width) the sizes of the images in it and of the original
        images.

    Raises:
        InputError: the preprocessing has no exported form.
    """
    preprocess = model.preprocess
    if type(preprocess) not in (Preprocess, KeepSize, DarknetPreprocess):
        raise InputError(
            f"{model.title} cannot be exported: there is no exported form of its preprocessing, "
            f"{type(preprocess).__name__}"
        )
    original = nodes.side(nodes.Shape(images), 2, 4)
    x = nodes.cast(images, "FLOAT")
    darknet = isinstance(preprocess, DarknetPreprocess)
    linear = not darknet and preprocess.interpolation == "bilinear"
    if uint8 and not linear:
        x = nodes.Div(x, 255.0)
    if isinstance(preprocess, DarknetPreprocess):
        return *_letterbox(nodes, preprocess, x, original), original
    size = _resized_size(nodes, preprocess, original)
    if size is not original:
        x = _resized(nodes, preprocess, x, original, size)
    mean, std = _channels(preprocess.mean), _channels(preprocess.std)
    if isinstance(model, ImageClassifier):
        x = _cropped(nodes, x, size, model.crop)
    # linear resizing and the scale of the values may change places, so one pass serves for 255 and the deviation
    x = _shifted(nodes, x, 1 / (std * 255 if uint8 and linear else std), -mean / std)
    if isinstance(model, ImageClassifier):
        return _filled(nodes, x, size, model.crop), size, original
    if preprocess.divisor > 1:
        divisor = preprocess.divisor
        padded = nodes.Mul(nodes.Div(nodes.Add(size, [divisor - 1] * 2), [divisor] * 2), [divisor] * 2)
        x = nodes.Pad(x, nodes.Concat([0] * 6, nodes.Sub(padded, size), axis=0))
    return x, size, original


def in_cells(nodes: Nodes, batch: Node, divisor: int) -> Node:
    """A batch [N, C, h·D, w·D] as [N, C, h, D, w, D]."""
    shape = nodes.Shape(batch)
    rows, columns = (nodes.Div(nodes.side(shape, axis, axis + 1), [divisor]) for axis in (2, 3))
    return nodes.Reshape(batch, nodes.Concat(nodes.side(shape, 0, 2), rows, [divisor], columns, [divisor], axis=0))


def _channels(values: Any) -> Any:
    return values.detach().cpu().float().numpy().flatten()


def _shifted(nodes: Nodes, x: Node, factors: Any, shifts: Any) -> Node:
    """Channels of `x` [N, C, H, W] times factors [C] plus shifts [C], in one pass."""
    zeros, ones = np.zeros_like(factors), np.ones_like(factors)
    return nodes.BatchNormalization(x, factors, shifts, zeros, ones, epsilon=0.0)


def _resized_size(nodes: Nodes, p: Preprocess, original: Node) -> Node:
    """The (height, width) [2] int64 that an image gets, as `Preprocess.resized`."""
    if isinstance(p, KeepSize):
        return original
    if p.fixed_size is not None:
        return nodes.constant(list(p.fixed_size))
    short, long = (nodes.tape.op(op, [original], {"keepdims": 1}) for op in ("ReduceMin", "ReduceMax"))
    limit = LONGEST * p.min_size if p.max_size is None else p.max_size
    pair = [nodes.cast(side, "DOUBLE") for side in (short, long)]
    factors = [
        nodes.Div(nodes.constant([float(s)], np.float64), side)
        for s, side in zip((p.min_size, limit), pair, strict=True)
    ]
    scaled = nodes.Mul(nodes.cast(original, "DOUBLE"), nodes.Min(*factors))
    fitted = nodes.Max(nodes.cast(scaled, "INT64"), [1])  # the cast truncates
    if p.max_size is not None:
        return fitted
    free = nodes.Div(nodes.Mul(original, [p.min_size] * 2), short)
    return nodes.Where(nodes.LessOrEqual(long, nodes.Mul(short, [LONGEST])), free, fitted)


def _resized(nodes: Nodes, p: Preprocess, x: Node, original: Node, size: Node) -> Node:
    """Images of another size, as `sightline.ops.resizing.resize_images`."""
    if p.interpolation == "bilinear":
        return resize(nodes, x, size, p.antialias)
    width = nodes.Concat(nodes.side(original, 0, 1), nodes.side(size, 1, 2), axis=0)
    for step in (width, size):  # each direction is cut off at 0 and 1 on its own
        a = -0.5 if p.antialias else -0.75
        x = resize(nodes, x, step, p.antialias, mode="cubic", cubic_coeff_a=a)
        x = nodes.Clip(x, nodes.constant(0.0), nodes.constant(1.0))
    return x


def resize(nodes: Nodes, x: Node, size: Node, antialias: bool = False, mode: str = "linear", **attributes: Any) -> Node:
    """Maps [N, C, h, w] resized to `size` [2] int64; corners of pixels are aligned, as in PyTorch."""
    whole = nodes.Concat(nodes.side(nodes.Shape(x), 0, 2), size, axis=0)
    if antialias:  # like Pillow, a filter that leaves the image has its weights inside alone
        attributes |= {"antialias": 1, "exclude_outside": 1}
    return nodes.Resize(x, None, None, whole, mode=mode, coordinate_transformation_mode="half_pixel", **attributes)


def _letterbox(nodes: Nodes, p: DarknetPreprocess, x: Node, original: Node) -> tuple[Node, Node]:
    """Images in the middle of grey batches, and their size in them, as `DarknetPreprocess`."""
    canvas = nodes.constant(list(p.canvas))
    size = canvas
    if p.letterbox:  # the side that decides fills the canvas, the other is rounded down
        both = nodes.Mul(original, nodes.constant([p.canvas[1], p.canvas[0]]))  # height · Wc, width · Hc
        tall, wide = nodes.side(both, 0, 1), nodes.side(both, 1, 2)
        height, width = nodes.side(original, 0, 1), nodes.side(original, 1, 2)
        by_width = nodes.Concat(nodes.Max(nodes.Div(tall, width), [1]), [p.canvas[1]], axis=0)
        by_height = nodes.Concat([p.canvas[0]], nodes.Max(nodes.Div(wide, height), [1]), axis=0)
        size = nodes.Where(nodes.Less(tall, wide), by_width, by_height)
    whole = nodes.Concat(nodes.side(nodes.Shape(x), 0, 2), size, axis=0)
    x = nodes.Resize(x, None, None, whole, mode="linear", coordinate_transformation_mode="align_corners")
    lack = nodes.Sub(canvas, size)
    before = nodes.Div(lack, [2] * 2)
    pads = nodes.Concat([0] * 2, before, [0] * 2, nodes.Sub(lack, before), axis=0)
    return nodes.Pad(x, pads, nodes.constant(GREY)), size


def _cropped(nodes: Nodes, x: Node, size: Node, crop: int) -> Node:
    """The centre crop, at most `crop` wide and high, as `ImageClassifier`."""
    over = nodes.cast(nodes.Max(nodes.Sub(size, [crop] * 2), [0] * 2), "FLOAT")
    start = nodes.cast(nodes.Round(nodes.Mul(over, [0.5] * 2)), "INT64")  # half to even, like Python
    return nodes.Slice(x, start, nodes.Add(start, [crop] * 2), [2, 3])


def _filled(nodes: Nodes, x: Node, size: Node, crop: int) -> Node:
    """A normalised crop with zeros, the mean colour, around it where the image of `size` is smaller than the crop."""
    lack = nodes.Max(nodes.Sub([crop] * 2, size), [0] * 2)
    before = nodes.Div(lack, [2] * 2)
    return nodes.Pad(x, nodes.Concat([0] * 2, before, [0] * 2, nodes.Sub(lack, before), axis=0))


def shown(shape: Sequence[Any]) -> list[Any]:
    """A shape as numbers and names of its variable sizes."""
    return [side if isinstance(side, int) else str(getattr(side, "value", side)) for side in shape]
