"""Antialiased resizing by OpenVINO: the same images as the model's preprocessing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess

pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
from sightline.deploy.openvino_resizing import (  # noqa: E402
    INNER_SIZE,
    replace_antialiased,
    size_as_input,
    with_shapes,
)
from tests.deploy.exporting.test_nodes import both  # noqa: E402


@pytest.mark.parametrize("size", [(61, 83), (20, 90), (30, 44), (30, 90)])
def test_images_equal_the_model_s(size: tuple[int, int], tmp_path: Path) -> None:
    preprocess = Preprocess(fixed_size=(30, 44), divisor=1, antialias=True)
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    _, truth = both(Model(["a"], preprocess), images, tmp_path)
    model = openvino.Core().read_model(str(tmp_path / "nodes.onnx"))
    replace_antialiased(model)
    found = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images.numpy()])
    assert float((torch.from_numpy(found[0]) - truth.tensor).abs().max()) < 1e-3


def test_the_first_images_of_a_larger_size_are_right(tmp_path: Path) -> None:
    model = Model(["a"], Preprocess(min_size=96, max_size=200, divisor=1, antialias=True))
    given = [torch.randint(0, 256, (2, 3, side, side + 50), dtype=torch.uint8) for side in (120, 150, 300)]
    truth = [both(model, images, tmp_path)[1].tensor for images in given]
    general = openvino.Core().read_model(str(tmp_path / "nodes.onnx"))
    replace_antialiased(general)
    run = openvino.Core().compile_model(general, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for images, wanted in zip(given, truth, strict=True):
        torch.testing.assert_close(torch.from_numpy(run([images.numpy()])[0]), wanted, atol=1e-3, rtol=0)


def test_the_size_is_that_of_the_model(tmp_path: Path) -> None:
    preprocess = Preprocess(min_size=320, max_size=448, divisor=1)
    both(Model(["a"], preprocess), torch.zeros(1, 3, 50, 60, dtype=torch.uint8), tmp_path)
    general = openvino.Core().read_model(str(tmp_path / "nodes.onnx"))
    assert size_as_input(general)
    run = openvino.Core().compile_model(general, "CPU")
    size = (698, 186)  # 447×119 in single precision
    found = run({"images": torch.zeros(1, 3, *size).byte().numpy(), INNER_SIZE: np.array(preprocess.fitted(size))})
    assert found["size"].tolist() == [448, 119]
    assert preprocess.resized(size) == (448, 119)
    own = with_shapes(openvino.Core().read_model(str(tmp_path / "nodes.onnx")), {"images": (1, 3, *size)})
    found = openvino.Core().compile_model(own, "CPU")([torch.zeros(1, 3, *size).byte().numpy()])
    assert found["size"].tolist() == [448, 119]


@pytest.mark.parametrize("size", [(61, 83), (20, 90), (30, 44), (43, 77), (5, 5)])
@pytest.mark.parametrize(
    "model",
    [
        Model(["a"], Preprocess(fixed_size=(30, 44), divisor=1, antialias=True)),
        Model(["a"], Preprocess(fixed_size=(30, 44), divisor=1)),
        Model(["a"], Preprocess(min_size=32, max_size=50, divisor=16, antialias=True)),
        create_model("squeezenet1_1", ["a", "b"], image_size=33, crop_pct=0.8),
    ],
    ids=["antialiased", "not antialiased", "shorter side", "centre crop"],
)
def test_a_model_for_one_size_sums_few_pixels(model: Model, size: tuple[int, int], tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    _, truth = both(model, images, tmp_path)
    general = openvino.Core().read_model(str(tmp_path / "nodes.onnx"))
    own = with_shapes(general, {"images": images.shape})
    assert not {"Interpolate", "MatMul"} & {node.get_type_name() for node in own.get_ops()}
    found = openvino.Core().compile_model(own, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images.numpy()])
    torch.testing.assert_close(torch.from_numpy(found[0]), truth.tensor, atol=1e-4, rtol=0)


def test_rows_and_columns_that_are_cut_off_are_not_computed(tmp_path: Path) -> None:
    both(create_model("squeezenet1_1", ["a"], image_size=33, crop_pct=0.8), torch.zeros(1, 3, 61, 83).byte(), tmp_path)
    own = with_shapes(openvino.Core().read_model(str(tmp_path / "nodes.onnx")), {"images": (1, 3, 61, 83)})
    sums = [list(node.get_output_shape(0)) for node in own.get_ops() if node.get_type_name() == "Add"]
    assert [1, 3, 33, 83] in sums
    assert [1, 3, 33, 33] in sums
    assert "Slice" not in {node.get_type_name() for node in own.get_ops()}


def test_bicubic_resizing_is_refused(tmp_path: Path) -> None:
    preprocess = Preprocess(fixed_size=(30, 44), divisor=1, interpolation="bicubic", antialias=True)
    both(Model(["a"], preprocess), torch.zeros(1, 3, 50, 60, dtype=torch.uint8), tmp_path)
    with pytest.raises(InputError, match="no antialiased bicubic resizing"):
        replace_antialiased(openvino.Core().read_model(str(tmp_path / "nodes.onnx")))
