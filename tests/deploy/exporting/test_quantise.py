"""Finding the network in a file, quantising it, and its half precision, on a small file written by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from sightline.errors import InputError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from sightline.deploy.exporting.half import in_half_precision  # noqa: E402
from sightline.deploy.exporting.layers import network_of  # noqa: E402
from sightline.deploy.exporting.quantise import Quantiser, best_range, network_alone  # noqa: E402
from tests.deploy.exporting.graphs import by_hand, outputs, pictures  # noqa: E402

LAYERS = ("stem", "left", "right", "head")


@pytest.fixture(scope="module")
def quantiser() -> Quantiser:
    return Quantiser(by_hand(), pictures())


def users(model: Any, name: str) -> list[str]:
    return [node.op_type for node in model.graph.node if name in node.input]


def test_the_network_is_what_has_weights_and_what_lies_between() -> None:
    network = network_of(by_hand())
    assert tuple(layer.name for layer in network.layers) == LAYERS
    assert [layer.name for layer in network.layers if layer.ends] == ["head"]
    both = frozenset({"left", "right"})
    assert network.owners == {
        "sigmoid": frozenset({"stem"}),
        "silu": frozenset({"stem"}),
        "sum": both,
        "relu": both,
    }
    assert network.outputs == ("h",)  # the size of c is used outside, its values are not
    assert set(network.tensors) == {"batch", *"abcdefgh"}
    assert set(network.nodes_of(["left"])) == {"conv_left"}
    assert set(network.nodes_of(["left", "right"])) == {"conv_left", "conv_right", "sum", "relu"}


def test_all_layers_are_quantised_and_nothing_else(quantiser: Quantiser) -> None:
    model = quantiser.quantised(LAYERS)
    onnx.checker.check_model(model)
    produced = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert [produced[name].op_type for name in node.input] == ["DequantizeLinear"] * len(node.input)
        if node.name in ("div", "sub", "softmax", "pool"):
            assert all(produced.get(name) is None or "weight" not in name for name in node.input)
    assert users(model, "unit") == ["Sub"]  # preprocessing stays as it is
    types = Counter(tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("weight_quantized"))
    assert types == {onnx.TensorProto.INT8: 4}
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts == {entry.key: entry.value for entry in by_hand().metadata_props}
    assert len(model.SerializeToString()) < 3 * len(by_hand().SerializeToString())
    for image in pictures(3, seed=1):
        one, other = outputs(by_hand(), image)[0], outputs(model, image)[0]
        assert 0 < np.abs(one - other).max() < 0.02


def test_a_layer_left_out_stays_in_float(quantiser: Quantiser) -> None:
    model = quantiser.quantised(["stem", "head"])
    whole = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    assert {"part.model.left.weight", "part.model.right.weight"} <= whole
    assert not {"part.model.stem.weight", "part.model.head.weight"} & whole
    assert users(model, "d") == ["Add"]  # the sum follows float layers alone
    nothing = quantiser.quantised([])
    assert Counter(node.op_type for node in nothing.graph.node) == Counter(
        node.op_type for node in by_hand().graph.node
    )


def test_sensitivity_finds_the_layer_whose_rounding_hurts() -> None:
    coarse = by_hand()
    weight = next(tensor for tensor in coarse.graph.initializer if tensor.name == "part.model.right.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 0] *= 2000  # within each output channel, so that its other weights round to nothing
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    steps: list[int] = []
    quantiser = Quantiser(coarse, pictures())
    found = quantiser.sensitivities(pictures(2), steps.append)
    assert steps == [1] * 4
    assert max(found, key=lambda name: found[name]) in ("right", "stem")  # it, or the layer that it magnifies
    assert all(value > 0 for value in found.values())
    part = network_alone(quantiser.content, quantiser.network)
    assert [value.name for value in part.graph.output] == ["h"]
    assert not {"ReduceMean", "Softmax", "Shape"} & {node.op_type for node in part.graph.node}


def test_the_best_range_against_every_range_tried_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 20000), [40.0]]).astype(np.float32)

    def error(low: float, high: float) -> float:
        levels = np.round(-low / (high - low) * 255)
        steps = (np.arange(256) - levels) * (high - low) / 255
        nearest = steps[np.searchsorted((steps[1:] + steps[:-1]) / 2, values)]
        return float(((values - nearest) ** 2).mean())

    low, high = best_range(values)
    assert high < 40  # the one large value is cut off
    assert error(low, high) == pytest.approx(
        min(error(f * float(values.min()), f * 40.0) for f in 1 - 0.05 * np.arange(15)), rel=1e-3
    )
    flat = np.linspace(-1, 3, 1000, dtype=np.float32)
    assert best_range(flat) == (-1.0, 3.0)
    assert best_range(np.zeros(5, np.float32)) == (0.0, 0.0)
    assert best_range(np.full(5, 2.0, np.float32)) == (0.0, 2.0)  # 0 must have a level of its own


def test_without_layers_or_images() -> None:
    with pytest.raises(InputError, match="no images to calibrate on"):
        Quantiser(by_hand(), [])
    empty = by_hand()
    nodes = [node for node in empty.graph.node if node.name in ("full", "half", "cast", "div", "sub")]
    del empty.graph.node[:]
    empty.graph.node.extend([*nodes, onnx.helper.make_node("ReduceMean", ["batch", "axes"], ["scores"], "m")])
    del empty.graph.output[1:]
    with pytest.raises(InputError, match="no convolutions or linear layers"):
        Quantiser(empty, pictures())


def test_half_precision_of_the_network_alone() -> None:
    large = by_hand()
    weight = next(tensor for tensor in large.graph.initializer if tensor.name == "part.model.stem.bias")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] = -1e6  # beyond float16
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    model = in_half_precision(large)
    onnx.checker.check_model(model, full_check=True)
    halves = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) == 6
    assert not [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert float(onnx.numpy_helper.to_array(next(t for t in halves if "stem.bias" in t.name))[0]) == -65504
    casts = [(list(n.input), list(n.output)) for n in model.graph.node if n.op_type == "Cast" and n.name != "cast"]
    assert casts == [(["batch"], ["batch.half"]), (["c.half"], ["c"]), (["h.half"], ["h"])]
    for image in pictures(2):
        one, other = outputs(large, image, "scores", "shape"), outputs(model, image, "scores", "shape")
        assert other[0].dtype == np.float32
        assert 0 < np.abs(one[0] - other[0]).max() < 2e-3
        assert one[1].tolist() == other[1].tolist()
