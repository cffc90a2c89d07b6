"""Class maps as ONNX nodes: the same as those of the segmentation model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sightline.models.keep_size import KeepSize
from sightline.models.preprocess import Preprocess
from sightline.ops.resized_logits import ResizedLogits

ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from sightline.deploy.exporting.class_maps import add_class_map, cell_size  # noqa: E402
from sightline.deploy.exporting.nodes import Nodes  # noqa: E402
from sightline.models.creation import create_model  # noqa: E402
from tests.deploy.exporting.test_nodes import session, typed  # noqa: E402


@pytest.mark.parametrize("cell", [1, 2, 8])
@pytest.mark.parametrize("resized", [True, False], ids=["resized", "size kept"])
@pytest.mark.parametrize("scores", [True, False])
def test_class_maps_equal_the_model_s(cell: int, resized: bool, scores: bool, tmp_path: Path) -> None:
    batch, inner = (64, 96), (57, 90)
    original = (71, 113) if resized else inner
    logits = torch.randn(2, 5, batch[0] // cell, batch[1] // cell, generator=torch.Generator().manual_seed(1))
    nodes = Nodes()
    given = typed(ir.Value(name="logits"), ir.DataType.FLOAT, ["n", 5, "h", "w"])
    images = typed(ir.Value(name="batch"), ir.DataType.FLOAT, ["n", 3, "H", "W"])
    sizes = [typed(ir.Value(name=name), ir.DataType.INT64, [2]) for name in ("size", "original")]
    preprocess = Preprocess(min_size=32) if resized else KeepSize(divisor=32)
    maps = add_class_map(nodes, preprocess, given, images, *sizes, cell, scores)
    for value, name, kind, shape in zip(
        maps,
        ("labels", "scores"),
        (ir.DataType.INT64, ir.DataType.FLOAT),
        (["n", "y", "x"], ["n", 5, "y", "x"]),
        strict=False,
    ):
        value.name = name
        typed(value, kind, shape)
    run = session(nodes, [given, images, *sizes], maps, tmp_path)
    feed = {"logits": logits, "batch": torch.zeros(2, 3, *batch)}
    feed |= {"size": torch.tensor(inner), "original": torch.tensor(original)}
    names = {value.name for value in run.get_inputs()}
    found = run.run(None, {name: value.numpy() for name, value in feed.items() if name in names})
    assert len(found) == 1 + scores
    for i, own in enumerate(logits):
        truth = ResizedLogits(own, batch, inner, original)
        wanted = truth()
        close = wanted.topk(2, 0).values.diff(dim=0).abs()[0] < 1e-5  # rounding may decide
        assert bool(((torch.from_numpy(found[0])[i] == truth.labels()) | close).all())
        assert float(close.float().mean()) < 1e-3
        if scores:
            torch.testing.assert_close(torch.from_numpy(found[1])[i], wanted, atol=1e-4, rtol=0)


def test_the_size_of_cells() -> None:
    model = create_model("lraspp", ["a", "b"], inner=8).eval()
    assert cell_size(model, (64, 96)) == 8
    assert cell_size(create_model("unet_small", ["a", "b"]).eval(), (64, 96)) == 1
