"""Resizing for OpenVINO, which reads the ONNX operator but leaves out its antialiasing, and is slow for images.

Rows, and then columns, are summed times their weights. In a model for images of any size the number of these sums and
their weights are computed at each call, in a model for one size they are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError


def replace_antialiased(model: Any) -> None:
    """Replace each antialiased bilinear resizing of an OpenVINO model by sums of weighted rows and columns.

    The weights are those of a triangle as wide as the reduction, normalised inside of the image, as in Pillow. Images
    that have the size already are summed, too: a branch for them gave wrong numbers at the first call of a larger size.

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
        x, size = node.input_value(0), node.input_value(1)
        before, rank = op.shape_of(x, "i64"), size.get_partial_shape()[0].get_length()
        for axis in (0, 1):
            old, new = _side(op, before, 2 + axis), _side(op, size, rank - 2 + axis)
            x = _summed_in_any_size(op, x, axis + 2, old, new)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(x.output(0))


def _side(op: Any, shape: Any, axis: int) -> Any:
    """One entry of a shape, as a float."""
    one = op.gather(shape, _whole(op, axis), _whole(op, 0))
    return op.convert(one, "f32")


def _whole(op: Any, value: int) -> Any:
    return op.constant(np.array(value, np.int64))


def _summed_in_any_size(op: Any, x: Any, axis: int, before: Any, after: Any) -> Any:
    """`x` [N, C, h, w] with `after` rows (axis 2) or columns (3) instead of `before`, which are float scalars."""

    def number(value: float) -> Any:
        return op.constant(np.array(value, np.float32))

    scale = op.divide(before, after)
    width = op.maximum(scale, number(1.0))
    centre = op.multiply(op.add(op.range(number(0.0), after, number(1.0), "f32"), number(0.5)), scale)
    first = op.floor(op.add(op.subtract(centre, width), number(0.5)))
    count = op.add(op.ceiling(op.multiply(width, number(2.0))), number(1.0))
    steps = op.unsqueeze(op.range(number(0.0), count, number(1.0), "f32"), _whole(op, 1))
    places = op.add(steps, first)  # [T, after]
    distance = op.divide(op.abs(op.subtract(op.add(places, number(0.5)), centre)), width)
    inside = op.logical_and(op.greater_equal(places, number(0.0)), op.less(places, before))
    weights = op.select(inside, op.relu(op.subtract(number(1.0), distance)), number(0.0))
    weights = op.divide(weights, op.reduce_sum(weights, _whole(op, 0), keep_dims=True))
    last = op.subtract(before, number(1.0))
    old = op.convert(op.minimum(op.maximum(places, number(0.0)), last), "i32")
    values = op.gather(x, old, _whole(op, axis))  # [N, C, T, after, w] or [N, C, h, T, after]
    if axis == 2:
        weights = op.unsqueeze(weights, _whole(op, 2))
    return op.reduce_sum(op.multiply(values, weights), _whole(op, axis), keep_dims=False)


INNER_SIZE = "inner_size"
"""The input of `size_as_input`."""


def size_as_input(model: Any) -> bool:
    """Let the size of images that keep their aspect ratio be an input, [2] int64, if the model computes it.

    It is computed in double precision, which OpenVINO lacks: in single precision, it is a pixel less for some images.

    Returns:
        Whether there is such a size.
    """
    from openvino import Type
    from openvino import opset13 as op

    for node in model.get_ops():
        doubles = node.get_type_name() == "Convert" and node.get_input_element_type(0).get_type_name() == "f64"
        whole = node.get_output_element_type(0).get_type_name() == "i64"
        if doubles and whole and list(node.get_output_partial_shape(0)) == [2]:
            size = op.parameter([2], Type.i64)
            size.output(0).get_tensor().set_names({INNER_SIZE})
            model.add_parameters([size])
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(size.output(0))
            return True
    return False


def resize_by_sums(model: Any) -> None:
    """Replace the bilinear resizing of images by sums of weighted rows and columns, and so every antialiased one.

    Rows and columns that are cut off next are not computed. The weights are computed in single precision, as by
    PyTorch.

    Args:
        model: `openvino.Model` whose shapes are all known and whose constants are folded; it is changed.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Interpolate":
            continue
        settings = node.get_attributes()
        half = settings["coordinate_transformation_mode"] in ("half_pixel", "pytorch_half_pixel")
        images, converted = _images(node.input_value(0))
        if settings["mode"] not in ("linear", "linear_onnx") or not half or not (images or settings["antialias"]):
            continue
        x = converted if converted is not None else node.input_value(0)
        before, after = list(x.get_shape())[2:], list(node.get_output_shape(0))[2:]
        last, spans = _cut_off(node, after)
        for axis in (0, 1):
            x = _summed(x, axis + 2, *_taps(before[axis], after[axis], settings["antialias"]), spans[axis])
        if x.get_element_type().get_type_name() != "f32":
            x = _as_float(x)
        for target in last.output(0).get_target_inputs():
            target.replace_source_output(x)


def with_shapes(model: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """A copy of an OpenVINO model for inputs of these shapes alone, with constants folded and `resize_by_sums`.

    Args:
        model: `openvino.Model` for inputs of any shape, without `replace_antialiased`.
        shapes: name of each input → its shape.
    """
    from openvino.passes import ConstantFolding, Manager

    own, folding = model.clone(), Manager()
    own.reshape({name: list(shape) for name, shape in shapes.items()})
    folding.register_pass(ConstantFolding())
    folding.run_passes(own)
    _fold_doubles(own)
    own.validate_nodes_and_infer_types()
    folding.run_passes(own)
    resize_by_sums(own)
    return own


_FOLDED = {"Divide": np.divide, "Multiply": np.multiply, "Minimum": np.minimum}


def _fold_doubles(model: Any) -> None:
    """Fold the arithmetic of sizes in double precision, which OpenVINO would do in single precision, at each call."""
    from openvino import opset13 as op

    for node in model.get_ordered_ops():
        values = [node.input_value(i).get_node() for i in range(node.get_input_size())]
        if not values or any(value.get_type_name() != "Constant" for value in values):
            continue
        if node.get_output_element_type(0).get_type_name() == "f64" and node.get_type_name() in _FOLDED:
            found = _FOLDED[node.get_type_name()](*(value.get_data() for value in values))
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(op.constant(found).output(0))


def _images(x: Any) -> tuple[bool, Any]:
    """Whether a value is an input of the model, maybe converted, and the input before conversion."""
    source = x.get_node()
    if source.get_type_name() == "Convert" and source.input_value(0).get_node().get_type_name() == "Parameter":
        return True, source.input_value(0)
    return source.get_type_name() == "Parameter", None


def _cut_off(node: Any, size: Sequence[int]) -> tuple[Any, list[tuple[int, int]]]:
    """The node whose output replaces that of a resizing, and which rows and columns of `size` it has.

    It is the node itself, or a slice of constant numbers of rows and columns behind it.
    """
    whole = [(0, side) for side in size]
    users = list(node.output(0).get_target_inputs())
    user = users[0].get_node() if len(users) == 1 else node
    if user.get_type_name() != "Slice":
        return node, whole
    numbers = [user.input_value(i).get_node() for i in range(1, user.get_input_size())]
    if len(numbers) < 4 or any(number.get_type_name() != "Constant" for number in numbers):
        return node, whole
    start, stop, step, axes = ([int(v) for v in number.get_data().flatten()] for number in numbers)
    if any(one != 1 for one in step) or not set(axes) <= {2, 3} or min(*start, *stop) < 0:
        return node, whole
    for first, end, axis in zip(start, stop, axes, strict=True):
        whole[axis - 2] = (min(first, size[axis - 2]), min(end, size[axis - 2]))
    return user, whole


def _taps(before: int, after: int, antialias: bool) -> tuple[np.ndarray, np.ndarray]:
    """The old pixels that each new one depends on, and their weights: [after, T] each, as PyTorch's bilinear ones."""
    scale = np.float32(before / after)
    width = max(scale, np.float32(1)) if antialias else np.float32(1)
    centre = (np.arange(after, dtype=np.float32) + np.float32(0.5)) * scale
    if not antialias or scale <= 1:  # the pixels at the border are repeated
        centre = np.clip(centre, np.float32(0.5), np.float32(before - 0.5))
    first = np.floor(centre - width + np.float32(0.5)).astype(np.int64)
    places = first[:, None] + np.arange(int(np.ceil(2 * width)) + 1)
    weights = np.maximum(1 - np.abs(places + np.float32(0.5) - centre[:, None]) / width, 0).astype(np.float32)
    weights[(places < 0) | (places >= before)] = 0
    weights /= weights.sum(1, keepdims=True)
    begin = (weights > 0).argmax(1)[:, None] + np.arange(weights.shape[1])  # without zeros in front
    inside = begin < weights.shape[1]
    begin = np.minimum(begin, weights.shape[1] - 1)
    weights = np.where(inside, np.take_along_axis(weights, begin, 1), 0)
    places = np.clip(np.take_along_axis(places, begin, 1), 0, before - 1)
    used = int(np.flatnonzero((weights > 0).any(0))[-1]) + 1
    return places[:, :used], weights[:, :used]


def _summed(x: Any, axis: int, places: np.ndarray, weights: np.ndarray, span: tuple[int, int]) -> Any:
    """Values along an axis of `x` at places [after, T], summed with weights; only those of a span are computed."""
    from openvino import opset13 as op

    places, weights = places[slice(*span)], weights[slice(*span)]
    if places.shape[1] == 1 and np.array_equal(places[:, 0], np.arange(x.get_shape()[axis])):
        return x
    total: Any = None
    for place, weight in zip(places.T, weights.T, strict=True):
        shape = [1, 1, 1, 1]
        shape[axis] = len(place)
        part = _as_float(op.gather(x, op.constant(place.astype(np.int32)), op.constant(np.array(axis, np.int32))))
        part = op.multiply(part, op.constant(weight.reshape(shape)))
        total = part if total is None else op.add(total, part)
    return total.output(0)


def _as_float(x: Any) -> Any:
    from openvino import opset13 as op

    return op.convert(x, "f32").output(0)
