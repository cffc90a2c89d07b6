"""The network in an exported file in half precision (float16): half the size, and faster on hardware that has it.

bfloat16 has no exported form: ONNX Runtime's CPU provider has no convolution for it.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from sightline.deploy.exporting.layers import network_of, values_of

LARGEST = float(np.finfo(np.float16).max)


def in_half_precision(content: Any) -> Any:
    """A copy of a file's content whose network has float16 weights and values.

    Values are converted where they enter the network and where they leave it; preprocessing, decoding and suppression
    stay in float32. Weights beyond the range of float16 are set to its limits.

    Args:
        content: the file's content (`onnx.ModelProto`).
    """
    from onnx import TensorProto, helper, numpy_helper

    content = copy.deepcopy(content)
    network, graph = network_of(content), content.graph
    inside = {node for layer in network.layers for node in layer.nodes} | set(network.owners)
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].t.data_type == TensorProto.FLOAT
    }
    halves, made = _Halves(helper), {name for node in graph.node if node.name in inside for name in node.output}
    nodes: list[Any] = []
    for node in graph.node:
        if node.name not in inside:
            nodes.append(node)
            continue
        for i in _float_inputs(node, constants):
            name = node.input[i]
            if name in made:
                node.input[i] = halves.name(name)
            elif name in constants:
                half = numpy_helper.to_array(constants[name]).clip(-LARGEST, LARGEST).astype(np.float16)
                node.input[i] = halves.weight(name, half, numpy_helper)
            else:
                nodes += halves.entering(name)
                node.input[i] = halves.name(name)
        outputs = list(node.output)
        node.output[:] = [halves.name(name) for name in outputs]
        nodes.append(node)
        nodes += [halves.leaving(name) for name in outputs if name in network.outputs or _sized(graph, name)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *halves.weights.values()])
    return content


class _Halves:
    """Names, weights and conversions of float16 values."""

    def __init__(self, helper: Any):
        self.helper, self.weights, self.entered = helper, {}, set()  # type: ignore[var-annotated]

    def name(self, value: str) -> str:
        """The name of a value in float16."""
        return f"{value}.half"

    def weight(self, name: str, half: Any, numpy_helper: Any) -> str:
        """The name of a weight in float16."""
        self.weights.setdefault(name, numpy_helper.from_array(half, self.name(name)))
        return self.name(name)

    def entering(self, name: str) -> list[Any]:
        """The conversion of a value that enters the network, the first time it does."""
        if name in self.entered:
            return []
        self.entered.add(name)
        return [self.helper.make_node("Cast", [name], [self.name(name)], f"half_{name}", to=10)]

    def leaving(self, name: str) -> Any:
        """The conversion back to float32."""
        return self.helper.make_node("Cast", [self.name(name)], [name], f"float_{name}", to=1)


def _float_inputs(node: Any, constants: Any) -> list[int]:
    """Positions of the inputs that have the type of the node's output: values, weights and biases."""
    values = set(values_of(node))
    if node.op_type == "Clip":
        return [i for i, name in enumerate(node.input) if name]
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat"):
        return [i for i, name in enumerate(node.input) if name]
    return [i for i, name in enumerate(node.input) if name in values]


def _sized(graph: Any, name: str) -> bool:
    """Whether the shape of a value is used."""
    return any(node.op_type == "Shape" and name in node.input for node in graph.node)
