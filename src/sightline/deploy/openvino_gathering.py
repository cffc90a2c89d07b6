"""Gathering for OpenVINO, which gathers the elements of vectors in twice the time that gathering their rows takes."""

from __future__ import annotations

from typing import Any

import numpy as np


def gather_vectors(model: Any) -> None:
    """Replace each `GatherElements` of a vector by `Gather`, which is the same there.

    Args:
        model: `openvino.Model`; it is changed.
    """
    from openvino import opset13 as op

    for node in model.get_ops():
        if node.get_type_name() != "GatherElements" or node.get_input_partial_shape(0).rank.get_length() != 1:
            continue
        axis = op.constant(np.array(0, np.int64))
        gathered = op.gather(node.input_value(0), node.input_value(1), axis)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(gathered.output(0))
