"""Masks pasted by ONNX nodes: the same as the library's own paste."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sightline.ops.mask_grids import paste_grids
from sightline.ops.masks import paste_masks

ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
from sightline.deploy.exporting.nodes import Nodes  # noqa: E402
from sightline.deploy.exporting.pasting import add_pasted_boxes, add_pasted_grids  # noqa: E402
from tests.deploy.exporting.test_nodes import session, typed  # noqa: E402

HEIGHT, WIDTH = 45, 60


def pasted(add: Callable[..., Any], masks: Tensor, boxes: Tensor, folder: Path) -> Tensor:
    values = [ir.Value(name=name) for name in ("masks", "boxes", "original")]
    typed(values[0], ir.DataType.FLOAT, ["n", "d", 7, 7])
    typed(values[1], ir.DataType.FLOAT, ["n", "d", 4])
    typed(values[2], ir.DataType.INT64, [2])
    nodes = Nodes()
    result = typed(nodes.Identity(add(nodes, *values, 7)), ir.DataType.BOOL, ["n", "d", "h", "w"])
    result.name = "pasted"
    given = {"masks": masks.numpy(), "boxes": boxes.numpy(), "original": torch.tensor([HEIGHT, WIDTH]).numpy()}
    return torch.from_numpy(session(nodes, values, [result], folder).run(["pasted"], given)[0])


@pytest.mark.parametrize("on_grids", [False, True], ids=["in boxes", "on grids"])
def test_masks_equal_the_library_s(on_grids: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    low = torch.rand(2, 9, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) - 6  # some leave the image
    boxes = torch.cat([low, low + torch.rand(2, 9, 2, generator=generator) * 40 + 0.5], -1)
    boxes[0, 0], boxes[1, 8] = 0, torch.tensor([3.0, 4, 33, 24])
    values = torch.rand(2, 9, 7, 7, generator=generator)
    values = values * 8 - 4 if on_grids else values
    values[0, 0] = 0  # a place without an object
    found = pasted(add_pasted_grids if on_grids else add_pasted_boxes, values, boxes, tmp_path)
    truth = [
        (paste_grids if on_grids else paste_masks)(v, b, (HEIGHT, WIDTH)) for v, b in zip(values, boxes, strict=True)
    ]
    assert found.shape == (2, 9, HEIGHT, WIDTH)
    assert float((found != torch.stack(truth)).float().mean()) < 1e-4
    assert not bool(found[0, 0].any())
    assert bool(found[1, 8].any())
