"""Static quantisation of the network in an exported file: weights and values as 8-bit integers.

Quantised are the layers with weights and what lies between them (`sightline.deploy.exporting.layers`). ONNX Runtime's
quantiser writes the nodes; the range of each value is measured here, on the images that the caller gives.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.deploy.exporting.layers import Network, network_of
from sightline.errors import InputError

Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest value by the name of the value."""
Advance = Callable[[int], None]
"""Called with the number of steps completed."""

_KEPT = 512
"""Values of each tensor and image that the choice of its range is based on."""
_CLIPPED = tuple(1 - 0.05 * i for i in range(15))
"""Fractions of the measured range that are tried."""


class Quantiser:
    """Quantises the layers of an exported file, all or some.

    Args:
        content: the file's content (`onnx.ModelProto`); it is not changed.
        images: arrays [1, C, H, W] as the file takes them, of any sizes.
        advance: called after each image.

    Attributes:
        network: the layers of the file.
        ranges: the range of each value of the network.

    Raises:
        InputError: the file has no layers with weights.
    """

    def __init__(self, content: Any, images: Sequence[NDArray[Any]], advance: Advance = lambda count: None):
        from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

        self.content = save_and_reload_model_with_shape_infer(copy.deepcopy(content))
        self._facts = {entry.key: entry.value for entry in content.metadata_props}
        self.network: Network = network_of(self.content)
        if not self.network.layers:
            raise InputError(
                "the model has no convolutions or linear layers that could be quantised; export it as fp32"
            )
        self.ranges = measured_ranges(self.content, self.network, images, advance)

    def quantised(self, layers: Collection[str]) -> Any:
        """The file's content with these layers quantised, and what lies between them alone.

        Weights have a scale per output channel, values one scale and zero point.
        """
        return self._with_facts(self._quantised(self.content, layers))

    def sensitivities(self, images: Sequence[NDArray[Any]], advance: Advance = lambda count: None) -> dict[str, float]:
        """How much the outputs of the network change if one layer alone is quantised, by the name of the layer.

        It is the squared difference of each output relative to its variance, averaged over outputs and images.

        Args:
            images: a few arrays [1, C, H, W].
            advance: called after each layer.
        """
        part = network_alone(self.content, self.network)
        own = [_run(_session(part), image) for image in images]
        found = {}
        for layer in self.network.layers:
            session = _session(self._quantised(part, [layer.name]))
            found[layer.name] = float(
                np.mean([_error(a, b) for a, image in zip(own, images, strict=True) for b in [_run(session, image)]])
            )
            advance(1)
        return found

    def _quantised(self, content: Any, layers: Collection[str]) -> Any:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        nodes = self.network.nodes_of(layers)
        types = {node.op_type for node in content.graph.node if node.name in set(nodes)}
        ranges = {name: (np.float32(low), np.float32(high)) for name, (low, high) in self.ranges.items()}
        with _quiet():
            quantizer = QDQQuantizer(
                copy.deepcopy(content),
                per_channel=True,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
                nodes_to_quantize=nodes,
                nodes_to_exclude=[],
                op_types_to_quantize=sorted(types),
                extra_options={},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        return quantizer.model.model

    def _with_facts(self, content: Any) -> Any:
        """The content with the metadata of the original file alone."""
        del content.metadata_props[:]
        for key, value in self._facts.items():
            content.metadata_props.add(key=key, value=value)
        return content


def measured_ranges(
    content: Any, network: Network, images: Sequence[NDArray[Any]], advance: Advance = lambda count: None
) -> Ranges:
    """The range of each value of the network over some images.

    Of 15 ranges from the measured one down to 30 % of it, each tensor gets the one with the smallest mean squared error
    after rounding to 256 levels: rare large values are cut off where this makes all others more precise.

    Source: Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 3.1.1 (ranges by mean squared
    error).

    Raises:
        InputError: there are no images.
    """
    if not len(images):
        raise InputError("there are no images to calibrate on; give at least one")
    session = _session(_with_outputs(content, network.tensors))
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in network.tensors}
    random = np.random.default_rng(0)
    for image in images:
        for name, value in zip(network.tensors, session.run(list(network.tensors), {"images": image}), strict=True):
            flat = value.ravel()
            if not len(flat):
                continue
            few = flat if len(flat) <= _KEPT else flat[random.integers(0, len(flat), _KEPT)]
            kept[name].append(np.concatenate([few, [flat.min(), flat.max()]]).astype(np.float32))
        advance(1)
    return {name: best_range(np.concatenate([np.zeros(1, np.float32), *values])) for name, values in kept.items()}


def best_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """The range for these values that has the smallest mean squared error after rounding to 256 levels."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if low == high:
        return low, high
    errors = []
    for part in _CLIPPED:
        scale = part * (high - low) / 255
        zero = np.round(-part * low / scale)
        rounded = (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale
        errors.append(float(((values - rounded) ** 2).mean()))
    best = _CLIPPED[int(np.argmin(errors))]
    return best * low, best * high


def network_alone(content: Any, network: Network) -> Any:
    """The content without what follows the network; its outputs are those of the network."""
    part = _with_outputs(content, network.outputs, others=False)
    needed, nodes = set(network.outputs), []
    for node in reversed(part.graph.node):
        if needed & set(node.output):
            needed |= {name for name in node.input if name}
            nodes.append(node)
    del part.graph.node[:]
    part.graph.node.extend(reversed(nodes))
    kept = [tensor for tensor in part.graph.initializer if tensor.name in needed]
    del part.graph.initializer[:]
    part.graph.initializer.extend(kept)
    return part


def _with_outputs(content: Any, names: Sequence[str], others: bool = True) -> Any:
    """A copy of the content that also gives these values, or only them."""
    from onnx import TensorProto, helper

    own = copy.deepcopy(content)
    if not others:
        del own.graph.output[:]
    there = {value.name for value in own.graph.output}
    own.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in there
    )
    return own


def _session(content: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, image: NDArray[Any]) -> list[NDArray[np.float32]]:
    found: list[NDArray[np.float32]] = session.run(None, {"images": image})
    return found


def _error(one: Sequence[NDArray[np.float32]], other: Sequence[NDArray[np.float32]]) -> float:
    """Squared differences of outputs relative to their variance, averaged over the outputs."""
    return float(np.mean([((a - b) ** 2).mean() / max(float(a.var()), 1e-12) for a, b in zip(one, other, strict=True)]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's remarks, which go to the root logger."""
    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
