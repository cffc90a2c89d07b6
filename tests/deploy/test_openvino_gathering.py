"""Gathering from vectors by OpenVINO: the same values by a faster operator."""

from __future__ import annotations

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
from sightline.deploy.openvino_gathering import gather_vectors  # noqa: E402


def test_only_vectors_are_gathered_in_rows() -> None:
    from openvino import opset13 as op

    vector, matrix = op.parameter([5], np.float32), op.parameter([2, 3], np.float32)
    at, places = op.parameter([-1], np.int64), op.parameter([2, 2], np.int64)
    found = [op.gather_elements(vector, at, 0), op.gather_elements(matrix, places, 1)]
    model = openvino.Model([op.result(one) for one in found], [vector, matrix, at, places], "gathering")
    given = [
        np.array([5, 6, 7, 8, 9], np.float32),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([4, 0, 0, 3, 2, 1, 4]),
        np.array([[2, 0], [1, 1]]),
    ]
    before = openvino.Core().compile_model(model, "CPU")(given)
    gather_vectors(model)
    assert sorted(one.get_type_name() for one in model.get_ops() if "Gather" in one.get_type_name()) == [
        "Gather",
        "GatherElements",
    ]
    after = openvino.Core().compile_model(model, "CPU")(given)
    assert after[0].tolist() == before[0].tolist() == given[0][given[2]].tolist()
    assert after[1].tolist() == before[1].tolist()
