"""Preprocessing as ONNX nodes: the same batch as the model's preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.darknet.preprocess import DarknetPreprocess
from sightline.models.keep_size import KeepSize
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess
from sightline.ops.resizing import resize_images

ir = pytest.importorskip("onnx_ir")
onnxruntime = pytest.importorskip("onnxruntime")
from sightline.deploy.exporting.nodes import Nodes, add_preprocessing, resize  # noqa: E402

SIZES = [(40, 60), (61, 33), (48, 48), (7, 90)]


def session(nodes: Nodes, inputs: list[Any], outputs: list[Any], folder: Path) -> Any:
    graph = ir.Graph(inputs, outputs, nodes=nodes.tape.nodes, opset_imports={"": 20}, name="nodes")
    ir.save(ir.Model(graph, ir_version=10), folder / "nodes.onnx")
    return onnxruntime.InferenceSession(str(folder / "nodes.onnx"), providers=["CPUExecutionProvider"])


def typed(value: Any, kind: Any, shape: list[Any]) -> Any:
    value.type, value.shape = ir.TensorType(kind), ir.Shape(shape)
    return value


def both(model: Model, images: torch.Tensor, folder: Path) -> tuple[Any, Any]:
    """What the nodes give for images of one size, and the model's own batch."""
    uint8 = images.dtype == torch.uint8
    given = ir.Value(name="images")
    typed(given, ir.DataType.UINT8 if uint8 else ir.DataType.FLOAT, ["n", model.in_channels, "h", "w"])
    nodes = Nodes()
    values = [nodes.Identity(value) for value in add_preprocessing(nodes, model, given, uint8)]
    for value, name, kind, shape in zip(
        values,
        ("batch", "size", "original"),
        (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT64),
        (["n", "c", "y", "x"], [2], [2]),
        strict=True,
    ):
        value.name = name
        typed(value, kind, shape)
    found = session(nodes, [given], values, folder).run(["batch", "size", "original"], {"images": images.numpy()})
    return [torch.from_numpy(value) for value in found], model.prepare(list(images), None)[0]


@pytest.mark.parametrize("size", [*SIZES, (60, 40)])
@pytest.mark.parametrize("letterbox", [True, False])
def test_a_letterbox_equals_the_model_s(letterbox: bool, size: tuple[int, int], tmp_path: Path) -> None:
    preprocess = DarknetPreprocess(3, (32, 48), letterbox)
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    (batch, inner, original), truth = both(Model(["a"], preprocess), images, tmp_path)
    left, top, right, bottom = truth.frame(0)
    assert inner.tolist() == [bottom - top, right - left]
    assert original.tolist() == list(size)
    torch.testing.assert_close(batch, truth.tensor, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(min_size=32, max_size=50, divisor=16),
        Preprocess(min_size=32, max_size=50, divisor=16, antialias=True),
        Preprocess(min_size=36, max_size=None, divisor=1, antialias=True),
        Preprocess(min_size=3, max_size=None, divisor=1),
        Preprocess(fixed_size=(30, 44), divisor=1, interpolation="bicubic", antialias=True),
        Preprocess(fixed_size=(64, 64), divisor=1, interpolation="bicubic"),
        KeepSize(divisor=8),
    ],
    ids=["shorter side", "antialiased", "no limit", "very long", "bicubic", "bicubic larger", "size kept"],
)
def test_the_batch_equals_the_model_s(preprocess: Preprocess, size: tuple[int, int], tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    (batch, inner, original), truth = both(Model(["a"], preprocess), images, tmp_path)
    assert original.tolist() == list(size)
    assert inner.tolist() == list(truth.sizes[0])
    assert batch.shape == truth.tensor.shape
    torch.testing.assert_close(batch, truth.tensor, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (40, 50), (100, 31), (33, 170)])
def test_centre_crops_of_float_images(size: tuple[int, int], tmp_path: Path) -> None:
    model = create_model("squeezenet1_1", ["a", "b"], image_size=45, crop_pct=1.0)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    (batch, _, _), truth = both(model, images, tmp_path)
    torch.testing.assert_close(batch, truth.tensor, atol=1e-4, rtol=0)


def test_resized_maps(tmp_path: Path) -> None:
    nodes, given = Nodes(), typed(ir.Value(name="x"), ir.DataType.FLOAT, [1, 2, "h", "w"])
    out = typed(resize(nodes, given, nodes.constant([9, 20])), ir.DataType.FLOAT, [1, 2, 9, 20])
    x = torch.rand(1, 2, 5, 31, generator=torch.Generator().manual_seed(1))
    found = session(nodes, [given], [out], tmp_path).run(None, {"x": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), resize_images(x, (9, 20)), atol=1e-5, rtol=0)


def test_preprocessing_of_another_kind_is_refused(tmp_path: Path) -> None:
    class Other(Preprocess):
        pass

    with pytest.raises(InputError, match="no exported form of its preprocessing, Other"):
        both(Model(["a"], Other()), torch.zeros(1, 3, 8, 8), tmp_path)
