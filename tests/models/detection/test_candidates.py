"""The candidates that detections are selected from, for every detector of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.errors import InputError
from sightline.models.creation import create_model
from sightline.models.detection.candidates import Candidates, Selection, select
from sightline.models.detection.detector import Detector
from sightline.models.preprocess import Preprocess
from sightline.ops.boxes import box_iou
from sightline.structures import ImageBatch
from tests.models.test_contract import DETECTORS, build, image

same = partial(torch.testing.assert_close, check_dtype=False)

OF_REGIONS = ("faster", "mask_rcnn", "keypoint", "fast", "r_fcn", "light", "r_cnn", "sliding_window", "grid_sliding")


# one of each kind of head on a small network; the others are slow tests
QUICK = (
    *("faster_rcnn_mobilenet_v2_fpn", "overfeat_mobilenet_v2", "localiser_mobilenet_v2", "sightline_n", "darknet"),
    *("pp_yolo_mobilenet_v2", "yolo_v1_mobilenet_v2", "yolo_9000_mobilenet_v2", "region_proposal_network_mobilenet_v2"),
)


def fast(names: Iterable[str], quick: Iterable[str] = QUICK) -> list[Any]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


EVERY = [*DETECTORS, "region_proposal_network_mobilenet_v2"]


@cache
def detector(name: str) -> Detector:
    """A detector whose scores differ: those of random weights are nearly equal, so that a last bit decides."""
    model = build(name).double()
    assert isinstance(model, Detector)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the mean of all batches, here of one
    with torch.no_grad():
        model.train().process(seen(model), None)
        model.eval()
        for key, value in [*model.named_parameters(), *model.named_buffers()]:
            if re.search(rf"{model.class_layers or '$^'}|cls_logits|^box_weight", key) and value.ndim > 1:
                value.add_(torch.randn_like(value) / value[0].numel() ** 0.5)
    return model


def seen(model: Detector) -> ImageBatch:
    batch, _ = model.prepare([image(90, 120), image(64, 88, seed=3)], None)
    return replace(batch, tensor=batch.tensor.double())


def detections(model: Detector, batch: ImageBatch) -> list[dict[str, Tensor]]:
    found = model.process(batch, None)[0]
    for own in found:
        labels = own.get("labels", torch.ones(len(own["boxes"]), dtype=torch.int64))
        own["classes"] = model._class_of_output[labels]
    return found


@pytest.mark.parametrize("name", fast(EVERY))
def test_every_detection_is_one_candidate(name: str) -> None:
    model = detector(name)
    batch, selection = seen(model), model.selection()
    with torch.inference_mode():
        candidates, found = model.candidates(batch), detections(model, batch)
    if not any(len(own["boxes"]) for own in found):
        assert name not in QUICK
        pytest.skip("these random weights detect nothing")
    for own, result, size in zip(candidates, found, batch.sizes, strict=True):
        check_shapes(own, model, size)
        if selection.method == "nms":
            rows, classes = select(own, selection)
            same(own.boxes_of(rows, classes), result["boxes"].double(), atol=1e-3, rtol=1e-5)
            assert torch.equal(classes, result["classes"])
            torch.testing.assert_close(
                own.scores[rows, classes], result["scores"], atol=1e-5, rtol=1e-5, check_dtype=False
            )
            assert len(set(zip(rows.tolist(), classes.tolist(), strict=True))) == len(rows)
        else:
            check_softened(own, result, selection)


def check_shapes(own: Candidates, model: Detector, size: tuple[int, int]) -> None:
    outputs = 1 if model.task == "proposal" else len(model.classes)
    assert own.logits.shape == own.scores.shape == (len(own), outputs)
    assert own.boxes.shape in [(len(own), 1, 4), (len(own), outputs, 4)]
    assert own.origins.shape == (len(own), 4)
    assert own.levels.shape == (len(own),)
    assert own.levels.dtype == torch.int64
    assert ((own.scores >= 0) & (own.scores <= 1)).all()
    assert (own.boxes >= 0).all()
    assert (own.boxes[..., 2] <= max(size) + 1e-3).all()
    assert (own.origins[:, 2:] > own.origins[:, :2]).all()


def check_softened(own: Candidates, result: dict[str, Tensor], selection: Selection) -> None:
    """Soft and matrix NMS lower the score of a candidate; merging averages boxes."""
    with pytest.raises(InputError, match=rf"selected by {selection.method}"):
        select(own, selection)
    for box, label, score in zip(result["boxes"], result["classes"], result["scores"], strict=True):
        if selection.method == "merging":
            assert box_iou(box[None].double(), own.boxes[:, 0].double()).max() > 0.5
            continue
        here = (own.boxes[:, 0] - box).abs().amax(1) < 1e-3  # several, where boxes are clipped to the image
        assert (own.scores[here, label] >= score - 1e-6).any()


@pytest.mark.parametrize("name", fast(EVERY, ("faster_rcnn_mobilenet_v2_fpn", "sightline_n", "yolo_v1_mobilenet_v2")))
def test_logits_and_boxes_have_gradients(name: str) -> None:
    model = detector(name)
    batch = seen(model)
    pixels = batch.tensor.clone().requires_grad_()
    given = model.candidates(batch)[0] if name.startswith(OF_REGIONS) else None
    regions = [given.origins[:2].detach(), given.origins[:0].detach()] if given is not None else None
    with torch.enable_grad():
        own = model.candidates(replace(batch, tensor=pixels), regions)[0]
    for values in (own.logits, own.boxes):
        if name.startswith(WITHOUT_BOX_GRADIENT) and values is own.boxes:
            continue
        (gradient,) = torch.autograd.grad(values.square().sum(), pixels, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient[0].any()
        assert not gradient[1].any()


# detections are windows; the box head reads detached maps, as in training
WITHOUT_BOX_GRADIENT = ("sliding_window", "overfeat")


@pytest.mark.parametrize("name", fast(n for n in DETECTORS if n.startswith(OF_REGIONS)))
def test_given_regions_are_scored_in_their_order(name: str) -> None:
    model = detector(name)
    batch = seen(model)
    with torch.inference_mode():
        every = model.candidates(batch)
        regions = [own.origins[[3, 1]] for own in every]
        some = model.candidates(batch, regions)
        for own, all_of_them, region in zip(some, every, regions, strict=True):
            assert torch.equal(own.origins, region)
            same(own.logits, all_of_them.logits[[3, 1]])
            same(own.boxes, all_of_them.boxes[[3, 1]])
        with pytest.raises(InputError, match=r"one tensor \[R, 4\] for each of the 2 images"):
            model.candidates(batch, regions[:1])


def test_proposals_of_a_two_stage_detector_are_selected_from_anchors() -> None:
    model: Any = detector("faster_rcnn_mobilenet_v2_fpn")
    batch = seen(model)
    with torch.inference_mode():
        proposals = model.rpn(model.backbone(batch.tensor), batch)[0]
        for own, boxes in zip(model.proposal_candidates(batch), proposals, strict=True):
            rows, classes = select(own, model.proposal_selection())
            same(own.boxes_of(rows, classes), boxes)


def test_columns_are_classes_also_if_the_head_has_unused_outputs() -> None:
    torch.manual_seed(0)
    model = create_model("ssdlite320_mobilenet_v2", ["a", "b"], image_size=96, output_ids=[5, 2]).eval()
    batch, _ = model.prepare([image(64, 80)], None)
    with torch.inference_mode():
        logits = model.network(batch.tensor)[1]
        (own,) = model.candidates(batch)
    assert torch.equal(own.logits, logits[0][:, [5, 2]])
    same(own.scores, logits[0].softmax(-1)[:, [5, 2]])


def test_selection_in_order() -> None:
    """Four boxes: two that overlap, one of low score, one that is narrow."""
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [50, 50, 51, 60.0]])
    scores = torch.tensor([[0.8, 0.1], [0.9, 0.05], [0.5, 0.7], [0.6, 0.0]])
    levels = torch.tensor([0, 1, 1, 1])
    own = Candidates(boxes[:, None], scores.logit(), scores, boxes, levels)

    def pairs(**settings: Any) -> list[tuple[int, int]]:
        rows, classes = select(own, Selection(**settings))
        return list(zip(rows.tolist(), classes.tolist(), strict=True))

    assert pairs(min_score=0.1) == [(1, 0), (2, 1), (3, 0), (2, 0)]
    assert pairs(min_score=0.1, nms_iou=None) == [(1, 0), (0, 0), (2, 1), (3, 0), (2, 0)]
    assert pairs(min_score=0.1, min_size=2.0) == [(1, 0), (2, 1), (2, 0)]
    assert pairs(min_score=0.1, per_class=False) == [(1, 0), (2, 1), (3, 0)]
    assert pairs(min_score=0.1, max_detections=2) == [(1, 0), (2, 1)]
    assert pairs(min_score=0.1, per_level=True, candidates=1) == [(1, 0), (0, 0)]
    assert pairs(min_score=0.1, candidates=2, candidates_per="image") == [(1, 0)]
    assert pairs(min_score=0.1, candidates=1, candidates_per="class") == [(1, 0), (2, 1)]
    assert pairs(min_score=0.95) == []


@pytest.mark.parametrize("output_ids", [None, [2, 3, 4], [4, 1, 3]], ids=["all", "consecutive", "in any order"])
@pytest.mark.parametrize("background", [True, False])
def test_the_outputs_of_the_classes(background: bool, output_ids: list[int] | None) -> None:
    class Own(Detector):
        background_output = background

    detector = Own(["a", "b", "c"], Preprocess(), output_ids)
    outputs = torch.arange(10.0).reshape(2, 5)
    columns = [output - (0 if background else 1) for output in output_ids or [1, 2, 3]]
    assert detector.of_classes(outputs).tolist() == [[float(row * 5 + column) for column in columns] for row in (0, 1)]
