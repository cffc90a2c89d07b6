"""Antialiased resizing by OpenVINO: the same images as the model's preprocessing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sightline.errors import InputError
from sightline.models.model import Model
from sightline.models.preprocess import Preprocess

pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
from sightline.deploy.openvino_resizing import replace_antialiased  # noqa: E402
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


def test_bicubic_resizing_is_refused(tmp_path: Path) -> None:
    preprocess = Preprocess(fixed_size=(30, 44), divisor=1, interpolation="bicubic", antialias=True)
    both(Model(["a"], preprocess), torch.zeros(1, 3, 50, 60, dtype=torch.uint8), tmp_path)
    with pytest.raises(InputError, match="no antialiased bicubic resizing"):
        replace_antialiased(openvino.Core().read_model(str(tmp_path / "nodes.onnx")))
