"""Class maps as ONNX nodes: the same as those of the segmentation model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sightline.models.keep_size import KeepSize
from sightline.models.preprocess import Preprocess
from sightline.ops.resized_logits import ResizedLogits

ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from sightline.deploy.exporting.class_maps import NEXT, ROWS, _possible, add_class_map, cell_size  # noqa: E402
from sightline.deploy.exporting.nodes import Nodes  # noqa: E402
from sightline.models.creation import create_model  # noqa: E402
from tests.deploy.exporting.test_nodes import session, typed  # noqa: E402

Sizes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def maps_of(
    logits: torch.Tensor, keeps: bool, sizes: Sizes, cell: int, scores: bool, folder: Path
) -> list[torch.Tensor]:
    """What the nodes give for logits [N, K, h, w]; sizes of the batch, the images in it, and the original images."""
    (batch, inner, original), classes = sizes, logits.shape[1]
    nodes = Nodes()
    given = typed(ir.Value(name="logits"), ir.DataType.FLOAT, ["n", classes, "h", "w"])
    images = typed(ir.Value(name="batch"), ir.DataType.FLOAT, ["n", 3, "H", "W"])
    values = [typed(ir.Value(name=name), ir.DataType.INT64, [2]) for name in ("size", "original")]
    preprocess = KeepSize(divisor=32) if keeps else Preprocess(min_size=32)
    maps = add_class_map(nodes, preprocess, given, images, *values, cell, scores)
    for value, name, kind, shape in zip(
        maps,
        ("labels", "scores"),
        (ir.DataType.INT64, ir.DataType.FLOAT),
        (["n", "y", "x"], ["n", classes, "y", "x"]),
        strict=False,
    ):
        value.name = name
        typed(value, kind, shape)
    run = session(nodes, [given, images, *values], maps, folder)
    feed = {"logits": logits, "batch": torch.zeros(len(logits), 3, *batch)}
    feed |= {"size": torch.tensor(inner), "original": torch.tensor(original)}
    names = {value.name for value in run.get_inputs()}
    found = run.run(None, {name: value.numpy() for name, value in feed.items() if name in names})
    return [torch.from_numpy(value) for value in found]


def assert_labels(found: torch.Tensor, truth: ResizedLogits) -> None:
    """Check labels [H, W]; where two classes are equal but for rounding, either may be best."""
    close = truth().topk(2, 0).values.diff(dim=0).abs()[0] < 1e-5
    assert bool(((found == truth.labels()) | close).all())
    assert float(close.float().mean()) < 1e-3


@pytest.mark.parametrize("cell", [1, 2, 8])
@pytest.mark.parametrize("resized", [True, False], ids=["resized", "size kept"])
@pytest.mark.parametrize("scores", [True, False])
def test_class_maps_equal_the_model_s(cell: int, resized: bool, scores: bool, tmp_path: Path) -> None:
    batch, inner = (64, 96), (57, 90)
    original = (71, 113) if resized else inner
    logits = torch.randn(2, 5, batch[0] // cell, batch[1] // cell, generator=torch.Generator().manual_seed(1))
    found = maps_of(logits, not resized, (batch, inner, original), cell, scores, tmp_path)
    assert len(found) == 1 + scores
    for i, own in enumerate(logits):
        truth = ResizedLogits(own, batch, inner, original)
        assert_labels(found[0][i], truth)
        if scores:
            torch.testing.assert_close(found[1][i], truth(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("height", [ROWS - 1, 2 * ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("width", [NEXT, 3 * NEXT + 1])
def test_classes_that_are_best_nowhere_are_left_out(height: int, width: int, tmp_path: Path) -> None:
    batch = (-(-height // 32) * 32, -(-width // 32) * 32)
    logits = torch.randn(1, 9, batch[0] // 16, batch[1] // 16, generator=torch.Generator().manual_seed(2))
    logits[:, [0, 3, 4, 7]] -= 20
    (labels,) = maps_of(logits, True, (batch, (height, width), (height, width)), 16, False, tmp_path)
    assert_labels(labels[0], ResizedLogits(logits[0], batch, (height, width), (height, width)))


def test_without_numbers_there_are_class_ids_still(tmp_path: Path) -> None:
    logits = torch.full((1, 3, 4, 4), float("nan"))
    (labels,) = maps_of(logits, True, ((32, 32), (32, 32), (32, 32)), 8, False, tmp_path)
    assert bool((labels >= 0).all() and (labels < 3).all())


def test_a_class_that_no_cell_prefers_may_be_best_between_them(tmp_path: Path) -> None:
    """In the middle between two cells, class 2 is best; class 3 never is, nor class 4, which is lower everywhere."""
    logits = torch.tensor([[6.0, -6], [-6, 6], [1, 1], [-1, -1], [-9, -9]]).reshape(1, 5, 1, 2)
    nodes = Nodes()
    given = typed(ir.Value(name="logits"), ir.DataType.FLOAT, [1, 5, 1, 2])
    possible = typed(_possible(nodes, given, 2), ir.DataType.INT64, ["p"])
    (found,) = session(nodes, [given], [possible], tmp_path).run(None, {"logits": logits.numpy()})
    best = set(F.interpolate(logits, (8, 32), mode="bilinear").argmax(1).unique().tolist())
    assert best == {0, 1, 2}
    assert best <= set(found.tolist()) <= {0, 1, 2, 3}


def test_the_size_of_cells() -> None:
    model = create_model("lraspp", ["a", "b"], inner=8).eval()
    assert cell_size(model, (64, 96)) == 8
    assert cell_size(create_model("unet_small", ["a", "b"]).eval(), (64, 96)) == 1
