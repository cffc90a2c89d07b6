"""A small exported file written by hand: preprocessing, a network of three layers with a residual sum, and decoding."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FACTS = {
    "format": "sightline onnx 1",
    "version": "0.1.0",
    "model": "by_hand",
    "task": "classification",
    "kind": "scores",
    "dtype": "uint8",
    "images": "[N, 3, H, W] uint8, all of one size",
    "classes": json.dumps(["cat", "dog"]),
    "preprocess": json.dumps(
        {
            "description": "as it is",
            "kind": "KeepSize",
            "mean": [0.5] * 3,
            "std": [1.0] * 3,
            "divisor": 1,
        }
    ),
    "outputs": json.dumps({"scores": "[N, K] float, class probabilities"}),
    "metadata": json.dumps({"threshold": 0.25}),
    "fixed_size": "false",
}


def by_hand(seed: int = 0, bias: float = 0.0) -> Any:
    """images [N, 3, H, W] uint8 → /255 − 0.5 → stem, SiLU → two branches, summed → head → mean → softmax.

    Args:
        seed: of the weights.
        bias: of the logit of "dog".
    """
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    weights = [
        weight("part.model.stem.weight", 8, 3, 3, 3),
        weight("part.model.stem.bias", 8),
        weight("part.model.left.weight", 8, 8, 3, 3),
        weight("part.model.right.weight", 8, 8, 1, 1),
        weight("part.model.head.weight", 2, 8, 1, 1),
    ]
    weights.append(numpy_helper.from_array(np.array([0, bias], np.float32), "part.model.head.bias"))
    n, pad = helper.make_node, {"pads": [1, 1, 1, 1]}
    nodes = [
        n("Constant", [], ["full"], "full", value=numpy_helper.from_array(np.float32(255))),
        n("Constant", [], ["half"], "half", value=numpy_helper.from_array(np.float32(0.5))),
        n("Cast", ["images"], ["floats"], "cast", to=1),
        n("Div", ["floats", "full"], ["unit"], "div"),
        n("Sub", ["unit", "half"], ["batch"], "sub"),
        n("Conv", ["batch", "part.model.stem.weight", "part.model.stem.bias"], ["a"], "conv_stem", **pad),
        n("Sigmoid", ["a"], ["b"], "sigmoid"),
        n("Mul", ["a", "b"], ["c"], "silu"),
        n("Conv", ["c", "part.model.left.weight"], ["d"], "conv_left", **pad),
        n("Conv", ["c", "part.model.right.weight"], ["e"], "conv_right"),
        n("Add", ["d", "e"], ["f"], "sum"),
        n("Relu", ["f"], ["g"], "relu"),
        n("Conv", ["g", "part.model.head.weight", "part.model.head.bias"], ["h"], "conv_head"),
        n("ReduceMean", ["h", "axes"], ["logits"], "pool", keepdims=0),
        n("Softmax", ["logits"], ["scores"], "softmax"),
        n("Shape", ["c"], ["shape"], "shape"),
    ]
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [4]),
        ],
        [*weights, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in FACTS.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    return model


def pictures(count: int = 4, seed: int = 0) -> list[Any]:
    """Noise [1, 3, H, W] uint8 of different sizes."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (1, 3, 10 + i, 12), dtype=np.uint8) for i in range(count)]


def outputs(model: Any, image: Any, *names: str) -> list[Any]:
    """Outputs of a model, the first by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(list(names) or ["scores"], {"images": image})
    return found
