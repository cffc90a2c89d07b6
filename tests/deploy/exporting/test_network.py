"""The exporter's form of layers that behave differently while they are exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sightline.deploy.exporting import network
from sightline.deploy.exporting.deform_operator import exportable
from sightline.nn.layers.conv import SameConv2d, missing_pixels
from sightline.nn.layers.deform import DeformConv2d


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 24), (17, 22)], ids=["even", "odd"])
def test_padding_same_is_exported_for_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(SameConv2d(2, 3, 3, 2), SameConv2d(3, 2, 5, 2), SameConv2d(2, 2, 3, 1)).eval()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(layers, (torch.rand(1, 2, 40, 48),), dynamic_shapes=(free,))
        x = torch.rand(1, 2, *size)
        torch.testing.assert_close(program.module()(x), layers(x), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_deformable_convolutions_are_exported_for_any_batch() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    ir = pytest.importorskip("onnx_ir")
    torch.manual_seed(0)
    layers = nn.Sequential(
        DeformConv2d(4, 6, 3, 2, 1, offset_groups=2, groups=2), DeformConv2d(6, 3, 3, 1, 2, dilation=2, modulated=False)
    ).eval()
    for layer in layers:
        nn.init.normal_(layer.offset.weight, 0, 0.5)
        nn.init.normal_(layer.offset.bias, 0, 0.5)
    given = [torch.randn(count, 4, 11, 14) for count in (1, 3)]
    with torch.no_grad():
        wanted = [layers(x) for x in given]
        exportable(layers)
        program = torch.export.export(
            layers, (torch.randn(2, 4, 11, 14),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
        )
        model = ir.to_proto(network.translated(program, ["x"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for x, own in zip(given, wanted, strict=True):
        (there,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(there), own, atol=1e-5, rtol=0)


def test_activations_are_exported_out_of_place() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU6(inplace=True), nn.SiLU(inplace=True)).eval()
    network.not_in_place(layers)
    program = torch.export.export(layers, (torch.zeros(1, 1, 2, 2),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["aten.conv2d.default", "aten.hardtanh.default", "aten.silu.default"]


@pytest.mark.parametrize(("size", "operators"), [(1, {"ReduceMean"}), (2, {"AveragePool"})])
def test_global_pooling_is_one_node(size: int, operators: set[str]) -> None:
    pytest.importorskip("onnxscript")
    program = torch.export.export(nn.AdaptiveAvgPool2d(size), (torch.zeros(1, 2, 4, 6),))
    found = {node.op_type for node in network.translated(program, ["x"]).graph}
    assert found == operators


def test_missing_pixels() -> None:
    axes = [(8, 3, 2), (9, 3, 2), (8, 5, 2), (8, 3, 1), (8, 1, 2)]
    assert [missing_pixels(*axis) for axis in axes] == [1, 2, 3, 2, 0]
