"""The best scores of rows and of matrices: as functions, and as ONNX nodes that search only as many as there are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.deploy.exporting import network
from sightline.deploy.exporting.operators import best_entries, best_scores
from sightline.deploy.openvino_resizing import with_shapes

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


def file_of(module: nn.Module, example: Tensor) -> bytes:
    """The module as an ONNX file, for matrices or rows of any number and length."""
    pytest.importorskip("onnxscript")
    ir = pytest.importorskip("onnx_ir")
    free = ({0: torch.export.Dim("number", min=1, max=99), 1: torch.export.Dim("length", min=1, max=99)},)
    with torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=free)
        found: bytes = ir.to_proto(network.translated(program, ["scores"])).SerializeToString()
    return found


def session_of(file: bytes) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def test_the_nodes_find_the_same() -> None:
    session = session_of(file_of(_Best(), torch.rand(2, 7)))
    for rows in CASES.values():
        values, places = session.run(None, {"scores": torch.tensor(rows).numpy()})
        own, at = best_scores(torch.tensor(rows), LIMIT, LEAST)
        torch.testing.assert_close(torch.from_numpy(values), own, atol=0, rtol=0)
        assert places.tolist() == at.tolist()


class _BestEntries(nn.Module):
    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return best_entries(scores, LIMIT, LEAST)


MATRICES = {
    "more than the limit": torch.tensor([[[0.9, 0.3], [0.5, 0.7], [0.1, 0.8]], [[0.1, 0.2], [0.25, 0.26], [0.0, 0.4]]]),
    "in one row": torch.tensor([[[0.1, 0.2], [0.5, 0.9], [0.1, 0.25]]]),
    "none": torch.tensor([[[0.1, 0.25]], [[0.25, 0.0]]]),
    "none in one image": torch.tensor([[[0.1, 0.25], [0.2, 0.0]], [[0.9, 0.3], [0.25, 0.8]]]),
}


@pytest.mark.parametrize("scores", MATRICES.values(), ids=MATRICES)
def test_the_best_of_each_matrix(scores: Tensor) -> None:
    values, rows, columns = best_entries(scores, LIMIT, LEAST)
    for value, row, column, own in zip(values, rows, columns, scores, strict=True):
        best, at = by_hand(own.flatten().tolist())
        assert value.tolist() == pytest.approx(best)
        assert (row * own.shape[1] + column).tolist() == at


def test_the_nodes_find_the_same_of_matrices() -> None:
    file = file_of(_BestEntries(), torch.rand(2, 7, 2))
    session = session_of(file)
    for scores in [*MATRICES.values(), torch.rand(3, 40, 2, generator=torch.Generator().manual_seed(0))]:
        wanted = [value.tolist() for value in best_entries(scores, LIMIT, LEAST)]
        assert [value.tolist() for value in session.run(None, {"scores": scores.numpy()})] == wanted
    openvino = pytest.importorskip("openvino")
    # OpenVINO bounds the shapes of a model for one size, which must not be negative
    own = with_shapes(openvino.Core().read_model(file, b""), {"scores": scores.shape})
    found = openvino.Core().compile_model(own, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([scores.numpy()])
    assert [found[i].tolist() for i in range(3)] == wanted
