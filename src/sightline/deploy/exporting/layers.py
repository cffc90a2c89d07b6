"""The network inside an exported file: its layers with weights, and the nodes between them.

Only these are quantised or computed in half precision. Preprocessing, the decoding of boxes, suppression and the making
of class maps stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that have weights."""
_BETWEEN = (
    *("Sigmoid", "Relu", "LeakyRelu", "Clip", "HardSigmoid", "HardSwish", "Tanh", "Mul", "Add", "Concat"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Resize", "Pad", "Slice", "Split"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
)
"""Operators that may lie between two layers of a network; a chain with another operator is left as it is."""
_MANY_INPUTS = ("Mul", "Add", "Concat")
"""Operators whose inputs are all values of the network; of others only the first is, the rest are sizes and limits."""


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: the name of its module in the model, such as "head.classes.0".
        nodes: names of the nodes that compute it; several if it is used at several places, such as for each level.
        ends: whether a value of it leaves the network, so that no further layer rounds it.
    """

    name: str
    nodes: tuple[str, ...]
    ends: bool


@dataclass(frozen=True)
class Network:
    """The layers of a file and the nodes between them.

    Attributes:
        layers: the layers, in the order of computation.
        owners: name of each node between layers → the names of the layers that it follows.
        outputs: names of the values that leave the network, such as class logits and box offsets.
        tensors: names of all values of the network, with those that enter it.
    """

    layers: tuple[Layer, ...]
    owners: Mapping[str, frozenset[str]]
    outputs: tuple[str, ...]
    tensors: tuple[str, ...]

    def nodes_of(self, names: Iterable[str]) -> list[str]:
        """The nodes of these layers, and those between layers that follow only these layers."""
        chosen = frozenset(names)
        own = [node for layer in self.layers if layer.name in chosen for node in layer.nodes]
        return own + [node for node, owners in self.owners.items() if owners <= chosen]


def network_of(model: Any) -> Network:
    """Find the network of an exported file.

    Args:
        model: the file's content (`onnx.ModelProto`); every node has a name.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) >= 2}
    producer = {name: node for node in graph.node for name in node.output}
    layers = _weighted(graph.node, weights)
    layer_of = {node: name for name, nodes in layers.items() for node in nodes}
    owners = _between(graph.node, producer, layer_of)
    inside = {*layer_of, *owners}
    used: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input if node.op_type != "Shape" else ():
            used.setdefault(name, []).append(node.name)
    for value in graph.output:
        used.setdefault(value.name, []).append("")
    outputs: list[str] = []
    tensors: dict[str, None] = {}
    ends: set[str] = set()
    for node in graph.node:
        if node.name not in inside:
            continue
        for name in values_of(node, weights):
            tensors[name] = None
        for name in node.output:
            tensors[name] = None
            if any(user not in inside for user in used.get(name, ())):
                outputs.append(name)
                ends |= {layer_of[node.name]} if node.name in layer_of else owners[node.name]
    found = tuple(Layer(name, tuple(nodes), name in ends) for name, nodes in layers.items())
    return Network(found, owners, tuple(outputs), tuple(tensors))


def values_of(node: Any, weights: Iterable[str] = ()) -> list[str]:
    """The inputs of a node that are values of the network: not weights, sizes or limits."""
    given = list(node.input) if node.op_type in (*_MANY_INPUTS, "MatMul") else list(node.input)[:1]
    return [name for name in given if name and name not in weights]


def _weighted(nodes: Iterable[Any], weights: set[str]) -> dict[str, list[str]]:
    """Names of the nodes of each layer, by the layer's name."""
    layers: dict[str, list[str]] = {}
    for node in nodes:
        own = [name for name in node.input if name in weights] if node.op_type in WEIGHTED else []
        if own:
            named = own[0].endswith(".weight")
            name = own[0].removeprefix("part.").removeprefix("model.").removesuffix(".weight")
            layers.setdefault(name if named else node.name, []).append(node.name)
    return layers


def _between(
    nodes: Iterable[Any], producer: Mapping[str, Any], layer_of: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """The nodes between layers, each with the layers that it follows.

    A node follows layers if each of its values comes from a layer, by nodes between layers alone; it lies between
    layers if a layer also comes after it.
    """
    ordered = list(nodes)
    after: dict[str, frozenset[str]] = {}
    for node in ordered:
        if node.name in layer_of or node.op_type not in _BETWEEN:
            continue
        own: list[frozenset[str]] = []
        for name in values_of(node):
            source = producer.get(name)
            if source is None or source.op_type == "Constant":
                continue  # a weight or a number
            if source.name in layer_of:
                own.append(frozenset([layer_of[source.name]]))
            else:
                own.append(after.get(source.name, frozenset()))
        if own and all(own):
            after[node.name] = frozenset().union(*own)
    needed: set[str] = set()
    for node in reversed(ordered):
        if node.name in layer_of or node.name in needed:
            needed |= {producer[name].name for name in values_of(node) if name in producer}
    return {name: layers for name, layers in after.items() if name in needed}
