"""Antialiased resizing for OpenVINO, which reads the ONNX operator but leaves out its antialiasing."""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.errors import InputError


def replace_antialiased(model: Any) -> None:
    """Replace each antialiased bilinear resizing of an OpenVINO model by products with matrices of weights.

    The weights are those of a triangle as wide as the reduction, normalised inside of the image, as in Pillow. Images
    that have the size already are left as they are, since the products would take as long for them.

    Args:
        model: `openvino.Model`; it is changed.

    Raises:
        InputError: an antialiased resizing is bicubic.
    """
    from openvino import opset13 as op

    for node in model.get_ops():
        if node.get_type_name() != "Interpolate":
            continue
        settings = node.get_attributes()
        if not settings["antialias"]:
            continue
        if settings["mode"] not in ("linear", "linear_onnx"):
            raise InputError("OpenVINO has no antialiased bicubic resizing")
        resized = _unless_equal(op, node.input_value(0), node.input_value(1))
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(resized.output(0))


def _unless_equal(op: Any, x: Any, size: Any) -> Any:
    """Images [N, C, h, w] resized to the last two entries of `size`, in a branch that is taken if they differ."""
    rank = size.get_partial_shape()[0].get_length()
    before = op.shape_of(x, "i64")
    sides, wanted = (
        op.gather(shape, op.constant(np.array([first, first + 1], np.int64)), _whole(op, 0))
        for shape, first in ((before, 2), (size, rank - 2))
    )
    same = op.reduce_logical_and(op.equal(sides, wanted), _whole(op, 0), False)
    shape, dtype = x.get_partial_shape(), x.get_element_type()
    kept = op.parameter(shape, dtype)
    images, sizes = op.parameter(shape, dtype), op.parameter([2], np.int64)
    own = op.shape_of(images, "i64")
    rows, columns = (_weights(op, _side(op, own, 2 + axis), _side(op, sizes, axis)) for axis in (0, 1))
    products = op.matmul(op.matmul(rows, images, False, False), columns, False, True)
    branches = op.if_op(same.output(0))
    left, other = _body([kept], kept), _body([images, sizes], products)
    branches.set_then_body(left)
    branches.set_else_body(other)
    branches.set_input(x, kept, images)
    branches.set_input(wanted.output(0), None, sizes)
    branches.set_output(left.get_results()[0], other.get_results()[0])
    return branches


def _body(inputs: list[Any], result: Any) -> Any:
    from openvino import Model

    return Model([result], inputs)


def _side(op: Any, shape: Any, axis: int) -> Any:
    """One entry of a shape, as a float."""
    one = op.gather(shape, _whole(op, axis), _whole(op, 0))
    return op.convert(one, "f32")


def _whole(op: Any, value: int) -> Any:
    return op.constant(np.array(value, np.int64))


def _weights(op: Any, before: Any, after: Any) -> Any:
    """[after, before] weights of the old pixels for each new one."""

    def number(value: float) -> Any:
        return op.constant(np.array(value, np.float32))

    scale = op.divide(before, after)
    width = op.maximum(scale, number(1.0))
    new = op.range(number(0.0), after, number(1.0), "f32")
    old = op.range(number(0.5), before, number(1.0), "f32")  # the centres of the pixels
    centre = op.unsqueeze(op.multiply(op.add(new, number(0.5)), scale), _whole(op, 1))
    distance = op.divide(op.abs(op.subtract(op.unsqueeze(old, _whole(op, 0)), centre)), width)
    weights = op.relu(op.subtract(number(1.0), distance))
    return op.divide(weights, op.reduce_sum(weights, _whole(op, 1), keep_dims=True))
