"""Selection with fixed shapes: the same detections as the selection of the library."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.deploy.exporting import network
from sightline.deploy.exporting.operators import LEAST, MANY, kept_by_nms
from sightline.deploy.exporting.selecting import Selected, selected
from sightline.errors import InputError
from sightline.models.detection.candidates import DenseCandidates, Encoded, Selection, considered, select
from sightline.ops.boxes import decode_boxes
from sightline.ops.matrix_nms import matrix_nms
from sightline.ops.suppression import soft_nms

SIZE = (60, 80)


def candidates(images: int = 2, classes: int = 3, counts: tuple[int, ...] = (30, 12)) -> DenseCandidates:
    """Random boxes that often overlap; some leave the image."""
    generator = torch.Generator().manual_seed(3)
    places = sum(counts)
    corner = torch.rand(images, places, 2, generator=generator) * torch.tensor([80.0, 60.0]) - 5
    sides = torch.rand(images, places, 2, generator=generator) * 30 + 1
    logits = torch.randn(images, places, classes, generator=generator)
    boxes = torch.cat([corner, corner + sides], -1)
    return DenseCandidates(boxes, logits, logits.sigmoid(), boxes[0], counts)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(0.3, 10, "level", nms_iou=0.4, max_detections=8),
        Selection(0.3, 10, "class", nms_iou=0.4, max_detections=8),
        Selection(0.3, 10, "image", nms_iou=0.4, max_detections=100),
        Selection(0.5, None, nms_iou=0.3, max_detections=None),
        Selection(0.5, 500, "image", nms_iou=0.3, min_size=9.0),
        Selection(0.2, 20, "level", nms_iou=0.2, per_class=False, per_level=True),
        Selection(-1.0, nms_iou=None, max_detections=1),
        Selection(2.0, 10, nms_iou=0.5),
    ],
    ids=["level", "class", "image", "no limit", "least side", "within levels", "best alone", "none"],
)
def test_the_same_detections(selection: Selection) -> None:
    found = candidates()
    chosen = selected(found, selection, torch.tensor(SIZE))
    for i, own in enumerate(found.of_images([SIZE] * 2)):
        rows, classes = select(own, selection)
        there = chosen.scores[i] > LEAST
        assert int(there.sum()) == len(rows)
        assert bool(there[: len(rows)].all())  # the places without a detection come last
        assert chosen.places[i, : len(rows)].tolist() == rows.tolist()
        assert chosen.labels[i, : len(rows)].tolist() == classes.tolist()
        torch.testing.assert_close(chosen.boxes[i, : len(rows)], own.boxes_of(rows, classes), atol=0, rtol=0)
        torch.testing.assert_close(chosen.scores[i, : len(rows)], own.scores[rows, classes], atol=0, rtol=0)


@pytest.mark.parametrize("candidates_per", ["level", "class"])
def test_boxes_decoded_after_the_selection_are_the_same(candidates_per: Any) -> None:
    found = candidates()
    selection = Selection(0.3, 10, candidates_per, nms_iou=0.4, max_detections=8)
    anchors = found.origins.clone()
    deltas = torch.randn(2, len(anchors), 4, generator=torch.Generator().manual_seed(4)) / 4
    shapes = []

    def decode(values: Tensor, references: Tensor) -> Tensor:
        shapes.append(tuple(values.shape))
        return decode_boxes(values, references)

    lazy = DenseCandidates.decoded(
        Encoded(deltas, anchors, decode), found.logits, found.scores, found.origins, found.counts
    )
    torch.testing.assert_close(lazy.boxes, decode_boxes(deltas, anchors), atol=0, rtol=0)
    whole = replace(lazy, encoded=None)
    for one, other in zip(
        selected(lazy, selection, torch.tensor(SIZE)), selected(whole, selection, torch.tensor(SIZE)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert shapes == [(2, 42, 4)] + [(2, 20, 4)] * (candidates_per == "level")  # ten of each of two levels


@pytest.mark.parametrize("decay", ["gaussian", "linear"])
def test_matrix_nms_lowers_the_same_scores(decay: Any) -> None:
    found = candidates()
    selection = Selection(0.3, 20, "image", method="matrix_nms", max_detections=15, decay=decay)
    chosen = selected(found, selection, torch.tensor(SIZE))
    for i, own in enumerate(found.of_images([SIZE] * 2)):
        rows, classes = considered(own, selection)
        scores, order = own.scores[rows, classes].sort(descending=True)
        rows, classes = rows[order], classes[order]
        ids, lower = matrix_nms(own.boxes_of(rows, classes), scores, classes, decay, score_threshold=0.3)
        check(chosen, i, rows[ids][:15], classes[ids][:15], lower[:15])
        assert bool((lower < scores[ids]).any())


def test_soft_nms_lowers_the_same_scores() -> None:
    found = candidates()
    selection = Selection(0.2, 20, "image", method="soft_nms", max_detections=12, sigma=0.3)
    chosen = selected(found, selection, torch.tensor(SIZE))
    for i, own in enumerate(found.of_images([SIZE] * 2)):
        rows, classes = considered(own, selection)
        scores = own.scores[rows, classes]
        ids, lower = soft_nms(own.boxes_of(rows, classes), scores, 0.3, 0.2, labels=classes)
        check(chosen, i, rows[ids][:12], classes[ids][:12], lower[:12])
        assert bool((lower < scores[ids]).any())


def check(chosen: Selected, image: int, rows: Tensor, classes: Tensor, scores: Tensor) -> None:
    """The selected places of an image are these, by falling score."""
    count = len(rows)
    assert int((chosen.scores[image] > LEAST).sum()) == count
    assert chosen.places[image, :count].tolist() == rows.tolist()
    assert chosen.labels[image, :count].tolist() == classes.tolist()
    torch.testing.assert_close(chosen.scores[image, :count], scores)


def test_a_method_that_has_no_fixed_shape_is_refused() -> None:
    with pytest.raises(InputError, match="merged from several boxes, which has no exported form"):
        selected(candidates(), replace(Selection(), method="merging"), torch.tensor(SIZE))


def test_places_without_a_box_are_never_kept() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]])
    kept = kept_by_nms(boxes, torch.tensor([[0.9, 0.8, -1.0]]), torch.zeros(1, 3, dtype=torch.int64), 1, 0.5)
    assert kept.tolist() == [[True, False, False]]
    apart = kept_by_nms(boxes, torch.tensor([[0.9, 0.8, -1.0]]), torch.tensor([[0, 1, 0]]), 2, 0.5)
    assert apart.tolist() == [[True, True, False]]


class _Kept(nn.Module):
    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        return kept_by_nms(boxes, scores, groups, self.groups, 0.5)


@pytest.mark.parametrize("groups", [MANY - 1, MANY])
def test_the_nodes_keep_the_same_boxes(groups: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    ir = pytest.importorskip("onnx_ir")
    generator = torch.Generator().manual_seed(5)
    corner = torch.rand(2, 60, 2, generator=generator) * 6
    boxes = torch.cat([corner, corner + 4 + 8 * torch.rand(2, 60, 2, generator=generator)], -1)
    scores = torch.rand(2, 60, generator=generator) - torch.tensor([[0.3], [0.6]])
    scores = torch.where(scores > 0, scores, LEAST)  # more boxes in the first image
    group = torch.randint(0, groups, (2, 60), generator=generator)
    with torch.no_grad():
        program = torch.export.export(_Kept(groups), (boxes, scores, group))
        model = ir.to_proto(network.translated(program, ["boxes", "scores", "groups"]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for own in (scores, torch.full_like(scores, LEAST), scores.flip(0)):
        feed = {"boxes": boxes.numpy(), "scores": own.numpy(), "groups": group.numpy()}
        (found,) = session.run(None, feed)
        wanted = kept_by_nms(boxes, own, group, groups, 0.5)
        assert found.tolist() == wanted.tolist()
        assert int(wanted.sum()) < int((own >= 0).sum()) or float(own.max()) < 0
