"""The best scores of each row: as a function, and as ONNX nodes that search only as many as there are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sightline.deploy.exporting import network
from sightline.deploy.exporting.operators import best_scores

LIMIT, LEAST = 3, 0.25


class _Best(nn.Module):
    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        return best_scores(scores, LIMIT, LEAST)


def by_hand(row: list[float]) -> tuple[list[float], list[int]]:
    above = sorted((-value, place) for place, value in enumerate(row) if value > LEAST)[:LIMIT]
    missing = LIMIT - len(above)
    return [-value for value, _ in above] + [LEAST] * missing, [place for _, place in above] + [0] * missing


CASES = {
    "more than the limit": [[0.9, 0.3, 0.5, 0.7, 0.1], [0.1, 0.2, 0.25, 0.26, 0.0]],
    "fewer": [[0.1, 0.5, 0.2, 0.0], [0.9, 0.0, 0.1, 0.4]],
    "none": [[0.1, 0.25, 0.2, 0.0]],
    "a short row": [[0.9], [0.1]],
}


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
def test_the_best_of_each_row(rows: list[list[float]]) -> None:
    values, places = best_scores(torch.tensor(rows), LIMIT, LEAST)
    for value, place, row in zip(values, places, rows, strict=True):
        own, at = by_hand(row)
        assert value.tolist() == pytest.approx(own)
        assert place.tolist() == at


def test_the_nodes_find_the_same() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    ir = pytest.importorskip("onnx_ir")
    free = ({0: torch.export.Dim("rows", min=1, max=99), 1: torch.export.Dim("length", min=1, max=99)},)
    with torch.no_grad():
        program = torch.export.export(_Best(), (torch.rand(2, 7),), dynamic_shapes=free)
        model = ir.to_proto(network.translated(program, ["scores"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for rows in CASES.values():
        values, places = session.run(None, {"scores": torch.tensor(rows).numpy()})
        own, at = best_scores(torch.tensor(rows), LIMIT, LEAST)
        torch.testing.assert_close(torch.from_numpy(values), own, atol=0, rtol=0)
        assert places.tolist() == at.tolist()
